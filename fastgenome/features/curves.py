"""Curves along sequences: the z-curve, disparity curves and the CpG profile, as they are or without trend.

A curve has one point after each base (the CpG profile one after each pair of bases). An N leaves a curve
where it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgenome import _core
from fastgenome.cleaning import as_batch, check_threads
from fastgenome.errors import ArgumentError
from fastgenome.features.rows import Batch, require_dna

#: RY, MK and WS are the z-curve's x, y and z.
CurveKind = Literal["RY", "MK", "WS", "AT", "GC", "CpG"]

# What each of A, C, G, T adds to a curve.
_STEPS = {
    "RY": (1, -1, 1, -1),
    "MK": (1, 1, -1, -1),
    "WS": (1, -1, -1, 1),
    "AT": (1, 0, 0, -1),
    "GC": (0, -1, 1, 0),
}


class Curves(NamedTuple):
    """The z-curves of many sequences, one behind the other.

    Sequence i has the rows `values[offsets[i]:offsets[i + 1]]`; row n−1 of it holds x, y and z after n bases.
    """

    values: NDArray[np.int32]  # (total, 3)
    offsets: NDArray[np.int64]  # (n + 1,)


class Profiles(NamedTuple):
    """One curve of each of many sequences, one behind the other.

    Sequence i has the points `values[offsets[i]:offsets[i + 1]]`, in bases; the point n−1 of it stands after
    n steps. `slopes` holds the k that was subtracted as k · n, 0 where none was.
    """

    values: NDArray[Any]  # (total,), int32, without trend float64
    offsets: NDArray[np.int64]  # (n + 1,)
    slopes: NDArray[np.float64]  # (n,)


def cumulative_zcurve(
    sequences: Iterable[str | bytes], *, out: NDArray[np.int32] | None = None, threads: int = 0
) -> Curves:
    """The z-curve x_n, y_n, z_n after each base (Zhang & Zhang 1994).

    Args:
        sequences: n sequences of less than 2^31 bases.
        out: C-contiguous int32 of one row of 3 per base to write to.
        threads: 0 for as many as the work deserves.
    """
    batch = as_batch(sequences)
    offsets = _offsets(batch, 0, check_threads(threads))
    values = _points(int(offsets[-1]), 3, out)
    _core.zcurve_curves(batch, offsets, values, threads)
    return Curves(values, offsets)


def disparity_curve(
    sequences: Iterable[str | bytes],
    kind: CurveKind,
    *,
    detrend: Literal["fit", "ends"] | None = None,
    threads: int = 0,
) -> Profiles:
    """Disparity curves, z'-like curves and the CpG profile.

    Args:
        sequences: n sequences of less than 2^31 bases.
        kind: "RY", "MK", "WS", purine − pyrimidine, amino − keto, weak − strong bases among the first n;
            "AT", A − T; "GC", G − C, which is also called cumulative skew (Grigoriev 1998); "CpG", CpG −
            other dinucleotides among the first n, one point less than bases.
        detrend: subtract k · n: "fit", k of the straight line of least squares, as in the z' curve that shows
            isochores and islands (Zhang, Wang & Zhang 2001; Zhang & Zhang 2014) and in the CpG profile;
            "ends", k of the line from the origin to the last point, so that the curve of a circular genome
            closes. ZCurvePy's primed curves are "fit" with n from 0: they lie k higher.
        threads: 0 for as many as the work deserves.

    Returns:
        Profiles; values int32, with `detrend` float64.

    Raises:
        ArgumentError: an unknown kind or detrend.
        InputError: a sequence is not DNA.
    """
    if kind not in (*_STEPS, "CpG"):
        raise ArgumentError(f"kind={kind!r}: expected {', '.join(_STEPS)} or CpG")
    if detrend not in (None, "fit", "ends"):
        raise ArgumentError(f"detrend={detrend!r}: expected 'fit', 'ends' or None")
    batch = as_batch(sequences)
    offsets = _offsets(batch, 1 if kind == "CpG" else 0, check_threads(threads))
    points = _points(int(offsets[-1]), 1, None)
    if kind == "CpG":
        _core.cpg_curves(batch, offsets, points, threads)
    else:
        _core.step_curves(batch, offsets, list(_STEPS[kind]), points, threads)
    if detrend is None:
        return Profiles(points[:, 0], offsets, np.zeros(len(batch)))
    values = np.empty(points.shape)
    slopes = _core.subtract_trends(points, offsets, detrend, values)
    return Profiles(values[:, 0], offsets, slopes)


def _offsets(batch: Batch, shorter: int, threads: int) -> NDArray[np.int64]:
    """Where each curve begins, for cleaned sequences."""
    try:
        offsets, invalid = _core.curve_offsets(batch, shorter, threads)
    except ValueError as error:
        raise ArgumentError(f"sequences: {error}; cut it into parts") from None
    require_dna(batch, invalid)
    return offsets


def _points(total: int, width: int, out: NDArray[np.int32] | None) -> NDArray[np.int32]:
    """The caller's array, or a new one."""
    if out is None:
        return np.empty((total, width), np.int32)
    fits = isinstance(out, np.ndarray) and out.shape == (total, width) and out.dtype == np.int32
    if not fits or not out.flags.c_contiguous or not out.flags.writeable:
        raise ArgumentError(f"out: expected writable, C-contiguous int32 of shape ({total}, {width})")
    return out
