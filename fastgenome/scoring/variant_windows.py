"""The windows in which the two alleles of a variant are compared: where they lie, and their letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastgenome.genome import Genome


class Change(NamedTuple):
    """Letters of a contig of a genome, from `start` (0-based) on, that are replaced by others."""

    contig: str
    start: int
    reference: str
    alternative: str


class WindowStarts(NamedTuple):
    """First bases of two windows, 0-based, each in its own contig: as it is, and with the change made."""

    reference: int
    alternative: int


class AlleleWindows(NamedTuple):
    """Letters of windows, in the order of the changes; all of one length."""

    reference: list[str]
    alternative: list[str]


def no_room(reference: int, alternative: int, *, window: int, contig: int) -> str:
    """Why a change cannot be seen in windows of a contig of so many bases; "" where it can.

    Args:
        reference, alternative: bases of the two alleles.
    """
    if max(reference, alternative) > window:
        return "allele_too_long"
    if min(contig, contig - reference + alternative) < window:
        return "contig_too_short"
    return ""


def window_starts(start: int, reference: int, alternative: int, *, window: int, contig: int) -> WindowStarts:
    """Where the windows of a change lie for which there is room (see `no_room`).

    Both windows have `window` bases and the same bases before the alleles; behind them comes the contig, up
    to `window` in all. The longer allele stands in the middle, with one base less before it than behind it
    where they differ. At either end of the contig both windows are shifted inward, together, until each lies
    within its own. Only where the longer allele would be cut off then, near the end of the contig, its window
    alone lies further on, by as much as holds it.

    Args:
        start: the first base of the alleles, 0-based.
        reference, alternative: their bases.
        contig: bases of the contig.
    """
    shorter = contig + min(0, alternative - reference)
    centred = start - (window - max(reference, alternative)) // 2
    common = min(max(centred, 0), shorter - window)
    return WindowStarts(max(common, start + reference - window), max(common, start + alternative - window))


def fetch_windows(genome: Genome, changes: Sequence[Change], window: int) -> AlleleWindows:
    """Return the letters of both windows of changes for which there is room; see `window_starts`."""
    lengths = dict(zip(genome.names, genome.lengths.tolist(), strict=True))
    starts, regions = [], []
    for change in changes:
        before, after = len(change.reference), len(change.alternative)
        placed = window_starts(change.start, before, after, window=window, contig=lengths[change.contig])
        # Of a deletion the window takes more of the contig than there is in it.
        end = max(placed) + window + max(0, before - after)
        starts.append(placed)
        regions.append((change.contig, min(placed), min(end, lengths[change.contig])))
    result = AlleleWindows([], [])
    found = genome.fetch_many(regions, threads=1)
    for change, placed, letters in zip(changes, starts, found, strict=True):
        stretch = letters.upper()
        allele = change.start - min(placed)
        changed = stretch[:allele] + change.alternative.upper() + stretch[allele + len(change.reference) :]
        first, second = placed.reference - min(placed), placed.alternative - min(placed)
        result.reference.append(stretch[first : first + window])
        result.alternative.append(changed[second : second + window])
    return result
