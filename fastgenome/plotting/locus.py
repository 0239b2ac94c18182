"""A region as browsers write it, checked against what a file holds of its contig."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fastgenome.errors import ArgumentError
from fastgenome.regions import Region, parse_region

# The end of a contig whose length is not known yet.
_TO_THE_END = 2**63 - 1


def parse_locus(text: str) -> Region:
    """Read `contig:first-last` as `parse_region` does, or `contig` for all of it.

    All of a contig ends at 2^63 − 1 until `within` knows better.

    Raises:
        ArgumentError: the text names no bases.
    """
    name = text.strip()
    # What ends in digits behind a colon is meant to be a region.
    if not name or re.search(r":[0-9,-]*$", name, re.ASCII):
        return parse_region(text)
    return Region(name, 0, _TO_THE_END)


def within(region: Region, lengths: Mapping[str, int], source: str, *, exact: bool) -> Region:
    """Return the region with its end, checked against the contigs of a file.

    Args:
        region: see `parse_locus`.
        lengths: contig → bases, or the end of what a file without lengths holds of it.
        source: the file, for messages.
        exact: whether `lengths` are those of the contigs; if not, a region may end behind them.

    Raises:
        ArgumentError: there is no such contig, or the region does not lie in it.
    """
    if region.contig not in lengths:
        names = ", ".join(list(lengths)[:10]) + (", …" if len(lengths) > 10 else "")
        raise ArgumentError(
            f"region: {source} has no contig {region.contig!r}; it has {names or 'none at all'}"
        )
    length = lengths[region.contig]
    if region.end == _TO_THE_END:
        return region._replace(end=length)
    if exact and region.end > length:
        raise ArgumentError(f"region {region}: {region.contig} has {length:,} bases in {source}")
    if region.start >= length:
        raise ArgumentError(
            f"region {region}: what {source} holds of {region.contig} ends at base {length:,}"
        )
    return region
