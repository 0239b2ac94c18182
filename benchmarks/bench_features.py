"""Features beside their peers and the same in NumPy: from str to numbers, the numbers asserted equal.

Times are CPU time of the whole process, all threads added up, but for the rows "wall-clock". Both sides write
to fresh memory, in the peer's precision, unless a side says otherwise: "into a buffer" is memory that was
written before, which is how a loop over batches uses `out=`. Peers with a definition of their own are
compared where they agree with ours.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import feature_peers as peers
import numpy as np
import pytest
from feature_peers import Array
from pytest_benchmark.fixture import BenchmarkFixture

from fastgenome import _core, features

pytestmark = pytest.mark.benchmark(timer=time.process_time, min_rounds=5, warmup=False)

Compute = Callable[[list[str]], Any]

MANY = "10,000 × 500 bp"


def measure(benchmark: BenchmarkFixture, group: str, run: Callable[..., Any], *arguments: Any) -> Array:
    benchmark.group = group
    return np.asarray(benchmark(run, *arguments))


PAIRS: dict[str, tuple[Compute, Compute]] = {
    "base counts": (features.base_counts, peers.numpy_base_counts),
    "z-curve summary": (features.zcurve, peers.numpy_summary),
    "GC content": (features.gc_content, peers.numpy_gc_content),
    "cumulative z-curve": (
        lambda batch: features.zcurve(batch, mode="cumulative").values,
        peers.numpy_cumulative,
    ),
    "4-mer frequencies": (
        partial(features.kmer_frequencies, k=4),
        partial(peers.numpy_kmer_frequencies, k=4),
    ),
    "6-mer frequencies": (
        partial(features.kmer_frequencies, k=6),
        partial(peers.numpy_kmer_frequencies, k=6),
    ),
}


@pytest.mark.parametrize("side", ["fastgenome", "NumPy"])
@pytest.mark.parametrize("name", PAIRS)
def test_feature_against_numpy(benchmark, sequences, name, side):
    run, other = PAIRS[name] if side == "fastgenome" else PAIRS[name][::-1]
    values = measure(benchmark, f"{name}, {MANY}", run, sequences)
    np.testing.assert_allclose(values, other(sequences), rtol=1e-12, atol=1e-15)


def zcurvepy(chosen: features.ParameterSet) -> Compute:
    library = pytest.importorskip("ZCurvePy")
    blocks = [{"k": order, "phase": phases, "freq": True} for order, phases in chosen.blocks]
    encoder: Compute = library.BatchZCurveEncoder(hyper_params=blocks, n_jobs=1)
    return encoder


def assert_equals_zcurvepy(chosen: features.ParameterSet, values: Array, sequences: list[str]) -> None:
    """ZCurvePy 1.5.9 has the order A, G, C, T, single precision, and x in place of y for dinucleotides."""
    ordered = features.ParameterSet(chosen.blocks, letters="AGCT")
    ours = features.zcurve_parameters(sequences, parameters=ordered)
    right = [not (name.startswith("y_") and len(name.split("_")[1]) == 1) for name in ordered.names()]
    np.testing.assert_allclose(values[:, right], ours[:, right], atol=1e-6)


@pytest.mark.parametrize("side", ["fastgenome", "fastgenome into a buffer", "NumPy", "ZCurvePy"])
@pytest.mark.parametrize("number", [189, 765])
def test_zcurve_parameters(benchmark, sequences, number, side):
    chosen = features.ParameterSet(features.PARAMETER_SETS[number])
    ours = partial(features.zcurve_parameters, parameters=chosen)
    definition = partial(peers.numpy_parameters, orders=tuple(order for order, _ in chosen.blocks))
    run = {
        "fastgenome": lambda: ours,
        "fastgenome into a buffer": lambda: partial(ours, out=np.zeros((len(sequences), number))),
        "NumPy": lambda: definition,
        "ZCurvePy": lambda: zcurvepy(chosen),
    }[side]()
    values = measure(benchmark, f"z-curve {number}, {MANY}", run, sequences)
    if side == "ZCurvePy":
        assert_equals_zcurvepy(chosen, values, sequences)
    else:
        expected = ours(sequences) if side == "NumPy" else definition(sequences)
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "side", ["fastgenome", "fastgenome as float32", "fastgenome into a buffer", "pykmertools"]
)
def test_canonical_6mers(benchmark, sequences, side):
    peer = pytest.importorskip("pykmertools").OligoComputer(6)
    ours = partial(features.kmer_frequencies, k=6, canonical=True)
    width = len(features.kmer_names(6, canonical=True))
    run = {
        "fastgenome": lambda: ours,
        "fastgenome as float32": lambda: partial(ours, dtype=np.float32),
        "fastgenome into a buffer": lambda: partial(ours, out=np.zeros((len(sequences), width))),
        "pykmertools": lambda: peer.vectorise_batch,
    }[side]()
    values = measure(benchmark, f"canonical 6-mer frequencies, {MANY}", run, sequences)
    expected = ours(sequences) if side == "pykmertools" else np.asarray(peer.vectorise_batch(sequences))
    np.testing.assert_allclose(values, expected, atol=1e-8 if "32" in side else 1e-15)


# Two threads against one: wall-clock time


@pytest.mark.benchmark(timer=time.perf_counter)
@pytest.mark.parametrize("side", ["2 threads", "1 thread"])
@pytest.mark.parametrize("name", ["z-curve 189", "6-mer frequencies"])
def test_threads(benchmark, sequences, name, side):
    ours, width = {
        "z-curve 189": (features.zcurve_parameters, 189),
        "6-mer frequencies": (partial(features.kmer_frequencies, k=6), 4096),
    }[name]
    run = partial(ours, out=np.zeros((len(sequences), width)), threads=int(side[0]))
    values = measure(benchmark, f"{name} by threads, wall-clock, {MANY}", run, sequences)
    np.testing.assert_array_equal(values, ours(sequences, threads=1))


# Sliding windows

WINDOW = 1000


@pytest.mark.parametrize("side", ["stride 1,000", "stride 1"])
def test_sliding(benchmark, long_sequence, side):
    """Counts of the k-mers of the 189 parameters, one counter of each window added up, no row written.

    A window that slides reads a base when it enters and when it leaves. Windows that do not overlap are
    counted anew, which reads each base once; windows of stride 1 read each twice, but for those of the last
    window, which do not leave. So that the times compare by base read, each side gets the text of which it
    reads 2,000,000 bases.
    """
    stride, size = {"stride 1,000": (WINDOW, 2_000_000), "stride 1": (1, 1_000_000 + WINDOW // 2)}[side]
    text = long_sequence[:size]
    rows = _core.ZCurveRows(list(features.PARAMETER_SETS[189]), "phase")
    # The last counter of order 1, whose table comes first: T at the third phase of the text.
    run = partial(rows.sum_windows, text, 11, window=WINDOW, stride=stride)
    found = measure(benchmark, f"sliding z-curve 189, window {WINDOW:,}, 2,000,000 bases read", run)
    is_t = np.frombuffer(text.encode(), np.uint8) == ord("T")
    is_t[np.arange(size) % 3 != 2] = False
    before = np.concatenate([[0], np.cumsum(is_t)])
    starts = np.arange(0, size - WINDOW + 1, stride)
    assert found == (before[starts + WINDOW] - before[starts]).sum()


@pytest.mark.parametrize("side", ["fastgenome", "NumPy"])
@pytest.mark.parametrize("stride", [1, 100])
def test_windows_against_numpy(benchmark, long_sequence, stride, side):
    """The rows of 1,000 windows; NumPy counts each window anew."""
    text = long_sequence[: WINDOW + 999 * stride]
    feature = features.ZCurve("parameters", parameters=189)

    def ours(text: str) -> Array:
        return features.windowed(text, feature, window=WINDOW, stride=stride).values

    def in_numpy(text: str) -> Array:
        starts = range(0, len(text) - WINDOW + 1, stride)
        return peers.numpy_parameters([text[start : start + WINDOW] for start in starts])

    run, other = (ours, in_numpy) if side == "fastgenome" else (in_numpy, ours)
    group = f"z-curve 189, 1,000 windows of {WINDOW:,} bp, stride {stride}"
    values = measure(benchmark, group, run, text)
    np.testing.assert_allclose(values, other(text), rtol=1e-12, atol=1e-15)
