"""Score tracks from bigWig, bedGraph and Parquet files."""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastgenome.errors import ArgumentError, InputError, MissingExtraError, TruncatedInputError
from fastgenome.plotting.segments import Floats, Integers, Segments, segments_of
from fastgenome.regions import Region
from fastgenome.streams import ByteStream, PathLike

BIGWIG_ENDINGS = (".bw", ".bigwig")
BEDGRAPH_ENDINGS = (".bedgraph", ".bedgraph.gz", ".bg", ".bg.gz")
ENDINGS = (*BIGWIG_ENDINGS, *BEDGRAPH_ENDINGS, ".parquet")

_MOST = 2**63 - 1
_BIGWIG_MAGIC = (0x888FFC26).to_bytes(4, "little")
# pyBigWig makes a Python object of every number: as many at a time as take about 200 MB.
_BASES_AT_A_TIME = 1 << 20
# Three numbers of 8 bytes each: half a gigabyte.
_MOST_INTERVALS = 20_000_000
_PLACES = ("contig", "start", "end")


class Intervals(NamedTuple):
    """Scored intervals of a contig as a file has them; 0-based, half-open, in any order."""

    starts: Integers
    ends: Integers
    values: Floats


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
        nothing = np.empty(0, np.int64)
        found = self.intervals.get(locus.contig, Intervals(nothing, nothing, np.empty(0)))
        return segments_of(*found, locus)


class ScoreFile(NamedTuple):
    """The tracks of a file.

    Attributes:
        lengths: contig → bases, or the end of its last interval.
        exact: whether the lengths are those of the contigs.
    """

    source: str
    tracks: tuple[ScoreTrack, ...]
    lengths: dict[str, int]
    exact: bool


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
        return _read_parquet(source, loci, columns)
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
        _check_total(source, total)
        collected.setdefault(contig, []).append(tuple(part))
    return {
        contig: _intervals(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))
        for contig, pieces in collected.items()
    }


def _intervals(starts: Any, ends: Any, values: Any) -> Intervals:
    return Intervals(np.asarray(starts, np.int64), np.asarray(ends, np.int64), np.asarray(values, np.float64))


def _check_total(source: str, total: int) -> None:
    if total > _MOST_INTERVALS:
        raise ArgumentError(
            f"region: {source} has more than {_MOST_INTERVALS:,} intervals there; choose a smaller region"
        )


def _read_bedgraph(source: str, loci: Sequence[Region] | None) -> ScoreFile:
    """All lines are read and checked; those of other loci are not kept."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for contig, start, end in loci or ():
        spans.setdefault(contig, []).append((start, end))
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
            if loci is not None and not any(start < b and a < end for a, b in spans.get(contig, ())):
                continue
            total += 1
            _check_total(source, total)
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


def _read_parquet(source: str, loci: Sequence[Region] | None, columns: Sequence[str]) -> ScoreFile:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        names = _score_columns(parquet.read_schema(source), source, columns)
        lengths = _last_ends(parquet.read_table(source, columns=["contig", "end"]))
        table = parquet.read_table(source, columns=[*_PLACES, *names], filters=_overlapping(loci))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source} cannot be read as Parquet: {error}") from error
    _check_total(source, table.num_rows * len(names))
    starts, stops = (table[name].to_numpy() for name in ("start", "end"))
    # A missing number makes both comparisons false.
    wrong = np.flatnonzero(~((starts >= 0) & (stops >= starts)))
    if table["contig"].null_count or len(wrong):
        what = f"start {starts[wrong[0]]} and end {stops[wrong[0]]}" if len(wrong) else "a row without contig"
        raise InputError(f"{source}: {what}; expected contig, start and end of every row, 0-based, half-open")
    encoded = table["contig"].combine_chunks().dictionary_encode()
    places = encoded.indices.to_numpy()
    rows = {contig: np.flatnonzero(places == at) for at, contig in enumerate(encoded.dictionary.to_pylist())}
    tracks = []
    for name in names:
        values = table[name].to_numpy().astype(np.float64)
        intervals = {contig: _intervals(starts[at], stops[at], values[at]) for contig, at in rows.items()}
        tracks.append(ScoreTrack(name, intervals))
    return ScoreFile(source, tuple(tracks), lengths, exact=False)


def _score_columns(schema: Any, source: str, wanted: Sequence[str]) -> list[str]:
    """The columns to draw; InputError names those there are."""
    import pyarrow.types as types

    there = ", ".join(map(repr, schema.names[:20]))
    missing = [name for name in (*_PLACES, *wanted) if name not in schema.names]
    if missing:
        raise InputError(f"{source} has no column {missing[0]!r}; it has {there}")
    contigs = schema.field("contig").type
    names = contigs.value_type if types.is_dictionary(contigs) else contigs
    if not (types.is_string(names) or types.is_large_string(names)):
        raise InputError(f"{source}: column 'contig' holds {contigs}, not strings")
    for name in ("start", "end"):
        if not types.is_integer(schema.field(name).type):
            raise InputError(f"{source}: column {name!r} holds {schema.field(name).type}, not integers")
    numbers = [
        field.name
        for field in schema
        if field.name not in _PLACES and (types.is_floating(field.type) or types.is_integer(field.type))
    ]
    if texts := [name for name in wanted if name not in numbers]:
        raise InputError(f"{source}: column {texts[0]!r} holds no scores but {schema.field(texts[0]).type}")
    if not numbers:
        raise InputError(f"{source} has no column of numbers beside contig, start and end; it has {there}")
    return list(wanted) or numbers


def _last_ends(table: Any) -> dict[str, int]:
    """Contig → end of its last interval, in the order of the file."""
    grouped = table.group_by("contig", use_threads=False).aggregate([("end", "max")])
    pairs = zip(grouped["contig"].to_pylist(), grouped["end_max"].to_pylist(), strict=True)
    return {str(contig): int(end) for contig, end in pairs if contig is not None and end is not None}


def _overlapping(loci: Sequence[Region] | None) -> list[list[tuple[str, str, Any]]] | None:
    """The filter of the rows that touch any locus."""
    if loci is None:
        return None
    return [[("contig", "==", name), ("end", ">", start), ("start", "<", end)] for name, start, end in loci]
