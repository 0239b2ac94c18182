"""Counts and frequencies of overlapping k-mers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastgenome import _core
from fastgenome.errors import ArgumentError
from fastgenome.features.rows import RowPlan, UnknownPolicy, kmers, sequence_rows

_COMPLEMENT = str.maketrans("ACGT", "TGCA")


def kmer_frequencies(
    sequences: Iterable[str | bytes],
    k: int,
    *,
    canonical: bool = False,
    counts: bool = False,
    unknown: UnknownPolicy = "skip",
    dtype: DTypeLike = np.float64,
    out: NDArray[Any] | None = None,
    threads: int = 0,
) -> NDArray[Any]:
    """Frequencies of overlapping k-mers.

    Args:
        sequences: n sequences.
        k: 1 to 8.
        canonical: count a k-mer and its reverse complement as one, so that both strands give the same row
            (pykmertools' OligoComputer gives these columns in this order).
        counts: give counts and not frequencies.
        unknown, dtype, out, threads: see `fastgenome.features`.

    Returns:
        (n, f) in the order of `kmer_names`; f = 4^k, or about half of it with `canonical`. A row of
        frequencies adds up to 1, or to 0 where the sequence has no k-mer.
    """
    plan = kmer_plan(k, canonical=canonical, counts=counts)
    return sequence_rows(sequences, plan, unknown=unknown, dtype=dtype, out=out, threads=threads)


def kmer_names(k: int, *, canonical: bool = False) -> list[str]:
    """Column names of `kmer_frequencies`: k-mers in alphabetical order.

    With `canonical`, of each pair of reverse complements the one that comes first.
    """
    if not 1 <= k <= 8:
        raise ArgumentError(f"k={k!r}: expected 1 to 8")
    return [kmer for kmer in kmers(k) if not canonical or kmer == _canonical(kmer)]


@lru_cache(maxsize=32)
def kmer_plan(k: int, *, canonical: bool, counts: bool) -> RowPlan:
    """The rows of `kmer_frequencies`."""
    names = kmer_names(k, canonical=canonical)
    column = {name: number for number, name in enumerate(names)}
    columns = [column[_canonical(kmer) if canonical else kmer] for kmer in kmers(k)]
    return RowPlan(_core.KmerRows(k, np.array(columns, np.uint16), len(names), not counts))


def _canonical(kmer: str) -> str:
    """The first in alphabetical order of a k-mer and its reverse complement."""
    return min(kmer, kmer.translate(_COMPLEMENT)[::-1])
