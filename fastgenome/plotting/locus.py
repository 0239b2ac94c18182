"""A stretch of a contig, as browsers write it and as the rest of the package counts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from fastgenome.errors import ArgumentError

_LOCUS = re.compile(r"(?P<contig>.+):(?P<first>[0-9][0-9,]*)-(?P<last>[0-9][0-9,]*)", re.ASCII)
# The end of a contig whose length is not known yet.
_TO_THE_END = 2**63 - 1


class Locus(NamedTuple):
    """A stretch of a contig; `start` and `end` are 0-based, half-open."""

    contig: str
    start: int
    end: int

    def __str__(self) -> str:
        """As browsers write it: the first and the last base, counted from 1."""
        return f"{self.contig}:{self.start + 1:,}-{self.end:,}"


def parse_locus(text: str) -> Locus:
    """Read `contig:first-last`, bases counted from 1 and both included, or `contig` for all of it.

    Commas in the numbers are ignored. "chrIV:1-20,000" is Locus("chrIV", 0, 20000). All of a contig ends at
    2^63 − 1 until `within` knows better.

    Raises:
        ArgumentError: the text names no bases: the first is 0 or lies behind the last, or there is no contig.
    """
    found = _LOCUS.fullmatch(text.strip())
    if found is None:
        if not text.strip() or re.search(r":[0-9,-]*$", text.strip()):
            raise ArgumentError(
                f"region {text!r}: expected contig:first-last, such as chrIV:1-20000, or contig"
            )
        return Locus(text.strip(), 0, _TO_THE_END)
    first, last = (int(found[name].replace(",", "")) for name in ("first", "last"))
    if first < 1 or last < first or last >= _TO_THE_END:
        raise ArgumentError(
            f"region {text!r}: bases are counted from 1 and the last is included; got {first} to {last}"
        )
    return Locus(found["contig"], first - 1, last)


def within(locus: Locus, lengths: Mapping[str, int], source: str, *, exact: bool) -> Locus:
    """Return the locus with its end, checked against the contigs of a file.

    Args:
        locus: see `parse_locus`.
        lengths: contig → bases, or the end of what a file without lengths holds of it.
        source: the file, for messages.
        exact: whether `lengths` are those of the contigs; if not, a locus may end behind them.

    Raises:
        ArgumentError: there is no such contig, or the locus does not lie in it.
    """
    if locus.contig not in lengths:
        names = ", ".join(list(lengths)[:10]) + (", …" if len(lengths) > 10 else "")
        raise ArgumentError(
            f"region: {source} has no contig {locus.contig!r}; it has {names or 'none at all'}"
        )
    length = lengths[locus.contig]
    if locus.end == _TO_THE_END:
        return locus._replace(end=length)
    if exact and locus.end > length:
        raise ArgumentError(f"region {locus}: {locus.contig} has {length:,} bases in {source}")
    if locus.start >= length:
        raise ArgumentError(f"region {locus}: what {source} holds of {locus.contig} ends at base {length:,}")
    return locus
