"""Features against their peers and the same in NumPy: from str to numbers, asserted equal, in one group each.

Peers with a definition of their own are compared where they agree with ours. Both sides of a pair may write
to fresh memory; the rows "into a buffer" are written to memory that was written before, which is how a loop
over batches uses `out=`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from conftest import random_dna
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from fastgenome import _core, features

Array = NDArray[Any]

# Rows x, y, z; columns A, C, G, T.
SIGNS = np.array([[1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])


@pytest.fixture(scope="session")
def many_sequences() -> list[str]:
    """10,000 random sequences of 500 bp."""
    return random_dna(10_000, 500)


def digits(sequences: list[str]) -> NDArray[np.int64]:
    """Bases as 0 to 3 in the order A, C, G, T: (n, length). All peers' sequences have one length and no N."""
    table = np.zeros(256, np.int64)
    table[np.frombuffer(b"ACGT", np.uint8)] = range(4)
    return table[np.frombuffer("".join(sequences).encode(), np.uint8).reshape(len(sequences), -1)]


def numpy_kmer_counts(bases: NDArray[np.int64], k: int, phase: int = 0, phases: int = 1) -> NDArray[np.int64]:
    """Counts of the k-mers that begin at one phase: (n, 4^k)."""
    width = bases.shape[1] - k + 1
    codes = bases[:, phase:width:phases].copy()
    for offset in range(1, k):
        codes = codes * 4 + bases[:, offset + phase : offset + width : phases]
    codes += np.arange(len(bases))[:, None] * 4**k
    return np.bincount(codes.ravel(), minlength=len(bases) * 4**k).reshape(len(bases), -1)


def numpy_base_counts(sequences: list[str]) -> Array:
    letters = np.frombuffer("".join(sequences).encode(), np.uint8).reshape(len(sequences), -1)
    return np.stack([(letters == ord(base)).sum(axis=1) for base in "ACGT"], axis=1)


def numpy_summary(sequences: list[str]) -> Array:
    return (numpy_kmer_counts(digits(sequences), 1) @ SIGNS.T).astype(np.float64)


def numpy_gc_content(sequences: list[str]) -> Array:
    bases = digits(sequences)
    return ((bases == 1) | (bases == 2)).mean(axis=1)


def numpy_cumulative(sequences: list[str]) -> Array:
    steps = SIGNS.T[digits(sequences)]
    return np.cumsum(steps, axis=1).reshape(-1, 3)


def numpy_parameters(sequences: list[str], orders: tuple[int, ...] = (1, 2, 3)) -> Array:
    bases = digits(sequences)
    parts = []
    for order in orders:
        for phase in range(3):
            counts = numpy_kmer_counts(bases, order, phase, 3)
            frequencies = counts / counts.sum(axis=1, keepdims=True)
            parts.append((frequencies.reshape(len(bases), -1, 4) @ SIGNS.T).reshape(len(bases), -1))
    return np.hstack(parts)


def numpy_kmer_frequencies(sequences: list[str], k: int) -> Array:
    counts = numpy_kmer_counts(digits(sequences), k)
    return counts / counts.sum(axis=1, keepdims=True)


PAIRS: dict[str, tuple[Callable[[list[str]], Array], Callable[[list[str]], Array]]] = {
    "base counts": (features.base_counts, numpy_base_counts),
    "z-curve summary": (features.zcurve, numpy_summary),
    "GC content": (features.gc_content, numpy_gc_content),
    "cumulative z-curve": (lambda batch: features.zcurve(batch, mode="cumulative").values, numpy_cumulative),
    "z-curve 189": (features.zcurve_parameters, numpy_parameters),
    "z-curve 765": (
        partial(features.zcurve_parameters, parameters=765),
        partial(numpy_parameters, orders=(1, 2, 3, 4)),
    ),
    "4-mer frequencies": (partial(features.kmer_frequencies, k=4), partial(numpy_kmer_frequencies, k=4)),
    "6-mer frequencies": (partial(features.kmer_frequencies, k=6), partial(numpy_kmer_frequencies, k=6)),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("side", [0, 1], ids=["fastgenome", "numpy"])
def test_feature_against_numpy(benchmark, many_sequences, name, side):
    ours, peer = PAIRS[name]
    values = measure(benchmark, name, lambda: PAIRS[name][side](many_sequences))
    np.testing.assert_allclose(values, (peer if side == 0 else ours)(many_sequences), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("side", ["fastgenome", "fastgenome into a buffer", "ZCurvePy"])
@pytest.mark.parametrize("number", [189, 765])
def test_zcurve_against_zcurvepy(benchmark, many_sequences, number, side):
    zcurvepy = pytest.importorskip("ZCurvePy")
    chosen = features.ParameterSet(features.PARAMETER_SETS[number])
    blocks = [{"k": order, "phase": phases, "freq": True} for order, phases in chosen.blocks]
    peer = zcurvepy.BatchZCurveEncoder(hyper_params=blocks, n_jobs=1)
    buffer = np.empty((len(many_sequences), number))
    runs = {
        "fastgenome": lambda: features.zcurve_parameters(many_sequences, parameters=chosen),
        "fastgenome into a buffer": lambda: features.zcurve_parameters(
            many_sequences, parameters=chosen, out=buffer
        ),
        "ZCurvePy": lambda: np.asarray(peer(many_sequences)),
    }
    values = measure(benchmark, f"z-curve {number}, ZCurvePy", runs[side])
    # ZCurvePy 1.5.9 has the order A, G, C, T, single precision, and x in place of y for dinucleotides.
    ordered = features.ParameterSet(chosen.blocks, letters="AGCT")
    ours = features.zcurve_parameters(many_sequences[:500], parameters=ordered)
    theirs = values[:500] if side == "ZCurvePy" else np.asarray(peer(many_sequences[:500]))
    wrong = [name.startswith("y_") and len(name.split("_")[1]) == 1 for name in ordered.names()]
    np.testing.assert_allclose(ours[:, ~np.array(wrong)], theirs[:, ~np.array(wrong)], atol=1e-6)
    if side != "ZCurvePy":
        expected = numpy_parameters(many_sequences[:500], tuple(order for order, _ in chosen.blocks))
        np.testing.assert_allclose(values[:500], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "side", ["fastgenome", "fastgenome into a buffer", "fastgenome into a buffer, float32", "pykmertools"]
)
def test_canonical_6mers_against_pykmertools(benchmark, many_sequences, side):
    pykmertools = pytest.importorskip("pykmertools")
    peer = pykmertools.OligoComputer(6)
    run = partial(features.kmer_frequencies, many_sequences, 6, canonical=True)
    shape = (len(many_sequences), len(features.kmer_names(6, canonical=True)))
    buffer = np.empty(shape, np.float32 if "float32" in side else np.float64)
    runs = {
        "fastgenome": run,
        "fastgenome into a buffer": partial(run, out=buffer),
        "fastgenome into a buffer, float32": partial(run, out=buffer),
        "pykmertools": lambda: peer.vectorise_batch(many_sequences),
    }
    values = measure(benchmark, "canonical 6-mer frequencies, pykmertools", runs[side])
    np.testing.assert_allclose(
        np.asarray(values[:500]),
        peer.vectorise_batch(many_sequences[:500]),
        atol=1e-15 if "32" not in side else 1e-8,
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["z-curve 189", "6-mers"])
def test_threads(benchmark, many_sequences, name, threads):
    """To be read by wall time: processor time is that of all threads together."""
    if name == "6-mers":
        run: Any = partial(features.kmer_frequencies, k=6)
        buffer = np.empty((len(many_sequences), 4096))
    else:
        run = features.zcurve_parameters
        buffer = np.empty((len(many_sequences), 189))
    values = measure(benchmark, f"{name}, threads", partial(run, many_sequences, out=buffer, threads=threads))
    np.testing.assert_array_equal(values, run(many_sequences, threads=1))


CHROMOSOME = 1_000_000
WINDOW = 1000


@pytest.mark.parametrize("stride", [1, 10, 100, WINDOW])
def test_sliding_alone(benchmark, stride):
    """Counts of the 189 parameters' k-mers in sliding windows, each window read by a sum, no row written."""
    (chromosome,) = random_dna(1, CHROMOSOME, seed=4)
    rows = _core.ZCurveRows(list(features.PARAMETER_SETS[189]), "phase")
    benchmark.group = f"z-curve 189, window {WINDOW:,}, no rows written, {CHROMOSOME:,} bp"
    # The last counter of order 1, whose table comes first: T at the third phase of the chromosome.
    found = benchmark(rows.sum_windows, chromosome, 11, window=WINDOW, stride=stride)
    is_t = np.frombuffer(chromosome.encode(), np.uint8) == ord("T")
    is_t[np.arange(CHROMOSOME) % 3 != 2] = False
    before = np.concatenate([[0], np.cumsum(is_t)])
    starts = np.arange(0, CHROMOSOME - WINDOW + 1, stride)
    assert found == (before[starts + WINDOW] - before[starts]).sum()


@pytest.mark.parametrize("stride", [1, 10, 100, WINDOW])
def test_rolling_rows(benchmark, stride):
    """The same with rows written, 189 numbers for each window."""
    (chromosome,) = random_dna(1, CHROMOSOME // 10, seed=4)
    feature = features.ZCurve("parameters", parameters=189)
    starts, expected = features.windowed(chromosome, feature, window=WINDOW, stride=stride, dtype=np.float32)
    buffer = np.empty_like(expected)
    run = partial(features.windowed, chromosome, feature, window=WINDOW, stride=stride, out=buffer, threads=1)
    benchmark.group = f"z-curve 189, window {WINDOW:,}, rows written, {CHROMOSOME // 10:,} bp"
    values = benchmark(run).values
    chosen = slice(None, None, max(1, len(starts) // 50))
    parts = [chromosome[start : start + WINDOW] for start in starts[chosen]]
    np.testing.assert_allclose(values[chosen], numpy_parameters(parts), rtol=1e-6, atol=1e-7)


def measure(benchmark: BenchmarkFixture, group: str, run: Callable[[], Array]) -> Array:
    benchmark.group = f"{group}, 10,000 × 500 bp"
    return benchmark(run)
