"""Rows for each sequence, or window of one: the streaming job behind embed, features and predict."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgenome.errors import ArgumentError, SequenceTooLongError
from fastgenome.progress import progress_bar
from fastgenome.regions import Window, windowed
from fastgenome.scoring.writers import Column, open_writer
from fastgenome.sequences import ReadOptions, ReadReport, SequenceReader, SequenceRecord

BASES_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class TableReport:
    """What became of the records of a source.

    Attributes:
        out: the table written.
        rows: rows written: one a record or window, or one a token of it.
        windows_too_short: windows (ends of records) with too few bases for a row.
        bases: worked on, overlaps counted each time.
        seconds: wall-clock time of reading, computing and writing.
        reading: the account of the records.
    """

    out: str
    rows: int
    windows_too_short: int
    bases: int
    seconds: float
    reading: ReadReport

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return {**asdict(self), "reading": self.reading.to_dict()}

    def summary(self) -> str:
        """Two lines for people."""
        short = f", {self.windows_too_short:,} windows too short" if self.windows_too_short else ""
        return (
            f"{self.reading.summary()}\n{self.rows:,} rows in {self.out}{short}: "
            f"{self.bases / 1e6:.2f} Mbp in {self.seconds:.1f} s, {self.bases / self.seconds / 1e3:.0f} kbp/s"
        )


class Repeated(NamedTuple):
    """Columns with `counts[i]` rows, one behind the other, for sequence i."""

    columns: Mapping[str, Column]
    counts: NDArray[np.int64]  # (n,)


def write_sequence_table(
    source: str | Path | Sequence[str],
    out: str | Path,
    compute: Callable[[list[str]], Mapping[str, Column] | Repeated],
    *,
    min_length: int = 1,
    window: int | None = None,
    stride: int | None = None,
    reading: ReadOptions | None = None,
    metadata: Mapping[str, str] | None = None,
    bases_at_a_time: int | None = None,
    progress: bool = False,
) -> TableReport:
    """Compute columns for every record of a source, or for windows of it, in constant memory.

    Args:
        source: see ``read_sequences``.
        out: see ``open_writer``; nothing stands there unless the whole job succeeds.
        compute: cleaned sequences (n) to columns of n values or vectors, or to several rows for each.
        min_length: records below it are rejected, windows below it counted and left out.
        window, stride: in bases; stride is window by default. The columns start and end then are
            0-based, half-open.
        reading: the format, the columns of a table, and which records are used.
        metadata: kept in Parquet files.
        bases_at_a_time: given to ``compute`` at once, one record or window at least; None is 4 Mi.
        progress: show a bar.

    Raises:
        ArgumentError: stride without window, what ``open_writer`` does not accept, or an output that would
            replace the source.
        InputError: the source cannot be used; RejectedRecordsError of a strict reading.
    """
    if stride is not None and window is None:
        raise ArgumentError("stride needs window")
    if window is not None and window < min_length:
        raise ArgumentError(f"window is {window}; a row needs at least {min_length} bases")
    _refuse_replacing(source, out)
    reader = (reading or ReadOptions()).read(source, min_length=min_length)
    started = time.perf_counter()
    rows = bases = too_short = 0
    with (
        open_writer(out, metadata=metadata) as writer,
        progress_bar("working", reader.bytes_total, shown=progress) as advance,
    ):
        done = 0
        for pieces in _pieces(reader, window, stride, bases_at_a_time or BASES_AT_A_TIME):
            kept = [piece for piece in pieces if len(piece.sequence) >= min_length]
            too_short += len(pieces) - len(kept)
            if kept:
                columns = _computed(compute, kept)
                writer.write(columns)
                rows += len(next(iter(columns.values())))
                bases += sum(len(piece.sequence) for piece in kept)
            rate = bases / (time.perf_counter() - started) / 1e3
            advance(reader.bytes_read - done, f"{rows:,} rows, {bases / 1e6:.1f} Mbp, {rate:.0f} kbp/s")
            done = reader.bytes_read
    return TableReport(str(out), rows, too_short, bases, time.perf_counter() - started, reader.report)


def _refuse_replacing(source: object, out: str | Path) -> None:
    """Refuse an output that is the file read from, by this or another name."""
    if not isinstance(source, (str, Path)) or "-" in (str(source), str(out)):
        return
    if os.path.exists(source) and os.path.exists(out) and os.path.samefile(source, out):
        raise ArgumentError(f"the output {str(out)!r} is the input itself; choose another file")


def _computed(
    compute: Callable[[list[str]], Mapping[str, Column] | Repeated], pieces: Sequence[SequenceRecord | Window]
) -> Mapping[str, Column]:
    """The columns of these pieces; an error about one of them names its record."""
    try:
        computed = compute([piece.sequence for piece in pieces])
    except SequenceTooLongError as error:
        raise SequenceTooLongError(f"record {pieces[error.index].id!r}: {error}", error.index) from None
    if not isinstance(computed, Repeated):
        return _beside(_places(pieces), computed)
    repeated = [piece for piece, count in zip(pieces, computed.counts, strict=True) for _ in range(count)]
    return _beside(_places(repeated), computed.columns)


def _beside(places: dict[str, Column], columns: Mapping[str, Column]) -> dict[str, Column]:
    """Join what says where a row belongs and what was computed."""
    if shared := sorted(places.keys() & columns.keys()):
        raise ArgumentError(f"a computed column may not be called {', '.join(shared)}; rename it")
    return {**places, **columns}


def _pieces(
    reader: SequenceReader, window: int | None, stride: int | None, bases_at_a_time: int
) -> Iterator[list[SequenceRecord] | list[Window]]:
    """What is worked on at a time: records, or windows of them."""
    if window is None:
        yield from reader.batches(bases_at_a_time)
        return
    windows = windowed(reader, window, window if stride is None else stride)
    while chunk := list(islice(windows, max(1, bases_at_a_time // window))):
        yield chunk


def _places(pieces: Sequence[SequenceRecord | Window]) -> dict[str, Column]:
    """The columns that say which sequence a row belongs to."""
    ids = [piece.id for piece in pieces]
    spans = [(piece.start, piece.end) for piece in pieces if isinstance(piece, Window)]
    if not spans:
        return {"id": ids}
    starts, ends = np.array(spans, dtype=np.int64).T
    return {"id": ids, "start": starts, "end": ends}
