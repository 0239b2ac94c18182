"""Regions as browsers write them, checked against what files hold of their contigs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fastgenome.errors import ArgumentError
from fastgenome.regions import Region, parse_region

# The end of a contig whose length is not known yet.
_TO_THE_END = 2**63 - 1


class Extents(NamedTuple):
    """How far a file reaches.

    Attributes:
        source: the file, for messages.
        lengths: contig → bases, or the end of what a file without lengths holds of it.
        exact: whether `lengths` are those of the contigs; if not, a region may end behind them.
    """

    source: str
    lengths: Mapping[str, int]
    exact: bool


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


def within(region: Region, files: Sequence[Extents]) -> Region:
    """Return the region with its end, checked against the contigs of all files.

    All of a contig ends with the longest that a file knows the length of; where none does, where the last of
    the files ends.

    Args:
        region: see `parse_locus`.
        files: at least one.

    Raises:
        ArgumentError: a file has no such contig, or the region does not lie in it.
    """
    contig = region.contig
    for source, lengths, _ in files:
        if contig not in lengths:
            names = ", ".join(list(lengths)[:10]) + (", …" if len(lengths) > 10 else "")
            raise ArgumentError(f"region: {source} has no contig {contig!r}; it has {names or 'none at all'}")
    if region.end == _TO_THE_END:
        known = [file.lengths[contig] for file in files if file.exact]
        region = region._replace(end=max(known or [file.lengths[contig] for file in files]))
    for source, lengths, exact in files:
        length = lengths[contig]
        if exact and region.end > length:
            raise ArgumentError(f"region {region}: {contig} has {length:,} bases in {source}")
        if region.start >= length:
            raise ArgumentError(f"region {region}: what {source} holds of {contig} ends at base {length:,}")
    return region
