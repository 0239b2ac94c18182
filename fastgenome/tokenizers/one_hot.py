"""One-hot encoding: a row of four numbers for each base."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastgenome import _core
from fastgenome.cleaning import as_batch, check_threads, describe_invalid
from fastgenome.errors import ArgumentError, InputError


class OneHot(NamedTuple):
    """Rows of many sequences, one behind the other.

    Sequence i has the rows `values[offsets[i]:offsets[i + 1]]`.
    """

    values: NDArray[Any]  # (total, 4)
    offsets: NDArray[np.int64]  # (n + 1,)


def one_hot(
    sequences: Iterable[str | bytes],
    *,
    letters: str = "ACGT",
    dtype: DTypeLike = np.float32,
    clean: bool = True,
    out: NDArray[Any] | None = None,
    threads: int = 0,
) -> OneHot:
    """A row for each base: 1 in the column of its letter, 0 in the others; a row of zeros for N.

    Args:
        sequences: n sequences.
        letters: A, C, G and T in the order of the columns.
        dtype: of the values; uint8 takes no conversion.
        clean: whether to clean sequences first, as tokenizers do; without it every character but the four
            letters in upper case is a row of zeros.
        out: array (size, 4) to write the rows to, in place of a new one; its dtype counts.
        threads: most threads to use; 0 for as many as the work deserves.

    Returns:
        The rows of all sequences, (total, 4), the beginning of `out` if given, and where each one's begin.

    Raises:
        InputError: with `clean`, a sequence is not DNA.
        ArgumentError: `letters` are not A, C, G and T, `sequences` is one str, or `out` is too small.
    """
    if sorted(letters) != ["A", "C", "G", "T"]:
        raise ArgumentError(f"letters={letters!r}: expected A, C, G and T in some order")
    batch = as_batch(sequences)
    # A row of four bytes is one word, so that the core can look it up as it does an id.
    rows = np.zeros((256, 4), np.uint8)
    rows[np.frombuffer(letters.encode(), np.uint8), np.arange(4)] = 1
    encoder = _core.Characters(ids=rows.view(np.int32).ravel(), literals={})
    words, offsets, invalid = encoder.encode(
        batch, prefix=[], suffix=[], clean=clean, threads=check_threads(threads)
    )
    if invalid >= 0:
        raise InputError(describe_invalid(batch[invalid], invalid))
    values = words.view(np.uint8).reshape(-1, 4)
    if out is None:
        return OneHot(values.astype(dtype, copy=False), offsets)
    if out.ndim != 2 or out.shape[1] != 4 or len(out) < len(values):
        raise ArgumentError(f"out has the shape {out.shape}, needed are {len(values)} rows of 4")
    out[: len(values)] = values
    return OneHot(out[: len(values)], offsets)
