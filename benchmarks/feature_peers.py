"""What the features are measured against: the same in NumPy, from str to numbers.

All functions take sequences of one length, of A, C, G and T alone.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Rows x, y, z; columns A, C, G, T.
SIGNS = np.array([[1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])


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
