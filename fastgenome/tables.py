"""Rows of CSV, TSV and Parquet tables as raw sequence records."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastgenome.errors import ArgumentError, InputError, TruncatedInputError
from fastgenome.records import RawRecord
from fastgenome.streams import ByteStream

# A window of rows of a Parquet file; long sequences keep it from being large.
_PARQUET_ROWS = 1024


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what, by name or by 0-based number.

    Args:
        sequence: the column of sequences.
        id: the column of names; None takes "id" where there is one, else rows are numbered from 1.
        labels: the columns of labels, in the order wanted.
        header: whether the first line of CSV or TSV names the columns; if not, columns are given by number.
    """

    sequence: str | int = "sequence"
    id: str | int | None = None
    labels: tuple[str | int, ...] = ()
    header: bool = True

    def __post_init__(self) -> None:
        named = [column for column in (self.sequence, self.id, *self.labels) if isinstance(column, str)]
        if not self.header and named:
            raise ArgumentError(
                f"header=False (--no-header): give columns as numbers from 0, not as the name {named[0]!r}"
            )

    def locate(self, names: Sequence[str], source: str) -> "Located":
        """Find the columns in a table; raises InputError that names the columns there are."""
        identifier = self.id
        if identifier is None and "id" in names:
            identifier = "id"
        return Located(
            _locate(self.sequence, names, "sequence_column", source),
            None if identifier is None else _locate(identifier, names, "id_column", source),
            tuple(_locate(label, names, "label_columns", source) for label in self.labels),
        )


class Located(NamedTuple):
    """0-based positions of the columns in one table."""

    sequence: int
    id: int | None
    labels: tuple[int, ...]

    def columns(self) -> list[int]:
        """Return the positions without repeats, in rising order."""
        identifiers = () if self.id is None else (self.id,)
        return sorted({self.sequence, *identifiers, *self.labels})

    def among(self, columns: list[int]) -> "Located":
        """Return the positions in a table that has only these columns."""
        return Located(
            columns.index(self.sequence),
            None if self.id is None else columns.index(self.id),
            tuple(columns.index(label) for label in self.labels),
        )


def read_delimited(stream: ByteStream, delimiter: str, columns: Columns) -> Iterator[RawRecord]:
    """Yield the rows of CSV or TSV, quoted as in RFC 4180; blank lines are not rows.

    A row with too few or too many fields is a record with a defect.

    Raises:
        InputError: a column is missing, or a quoted field is not closed before the file ends.
    """
    # Chromosomes exceed the csv module's limit of 131,072 characters for a field.
    csv.field_size_limit(max(csv.field_size_limit(), (1 << 31) - 1))
    rows = csv.reader(stream.text(), delimiter=delimiter, strict=True)
    located: Located | None = None
    width = 0
    while True:
        first_line = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            if "end of data" in str(error):
                message = f"{stream.name}: the quoted field that begins on line {first_line} or after it"
                raise InputError(f"{message} is not closed before the end of the file") from error
            if located is None:
                raise InputError(f"{stream.name}: the first line cannot be read: {error}") from error
            yield RawRecord("", "", defect=f"line {first_line}: {error}")
            continue
        if row is None:
            return
        if not row:
            continue
        if located is None:
            names = row if columns.header else [str(number) for number in range(len(row))]
            located = columns.locate(names, stream.name)
            width = len(row)
            if columns.header:
                continue
        if len(row) == width:
            yield _to_record(row, located)
        else:
            yield RawRecord("", "", defect=f"line {first_line}: {len(row)} fields instead of {width}")


def read_parquet(stream: ByteStream, columns: Columns) -> Iterator[RawRecord]:
    """Yield the rows of a Parquet file; one that does not stand on disk is read into memory first.

    Raises:
        InputError: the file cannot be read, or a column is missing or does not hold text.
        TruncatedInputError: the file ends before its footer.
    """
    import pyarrow.parquet as parquet

    with _seekable(stream) as file:
        _check_parquet_end(file, stream.name)
        try:
            table = parquet.ParquetFile(file)
            names: list[str] = table.schema_arrow.names
            located = columns.locate(names, stream.name)
            _check_text(table.schema_arrow.field(located.sequence), stream.name)
            wanted = located.columns()
            moved = located.among(wanted)
            rows_read = 0
            for batch in table.iter_batches(_PARQUET_ROWS, columns=[names[column] for column in wanted]):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield _to_record(row, moved)
                rows_read += batch.num_rows
                if stream.bytes_total is not None:
                    stream.bytes_read = stream.bytes_total * rows_read // table.metadata.num_rows
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{stream.name} cannot be read as Parquet: {error}") from error


def _to_record(row: Sequence[Any], located: Located) -> RawRecord:
    """Pick the wanted fields of a row."""
    return RawRecord(
        "" if located.id is None else _to_text(row[located.id]),
        _to_text(row[located.sequence]),
        tuple(_to_text(row[label]).strip() for label in located.labels),
    )


def _to_text(value: Any) -> str:
    """Show a value as text; a missing one is empty."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    return "" if value is None else str(value)


def _locate(column: str | int, names: Sequence[str], argument: str, source: str) -> int:
    """Return the position of one column."""
    there = ", ".join(map(repr, names[:20])) + (", …" if len(names) > 20 else "")
    if isinstance(column, int):
        if 0 <= column < len(names):
            return column
        raise InputError(f"{source} has no column {column} ({argument}), but {len(names)} from 0: {there}")
    found = names.count(column)
    if found == 1:
        return names.index(column)
    if found:
        raise InputError(
            f"{source} has {found} columns {column!r} ({argument}); give the number of one, from 0"
        )
    raise InputError(
        f"{source} has no column {column!r} ({argument}); its columns are {there}. "
        "If the first line of the file is not a header, pass header=False (--no-header) and column numbers"
    )


def _seekable(stream: ByteStream) -> io.BufferedIOBase:
    """Open the stream again for random access, in memory where it is not a plain file."""
    if stream.path is not None and stream.path.is_file() and not stream.compressed:
        return stream.path.open("rb")
    return io.BytesIO(b"".join(stream))


def _check_parquet_end(file: io.BufferedIOBase, source: str) -> None:
    """Tell a file that was cut from one that is something else."""
    begin = file.read(4)
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 4))
    if begin == b"PAR1" and (size < 12 or file.read(4) != b"PAR1"):
        raise TruncatedInputError(f"{source} is cut short: the footer of a Parquet file is missing")
    file.seek(0)


def _check_text(field: Any, source: str) -> None:
    """Refuse a column of sequences that holds no text."""
    import pyarrow.types as types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    text = (types.is_string, types.is_large_string, types.is_string_view)
    raw = (types.is_binary, types.is_large_binary, types.is_binary_view)
    if not any(test(kind) for test in (*text, *raw)):
        raise InputError(f"{source}: column {field.name!r} (sequence_column) holds {field.type}, not text")
