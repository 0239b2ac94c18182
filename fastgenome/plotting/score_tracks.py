"""Scores as they were read from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastgenome.errors import ArgumentError
from fastgenome.plotting.locus import Extents
from fastgenome.plotting.segments import Floats, Integers, Segments, segments_of
from fastgenome.regions import Region

# Four numbers of 8 bytes each: 640 MB.
_MOST_INTERVALS = 20_000_000


class Intervals(NamedTuple):
    """Scored intervals of a contig; 0-based, half-open, in the order of their starts.

    Attributes:
        reach: (n,) largest end so far, by which those over a locus are found.
    """

    starts: Integers
    ends: Integers
    values: Floats
    reach: Integers


class ScoreTrack(NamedTuple):
    """One score along a genome.

    Attributes:
        name: of the column or the file.
        intervals: contig → what was read of it.
    """

    name: str
    intervals: Mapping[str, Intervals]

    def segments(self, locus: Region) -> Segments:
        """The scores of a locus that was read; none where the file has none."""
        if locus.contig not in self.intervals:
            nothing = np.empty(0, np.int64)
            return Segments(nothing, nothing, np.empty(0))
        starts, ends, values, reach = self.intervals[locus.contig]
        first, last = np.searchsorted(reach, locus.start, "right"), np.searchsorted(starts, locus.end, "left")
        return segments_of(starts[first:last], ends[first:last], values[first:last], locus)


class ScoreFile(NamedTuple):
    """The tracks of a file.

    Attributes:
        lengths, exact: see `Extents`.
    """

    source: str
    tracks: tuple[ScoreTrack, ...]
    lengths: dict[str, int]
    exact: bool

    @property
    def extents(self) -> Extents:
        """How far the file reaches."""
        return Extents(self.source, self.lengths, self.exact)


def intervals_of(starts: Any, ends: Any, scores: Sequence[Any]) -> list[Intervals]:
    """Sorted intervals for each score, all columns (n,) of numbers."""
    starts, ends = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    reach = np.maximum.accumulate(ends)
    return [Intervals(starts, ends, np.asarray(values, np.float64)[order], reach) for values in scores]


def check_total(source: str, total: int) -> None:
    """Refuse more intervals than are held in memory."""
    if total > _MOST_INTERVALS:
        raise ArgumentError(
            f"region: {source} has more than {_MOST_INTERVALS:,} intervals there; choose a smaller region"
        )
