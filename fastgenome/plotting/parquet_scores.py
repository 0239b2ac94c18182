"""Score tracks from Parquet files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgenome.errors import InputError
from fastgenome.plotting.locus_index import LocusIndex
from fastgenome.plotting.score_tracks import Intervals, ScoreFile, ScoreTrack, check_total, intervals_of
from fastgenome.regions import Region

if TYPE_CHECKING:
    import pyarrow as pa

_PLACES = ("contig", "start", "end")
_MOST = 2**63 - 1
# A row group may be as large as its file: its columns are read and decoded in pieces.
_ROWS_AT_A_TIME = 1 << 16
_BUFFER_BYTES = 1 << 20


def read_parquet(source: str, loci: Sequence[Region] | None, columns: Sequence[str]) -> ScoreFile:
    """Read the scores of some loci, or of all contigs; see `read_scores`.

    The places of all rows are read and checked, the scores only of row groups that may touch a locus by their
    statistics. No more than what is kept is ever in memory, and reading stops where that is too much.

    Raises:
        InputError: the file cannot be read, a column is missing or holds something else, or a row has no
            place.
        ArgumentError: there are more than 20 million intervals.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(source, buffer_size=_BUFFER_BYTES) as file:
            names = _score_columns(file.schema_arrow, source, columns)
            if loci is None:
                check_total(source, file.metadata.num_rows * len(names))
            index = None if loci is None else LocusIndex(loci)
            lengths, kept = _gathered(_batches(file, names, index), names, index, source)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source} cannot be read as Parquet: {error}") from error
    tracks: list[dict[str, Intervals]] = [{} for _ in names]
    for contig, pieces in kept.items():
        starts, ends, *values = (np.concatenate(part) for part in zip(*pieces, strict=True))
        for track, intervals in zip(tracks, intervals_of(starts, ends, values), strict=True):
            track[contig] = intervals
    return ScoreFile(source, tuple(map(ScoreTrack, names, tracks)), lengths, exact=False)


def _score_columns(schema: Any, source: str, wanted: Sequence[str]) -> list[str]:
    """The columns to draw; InputError names those there are."""
    import pyarrow.types as types

    there = ", ".join(map(repr, schema.names[:20]))
    missing = [name for name in (*_PLACES, *wanted) if name not in schema.names]
    if missing:
        raise InputError(f"{source} has no column {missing[0]!r}; it has {there}")
    if repeated := [name for name, count in Counter(schema.names).items() if count > 1]:
        raise InputError(f"{source} has several columns {repeated[0]!r}; give each a name of its own")
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


def _batches(file: Any, names: Sequence[str], index: LocusIndex | None) -> Iterator[tuple[Any, bool]]:
    """All rows in order, and whether they have their scores with them."""
    columns = {file.schema.column(at).path: at for at in range(len(file.schema))}
    numbers = [columns[name] for name in _PLACES]

    def wanted(group: int) -> bool:
        return index is None or _may_touch(file.metadata.row_group(group), numbers, index)

    for scored, groups in groupby(range(file.num_row_groups), key=wanted):
        read = [*_PLACES, *names] if scored else list(_PLACES)
        for batch in file.iter_batches(_ROWS_AT_A_TIME, row_groups=list(groups), columns=read):
            yield batch, scored


def _may_touch(group: Any, numbers: Sequence[int], index: LocusIndex) -> bool:
    """Whether the statistics of a row group leave it possible that one of its rows touches a locus."""
    statistics = [group.column(number).statistics for number in numbers]
    if not all(found is not None and found.has_min_max for found in statistics):
        return True
    contigs, starts, ends = statistics
    return any(
        contigs.min <= contig <= contigs.max and index.touches(contig, starts.min, ends.max)
        for contig in index.contigs
    )


def _gathered(
    batches: Iterator[tuple[pa.RecordBatch, bool]],
    names: Sequence[str],
    index: LocusIndex | None,
    source: str,
) -> tuple[dict[str, int], dict[str, list[tuple[Any, ...]]]]:
    """Contig → its last end; contig → pieces of starts, ends and each score of the rows that are wanted."""
    lengths: dict[str, int] = {}
    kept: dict[str, list[tuple[Any, ...]]] = {}
    total = 0
    for batch, scored in batches:
        values = [_numbers(batch, name).astype(np.float64) for name in names] if scored else []
        for contig, starts, ends, rows in _by_contig(batch, source):
            lengths[contig] = max(int(ends.max()), lengths.get(contig, 0))
            if not scored:
                continue
            if index is not None:
                touched = index.touched(contig, starts, ends)
                starts, ends, rows = starts[touched], ends[touched], rows[touched]
            total += len(rows) * len(names)
            check_total(source, total)
            if len(rows):
                kept.setdefault(contig, []).append((starts, ends, *(column[rows] for column in values)))
    return lengths, kept


def _by_contig(batch: pa.RecordBatch, source: str) -> Iterator[tuple[str, Any, Any, Any]]:
    """Each contig of a batch, its starts, ends and row numbers; InputError where a place is wrong."""
    contigs = batch["contig"].cast("string").dictionary_encode()
    starts, ends = (_numbers(batch, name) for name in ("start", "end"))
    # A missing number makes comparisons false.
    wrong = np.flatnonzero(~((starts >= 0) & (ends >= starts) & (ends <= _MOST)))
    if contigs.null_count or len(wrong):
        what = f"start {starts[wrong[0]]} and end {ends[wrong[0]]}" if len(wrong) else "a row without contig"
        raise InputError(f"{source}: {what}; expected contig, start and end of every row, 0-based, half-open")
    places = contigs.indices.to_numpy()
    order = np.argsort(places, kind="stable")
    names = contigs.dictionary.to_pylist()
    # Names are numbered as they appear; a batch without rows has none.
    for name, rows in zip(names, np.split(order, np.flatnonzero(np.diff(places[order])) + 1), strict=False):
        yield name, starts[rows].astype(np.int64), ends[rows].astype(np.int64), rows


def _numbers(batch: pa.RecordBatch, name: str) -> Any:
    """A column as numpy has it, NaN where a number is missing."""
    return batch[name].to_numpy(zero_copy_only=False)
