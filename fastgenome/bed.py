"""Regions from BED files."""

from collections.abc import Iterator
from typing import NamedTuple

from fastgenome.errors import InputError
from fastgenome.streams import ByteStream, PathLike, ReadableBytes

_MOST = 2**63 - 1
_NO_REGIONS = ("track", "browser")


class BedRegion(NamedTuple):
    """A line of BED; `start` and `end` are 0-based, half-open.

    `strand` is "+", "-" or "."; `defect` says why the line cannot be used, empty for a sound one.
    """

    contig: str
    start: int
    end: int
    name: str = ""
    strand: str = "."
    defect: str = ""


def read_bed(source: PathLike | ReadableBytes, *, strict: bool = True) -> Iterator[BedRegion]:
    """Read the regions of a BED file, plain or gzip, or standard input ("-").

    Comments, `track` and `browser` lines and empty lines are no regions. Fields are parted by tabs, or by
    blanks in a line without tabs; those behind the sixth are not read. Whether a region lies within its
    contig is for the genome to say.

    Args:
        source: a path, "-" or an open binary file.
        strict: raise at the first line that cannot be used; otherwise it comes as a region with a `defect`.

    Yields:
        Regions in the order of the file.

    Raises:
        InputError: the source cannot be read or, with `strict`, a line cannot be used.
    """
    with ByteStream(source) as stream:
        for number, line in enumerate(stream.text(), 1):
            fields = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
            if not any(fields) or fields[0].startswith("#") or fields[0].split(" ")[0] in _NO_REGIONS:
                continue
            region = _to_region(fields)
            if region.defect:
                if strict:
                    raise InputError(f"{stream.name}, line {number}: {region.defect}")
                region = _defective(f"line {number}: {region.defect}")
            yield region


def _to_region(fields: list[str]) -> BedRegion:
    """A region, or one with a defect."""
    if len(fields) < 3:
        return _defective(f"{len(fields)} fields; a BED line has at least contig, start and end")
    contig, start, end, name, _, strand = (fields + ["", "", "."][len(fields) - 3 :])[:6]
    if not contig:
        return _defective("the contig has no name")
    if not (_is_coordinate(start) and _is_coordinate(end)):
        return _defective(f"start {start!r} and end {end!r} are not both whole numbers from 0")
    if int(start) > int(end):
        return _defective(f"start {start} lies behind end {end}")
    if strand not in ("+", "-", "."):
        return _defective(f"strand {strand!r} is none of + - .")
    return BedRegion(contig, int(start), int(end), name, strand)


def _is_coordinate(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= _MOST


def _defective(defect: str) -> BedRegion:
    return BedRegion("", 0, 0, defect=defect)
