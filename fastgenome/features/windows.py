"""Features of windows that slide over one long sequence.

The counts of a window become those of the next one by what leaves and what enters, so that the cost per base
does not grow with window / stride; writing the rows comes on top of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastgenome import _core
from fastgenome.cleaning import check_threads
from fastgenome.errors import ArgumentError
from fastgenome.features.rows import RowPlan, UnknownPolicy, check_unknown, output, require_dna, require_known
from fastgenome.features.transformers import GCContent

_INVALID = 4  # the column of clean's counts that holds what is not DNA


class RowFeature(Protocol):
    """A feature that the core makes rows of: ZCurve, GCContent and KmerFrequency."""

    unknown: UnknownPolicy

    def row_plan(self) -> RowPlan: ...


class Windows(NamedTuple):
    """Features of the windows [start, start + window) of a sequence.

    Positions count from 0 in the cleaned sequence, which lacks the gaps "-" and "." and white space.
    """

    starts: NDArray[np.int64]  # (windows,)
    values: NDArray[Any]  # (windows, f)


def windowed(
    sequence: str | bytes,
    feature: RowFeature,
    *,
    window: int,
    stride: int | None = None,
    dtype: DTypeLike = np.float64,
    out: NDArray[Any] | None = None,
    threads: int = 0,
) -> Windows:
    """One row of a feature for each window of a sequence, equal to that of the window taken by itself.

    Phases count from the first base of each window. A sequence shorter than the window has no window, and
    what is left behind the last whole window has none either.

    Args:
        sequence: one sequence, such as a chromosome.
        feature: ZCurve (but "cumulative"), GCContent or KmerFrequency; its `unknown` is the policy for N.
        window: length of a window in bases, 1 to 2^31 − 1.
        stride: bases from one start to the next; the window's length unless given.
        dtype, out, threads: see `fastgenome.features`.

    Returns:
        Windows; values (windows, f), columns as the feature's get_feature_names_out says.

    Raises:
        ArgumentError: the window, stride, dtype or `out` does not fit.
        InputError: the sequence is not DNA, or a window holds an N where the feature's `unknown` is "error".
    """
    if not isinstance(sequence, str | bytes):
        raise ArgumentError(f"sequence is {type(sequence).__name__}: expected one str or bytes")
    if not hasattr(feature, "row_plan"):
        raise ArgumentError(f"feature={feature!r}: expected a ZCurve, GCContent or KmerFrequency")
    step = window if stride is None else stride
    if not 1 <= window < 2**31 or step < 1:
        raise ArgumentError(f"window={window}, stride={step}: expected 1 to 2^31 - 1, and at least 1")
    check_unknown(feature.unknown)
    plan = feature.row_plan()
    clean = _cleaned(sequence)
    starts = np.arange(0, max(0, len(clean) - window + 1), step, dtype=np.int64)
    values = output(len(starts), plan.width, dtype=dtype, out=out)
    raw = values if plan.finish is None else np.empty((len(starts), plan.core.width))
    unknown, most = feature.unknown, check_threads(threads)
    if step < window:
        refused = plan.core.fill_windows(
            clean, raw, window=window, stride=step, unknown=unknown, threads=most
        )
    else:
        # Nothing is left of one window in the next, and whole sequences are counted several times as fast.
        apart = tuple(clean[start : start + window] for start in starts.tolist())
        _, refused = plan.core.fill(apart, raw, unknown=unknown, threads=most)
    require_known(refused, "windows")
    if plan.finish is not None:
        values[...] = plan.finish(raw)
    return Windows(starts, values)


def cumulative_skew(sequence: str | bytes, *, window: int, stride: int | None = None) -> Windows:
    """Running sums of the GC and AT skew of windows (Grigoriev 1998): values (windows, 2).

    In bacteria the GC sum is lowest at the origin of replication and highest at its end. Arguments as in
    `windowed`; `disparity_curve` gives the sum of G − C base by base.
    """
    starts, values = windowed(sequence, GCContent(skews=True), window=window, stride=stride)
    return Windows(starts, np.cumsum(values[:, 1:], axis=0))


def _cleaned(sequence: str | bytes) -> str:
    """The cleaned sequence; InputError where it is not DNA."""
    cleaned, counts = _core.clean((sequence,))
    require_dna((sequence,), 0 if counts[0, _INVALID] else -1)
    return cleaned[0]
