"""Base counts, GC content and skews."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgenome import _core
from fastgenome.cleaning import as_batch, check_threads
from fastgenome.errors import ArgumentError
from fastgenome.features.rows import (
    UnknownPolicy,
    check_unknown,
    divide,
    require_dna,
    require_known,
)


def base_counts(
    sequences: Iterable[str | bytes], *, out: NDArray[np.int64] | None = None, threads: int = 0
) -> NDArray[np.int64]:
    """Counts of A, C, G and T in each sequence: (n, 4).

    Args:
        sequences: n sequences.
        out: C-contiguous int64 (n, 4) to write to.
        threads: 0 for as many as the work deserves.
    """
    return _counts_and_lengths(as_batch(sequences), out, check_threads(threads))[0]


def gc_content(sequences: Iterable[str | bytes], *, unknown: UnknownPolicy = "skip") -> NDArray[np.float64]:
    """Fraction (0 to 1) of G and C among the bases of each sequence: (n,)."""
    return gc_content_of(float_counts(sequences, unknown))


def gc_skew(sequences: Iterable[str | bytes], *, unknown: UnknownPolicy = "skip") -> NDArray[np.float64]:
    """(G − C) / (G + C) of each sequence, −1 to 1 (Lobry 1996): (n,)."""
    return gc_skew_of(float_counts(sequences, unknown))


def at_skew(sequences: Iterable[str | bytes], *, unknown: UnknownPolicy = "skip") -> NDArray[np.float64]:
    """(A − T) / (A + T) of each sequence, −1 to 1 (Lobry 1996): (n,)."""
    return at_skew_of(float_counts(sequences, unknown))


def float_counts(sequences: Iterable[str | bytes], unknown: UnknownPolicy) -> NDArray[np.float64]:
    """Counts of A, C, G, T as float64 (n, 4), under a policy for N."""
    check_unknown(unknown)
    integers, lengths = _counts_and_lengths(as_batch(sequences), None, 0)
    counts = integers.astype(np.float64)
    if unknown != "skip":
        holds_unknown = integers.sum(axis=1) < lengths
        if unknown == "error" and holds_unknown.any():
            require_known(int(holds_unknown.argmax()), "sequences")
        counts[holds_unknown] = np.nan
    return counts


def gc_content_of(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """GC content from counts (n, 4): (n,)."""
    a, c, g, t = counts.T
    return divide(g + c, a + c + g + t)


def gc_skew_of(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """GC skew from counts (n, 4): (n,)."""
    _, c, g, _ = counts.T
    return divide(g - c, g + c)


def at_skew_of(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """AT skew from counts (n, 4): (n,)."""
    a, _, _, t = counts.T
    return divide(a - t, a + t)


@lru_cache(maxsize=1)
def base_count_rows() -> _core.KmerRows:
    """Counts of A, C, G, T as the core's rows, for windows."""
    return _core.KmerRows(1, np.arange(4, dtype=np.uint16), 4, False)


def _counts_and_lengths(
    batch: tuple[str | bytes, ...], out: NDArray[Any] | None, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    counts = np.empty((len(batch), 4), np.int64) if out is None else out
    fits = isinstance(counts, np.ndarray) and counts.shape == (len(batch), 4) and counts.dtype == np.int64
    if not fits or not counts.flags.c_contiguous or not counts.flags.writeable:
        raise ArgumentError(f"out: expected writable, C-contiguous int64 of shape ({len(batch)}, 4)")
    lengths, invalid = _core.base_counts(batch, counts, threads)
    require_dna(batch, invalid)
    return counts, lengths
