"""What of a genome touches any of many regions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fastgenome.regions import Region


def joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sort spans and join those that overlap or meet."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


class LocusIndex:
    """Tells what touches any of some loci, in a time that grows with the logarithm of their number.

    Args:
        loci: in any order; they may overlap.
    """

    def __init__(self, loci: Iterable[Region]) -> None:
        spans: dict[str, list[tuple[int, int]]] = {}
        for contig, start, end in loci:
            spans.setdefault(contig, []).append((start, end))
        # In the order of the loci: contig → starts and ends of its bases, joined.
        self._spans: dict[str, tuple[list[int], list[int]]] = {}
        for contig, found in spans.items():
            starts, ends = zip(*joined(found), strict=True)
            self._spans[contig] = list(starts), list(ends)

    @property
    def contigs(self) -> tuple[str, ...]:
        """Those of the loci, in their order."""
        return tuple(self._spans)

    def touches(self, contig: str, start: int, end: int) -> bool:
        """Whether a stretch of one base or more, 0-based and half-open, has a base in a locus."""
        starts, ends = self._spans.get(contig, ([], []))
        at = bisect_right(ends, start)
        return at < len(ends) and starts[at] < end

    def touched(
        self, contig: str, starts: NDArray[np.integer], ends: NDArray[np.integer]
    ) -> NDArray[np.bool_]:
        """`touches` for many stretches of a contig, each array (n,)."""
        first, last = (np.array(part, np.int64) for part in self._spans.get(contig, ([], [])))
        at = np.searchsorted(last, starts, "right")
        found = at < len(last)
        found[found] = first[at[found]] < ends[found]
        return found
