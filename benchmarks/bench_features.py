"""Features against the same computed with NumPy on whole matrices: from str to numbers, asserted equal."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from fastgenome import features

Array = NDArray[np.float64]

# Rows x, y, z; columns A, C, G, T.
SIGNS = np.array([[1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])


def measure(benchmark: BenchmarkFixture, group: str, run: Callable[[], Array]) -> Array:
    benchmark.group = f"{group}, 1,000 × 500 bp"
    return benchmark(run)


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


def numpy_summary(sequences: list[str]) -> Array:
    return (numpy_kmer_counts(digits(sequences), 1) @ SIGNS.T).astype(np.float64)


def numpy_gc_content(sequences: list[str]) -> Array:
    bases = digits(sequences)
    return ((bases == 1) | (bases == 2)).mean(axis=1)


def numpy_cumulative(sequences: list[str]) -> NDArray[np.int32]:
    steps = SIGNS.T[digits(sequences)]
    return np.cumsum(steps, axis=1).reshape(-1, 3)


def numpy_parameters(sequences: list[str]) -> Array:
    bases = digits(sequences)
    parts = []
    for order in (1, 2, 3):
        for phase in range(3):
            counts = numpy_kmer_counts(bases, order, phase, 3)
            frequencies = counts / counts.sum(axis=1, keepdims=True)
            parts.append((frequencies.reshape(len(bases), -1, 4) @ SIGNS.T).reshape(len(bases), -1))
    return np.hstack(parts)


def numpy_kmer_frequencies(sequences: list[str], k: int) -> Array:
    counts = numpy_kmer_counts(digits(sequences), k)
    return counts / counts.sum(axis=1, keepdims=True)


PAIRS = {
    "z-curve summary": (features.zcurve, numpy_summary),
    "GC content": (features.gc_content, numpy_gc_content),
    "cumulative z-curve": (lambda batch: features.zcurve(batch, mode="cumulative").values, numpy_cumulative),
    "z-curve 189": (features.zcurve_parameters, numpy_parameters),
    "4-mer frequencies": (
        lambda batch: features.kmer_frequencies(batch, 4),
        lambda batch: numpy_kmer_frequencies(batch, 4),
    ),
    "6-mer frequencies": (
        lambda batch: features.kmer_frequencies(batch, 6),
        lambda batch: numpy_kmer_frequencies(batch, 6),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("side", [0, 1], ids=["fastgenome", "numpy"])
def test_feature(benchmark, sequences, name, side):
    ours, peer = PAIRS[name]
    values = measure(benchmark, name, lambda: PAIRS[name][side](sequences))
    np.testing.assert_allclose(values, (peer if side == 0 else ours)(sequences), rtol=1e-12, atol=1e-15)
