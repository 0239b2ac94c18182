"""Score tracks from bigWig, bedGraph and Parquet files."""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastgenome.errors import ArgumentError, InputError, MissingExtraError, TruncatedInputError
from fastgenome.plotting.locus_index import LocusIndex
from fastgenome.plotting.parquet_scores import read_parquet
from fastgenome.plotting.score_tracks import Intervals, ScoreFile, ScoreTrack, check_total, intervals_of
from fastgenome.regions import Region
from fastgenome.streams import ByteStream, PathLike

BIGWIG_ENDINGS = (".bw", ".bigwig")
BEDGRAPH_ENDINGS = (".bedgraph", ".bedgraph.gz", ".bg", ".bg.gz")
ENDINGS = (*BIGWIG_ENDINGS, *BEDGRAPH_ENDINGS, ".parquet")

_MOST = 2**63 - 1
_BIGWIG_MAGIC = (0x888FFC26).to_bytes(4, "little")
# pyBigWig makes a Python object of every number: as many at a time as take about 200 MB.
_BASES_AT_A_TIME = 1 << 20


def read_scores(
    path: PathLike, loci: Sequence[Region] | None = None, *, columns: Sequence[str] = ()
) -> ScoreFile:
    """Read the scores of some loci, or of all contigs.

    Args:
        path: bigWig (.bw, .bigwig; through pyBigWig), bedGraph (.bedgraph, .bg, plain or gzip) or Parquet
            with the columns contig, start, end (0-based, half-open) and scores. NaN and missing values are no
            score.
        loci: what is wanted; None is everything. Whether the contigs exist is for the caller to check.
        columns: scores of a Parquet file, by default every column of numbers; the other formats have one.

    Raises:
        InputError: there is no such file, or it cannot be used; for bedGraph the message numbers the line.
        TruncatedInputError: bigWig or gzip ends too early.
        ArgumentError: the ending is not known, or there are more than 20 million intervals.
        MissingExtraError: pyBigWig is not installed.
    """
    source = os.fspath(path)
    name = source.lower()
    if not name.endswith(ENDINGS):
        raise ArgumentError(f"track {source!r}: the ending is not known; use one of {', '.join(ENDINGS)}")
    if not Path(source).is_file():
        raise InputError(f"there is no file {source!r}")
    if name.endswith(".parquet"):
        return read_parquet(source, loci, columns)
    return (_read_bigwig if name.endswith(BIGWIG_ENDINGS) else _read_bedgraph)(source, loci)


def _stem(source: str) -> str:
    """The name of a file without its folder and ending."""
    name = Path(source).name
    return name[: -len(next(ending for ending in ENDINGS[::-1] if name.lower().endswith(ending)))]


def _read_bigwig(source: str, loci: Sequence[Region] | None) -> ScoreFile:
    try:
        import pyBigWig
    except ImportError as error:
        raise MissingExtraError("bigWig needs pyBigWig: pip install 'fastgenome[bigwig]'") from error
    _check_bigwig_ends(source)
    try:
        with pyBigWig.open(source) as file:
            lengths: dict[str, int] = dict(file.chroms())
            wanted = [Region(name, 0, size) for name, size in lengths.items()] if loci is None else loci
            intervals = _gathered(
                source, (part for locus in wanted for part in _bigwig_parts(file, locus, lengths))
            )
    except RuntimeError as error:
        raise InputError(f"{source} cannot be read as bigWig: {error}") from error
    return ScoreFile(source, (ScoreTrack(_stem(source), intervals),), lengths, exact=True)


def _check_bigwig_ends(source: str) -> None:
    """Refuse a file cut short, of which pyBigWig would read memory that is not there."""
    with open(source, "rb") as file:
        first = file.read(4)
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4))
        last = file.read()
    if first not in (_BIGWIG_MAGIC, _BIGWIG_MAGIC[::-1]):
        raise InputError(f"{source} is no bigWig file: it begins with {first!r}")
    if last != first:
        raise TruncatedInputError(f"{source} is cut short: a bigWig file ends with its first four bytes")


def _bigwig_parts(file: Any, locus: Region, lengths: Mapping[str, int]) -> Any:
    """Contig, starts, ends and values of a locus, piece by piece, each cut at the ends of its piece."""
    end = min(locus.end, lengths.get(locus.contig, 0))
    for first in range(locus.start, end, _BASES_AT_A_TIME):
        last = min(first + _BASES_AT_A_TIME, end)
        found = file.intervals(locus.contig, first, last)
        if found:
            starts, ends, values = (np.array(part) for part in zip(*found, strict=True))
            yield locus.contig, np.maximum(starts, first), np.minimum(ends, last), values


def _gathered(source: str, parts: Any) -> dict[str, Intervals]:
    """Contig → all its parts as one."""
    collected: dict[str, list[tuple[Any, Any, Any]]] = {}
    total = 0
    for contig, *part in parts:
        total += len(part[0])
        check_total(source, total)
        collected.setdefault(contig, []).append(tuple(part))
    return {
        contig: _intervals(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))
        for contig, pieces in collected.items()
    }


def _intervals(starts: Any, ends: Any, values: Any) -> Intervals:
    return intervals_of(starts, ends, [values])[0]


def _read_bedgraph(source: str, loci: Sequence[Region] | None) -> ScoreFile:
    """All lines are read and checked; those of other loci are not kept."""
    index = None if loci is None else LocusIndex(loci)
    lengths: dict[str, int] = {}
    kept: dict[str, tuple[array[int], array[int], array[float]]] = {}
    total = 0
    with ByteStream(source) as stream:
        for number, line in enumerate(stream.text(), 1):
            fields = line.split()
            if not fields or fields[0].startswith("#") or fields[0] in ("track", "browser"):
                continue
            contig, start, end, value = _bedgraph_fields(fields, source, number)
            lengths[contig] = max(end, lengths.get(contig, 0))
            if index is not None and not index.touches(contig, start, end):
                continue
            total += 1
            check_total(source, total)
            starts, ends, values = kept.setdefault(contig, (array("q"), array("q"), array("d")))
            starts.append(start)
            ends.append(end)
            values.append(value)
    intervals = {contig: _intervals(*columns) for contig, columns in kept.items()}
    return ScoreFile(source, (ScoreTrack(_stem(source), intervals),), lengths, exact=False)


def _bedgraph_fields(fields: list[str], source: str, number: int) -> tuple[str, int, int, float]:
    """The four fields of a line; an error numbers the line."""
    try:
        contig, start, end, value = fields
        region = contig, int(start), int(end), float(value)
    except ValueError:
        raise InputError(
            f"{source}, line {number}: expected contig, start, end and a score; got {' '.join(fields)[:80]!r}"
        ) from None
    if not 0 <= region[1] <= region[2] <= _MOST:
        raise InputError(f"{source}, line {number}: start {start} and end {end} are no region")
    return region
