"""What all features share: rows of numbers from the C++ core, where they are written, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastgenome import _core
from fastgenome.cleaning import as_batch, check_threads, describe_invalid
from fastgenome.errors import ArgumentError, InputError

#: What becomes of a sequence or window that holds an N: see `fastgenome.features`.
UnknownPolicy = Literal["skip", "nan", "error"]

Batch = tuple[str | bytes, ...]


@dataclass(frozen=True)
class RowPlan:
    """How a feature becomes a row: what the core writes, and what is made of that in NumPy."""

    core: _core.KmerRows | _core.ZCurveRows
    finish: Callable[[NDArray[Any]], NDArray[Any]] | None = None  # (n, core.width) to (n, width)
    finished_width: int = 0

    @property
    def width(self) -> int:
        """Columns of a finished row."""
        return self.finished_width if self.finish else self.core.width


def sequence_rows(
    sequences: Iterable[str | bytes],
    plan: RowPlan,
    *,
    unknown: UnknownPolicy = "skip",
    dtype: DTypeLike = np.float64,
    out: NDArray[Any] | None = None,
    threads: int = 0,
) -> NDArray[Any]:
    """One row per sequence: (n, plan.width).

    Raises:
        ArgumentError: `out`, `dtype` or `unknown` does not fit.
        InputError: a sequence is not DNA, or holds an N where `unknown` is "error".
    """
    batch = as_batch(sequences)
    rows = output(len(batch), plan.width, dtype=dtype, out=out)
    check_unknown(unknown)
    raw = rows if plan.finish is None else np.empty((len(batch), plan.core.width))
    invalid, refused = plan.core.fill(batch, raw, unknown=unknown, threads=check_threads(threads))
    require_dna(batch, invalid)
    require_known(refused, "sequences")
    if plan.finish is not None:
        rows[...] = plan.finish(raw)
    return rows


def output(n: int, width: int, *, dtype: DTypeLike, out: NDArray[Any] | None) -> NDArray[Any]:
    """The caller's array, or a new one: float64 or float32 (n, width)."""
    if out is None:
        chosen = np.dtype(dtype)
        if chosen not in (np.float64, np.float32):
            raise ArgumentError(f"dtype={chosen}: expected float64 or float32")
        return np.empty((n, width), chosen)
    fits = isinstance(out, np.ndarray) and out.shape == (n, width) and out.dtype in (np.float64, np.float32)
    if not fits or not out.flags.c_contiguous or not out.flags.writeable:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ArgumentError(
            f"out is {got}: expected writable, C-contiguous float64 or float32 of shape ({n}, {width})"
        )
    return out


def check_unknown(unknown: str) -> None:
    """Raises ArgumentError for a policy that is none."""
    if unknown not in ("skip", "nan", "error"):
        raise ArgumentError(f"unknown={unknown!r}: expected 'skip', 'nan' or 'error'")


def require_dna(batch: Batch, invalid: int) -> None:
    """Raises InputError where `invalid`, the index of a sequence that is not DNA, is not -1."""
    if invalid >= 0:
        raise InputError(describe_invalid(batch[invalid], invalid))


def require_known(refused: int, of: str) -> None:
    """Raises InputError where `refused`, the index of a sequence or window with an N, is not -1."""
    if refused >= 0:
        raise InputError(f"{of}[{refused}] holds an N; remove it, or choose unknown='skip' or 'nan'")


def divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quotients, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


def kmers(k: int, letters: str = "ACGT") -> list[str]:
    """All k-mers, in the order of the letters."""
    return ["".join(chosen) for chosen in product(letters, repeat=k)]
