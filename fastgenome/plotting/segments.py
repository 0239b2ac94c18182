"""Scores along a stretch of a contig: without overlaps, in bins, and as the points of a line."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgenome.regions import Region

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


# Pieces of overlapping intervals that are added up at a time.
_PIECES_AT_A_TIME = 1 << 22


class Segments(NamedTuple):
    """Scored intervals, 0-based and half-open, in order and without overlaps; between them nothing is scored.

    Attributes:
        starts, ends: (n,) positions.
        values: (n,) one finite score for all bases of an interval.
        infinite: intervals left out because no axis has a place for their score.
    """

    starts: Integers
    ends: Integers
    values: Floats
    infinite: int = 0

    @property
    def bases(self) -> int:
        """Scored bases."""
        return int((self.ends - self.starts).sum())


class Bins(NamedTuple):
    """Scored bins, 0-based and half-open, in order: mean over the scored bases, lowest and highest score."""

    starts: Integers
    ends: Integers
    means: Floats
    lows: Floats
    highs: Floats


def segments_of(starts: Integers, ends: Integers, values: Floats, locus: Region) -> Segments:
    """Cut intervals at the ends of a locus and sort them.

    A base in several intervals, such as overlapping windows, has their mean. NaN is no score.
    """
    starts, ends = np.maximum(starts, locus.start), np.minimum(ends, locus.end)
    inside = (starts < ends) & ~np.isnan(values)
    finite = inside & np.isfinite(values)
    infinite = int(inside.sum() - finite.sum())
    starts, ends, values = starts[finite], ends[finite], values[finite].astype(np.float64)
    order = np.argsort(starts, kind="stable")
    starts, ends, values = starts[order], ends[order], values[order]
    if np.any(starts[1:] < ends[:-1]):
        starts, ends, values = _flattened(starts, ends, values)
    return Segments(starts, ends, values, infinite)


def _flattened(starts: Integers, ends: Integers, values: Floats) -> tuple[Integers, Integers, Floats]:
    """The mean of the intervals over each base, piece by piece between their ends."""
    edges = np.unique(np.concatenate([starts, ends]))
    first, last = np.searchsorted(edges, starts), np.searchsorted(edges, ends)
    begun = np.bincount(first, minlength=len(edges)) - np.bincount(last, minlength=len(edges))
    cover = np.cumsum(begun)[:-1]
    sums = np.zeros(len(cover))
    reach = np.cumsum(last - first)
    # Each piece adds up its own intervals: in a running sum one large score would swallow all behind it.
    for chunk in np.split(np.arange(len(first)), np.flatnonzero(np.diff(reach // _PIECES_AT_A_TIME)) + 1):
        counts = last[chunk] - first[chunk]
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        pieces = np.repeat(first[chunk], counts) + place
        begin, end = int(pieces.min()), int(pieces.max()) + 1
        sums[begin:end] += np.bincount(pieces - begin, np.repeat(values[chunk], counts), end - begin)
    scored = cover > 0
    return edges[:-1][scored], edges[1:][scored], sums[scored] / cover[scored]


def binned(segments: Segments, locus: Region, count: int) -> Bins:
    """Summarise one score or more in at most `count` bins of nearly equal width; empty bins are left out."""
    starts, ends, values, _ = segments
    edges = np.unique(locus.start + np.arange(count + 1) * (locus.end - locus.start) // count)
    lower, upper = edges[:-1], edges[1:]
    first, last = np.searchsorted(ends, lower, "right"), np.searchsorted(starts, upper, "left")
    scored = first < last
    first, last, lower, upper = first[scored], last[scored], lower[scored], upper[scored]
    # reduceat takes the ranges first:last at every second place; the value behind the last is never used.
    ranges = np.stack([first, last], axis=1).ravel()
    padded, sizes = np.append(values, 0.0), np.append(ends - starts, 0)
    lows, highs = (ufunc.reduceat(padded, ranges)[::2] for ufunc in (np.minimum, np.maximum))
    # Of the first and the last segment of a bin a part may lie outside it.
    before, behind = np.maximum(lower - starts[first], 0), np.maximum(ends[last - 1] - upper, 0)
    covered = np.add.reduceat(sizes, ranges)[::2] - before - behind
    sums = np.add.reduceat(sizes * padded, ranges)[::2]
    means = (sums - before * values[first] - behind * values[last - 1]) / covered
    # Means of differences may leave the range by a rounding.
    return Bins(lower, upper, np.clip(means, lows, highs), lows, highs)


def outline(starts: Integers, ends: Integers, values: Floats) -> tuple[Floats, Floats]:
    """Return the points of a step line whose gaps are NaN: nothing is drawn where nothing is scored.

    Base p, counted from 1, lies between p − ½ and p + ½, so the numbers of an axis stand at their bases.

    Returns:
        x and y, each (2 n + gaps,).
    """
    x = np.stack([starts, ends], axis=1).ravel() + 0.5
    y = np.repeat(values, 2)
    gaps = np.flatnonzero(starts[1:] != ends[:-1])
    return np.insert(x, 2 * gaps + 2, ends[gaps] + 0.5), np.insert(y, 2 * gaps + 2, np.nan)
