"""Tables of results as TSV, CSV, Parquet or NPY files that never look complete when they are not."""

import csv
import gzip
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import chain
from typing import Any, BinaryIO, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from fastgenome.atomic import atomic_file
from fastgenome.errors import ArgumentError

Column: TypeAlias = NDArray[Any] | Sequence[Any]

ENDINGS = (".tsv", ".tsv.gz", ".csv", ".csv.gz", ".parquet", ".npy")

# A Parquet row group: large enough to compress and scan well, small enough to hold in memory.
_ROW_GROUP_BYTES = 1 << 25


def open_writer(
    path: str | os.PathLike[str], *, metadata: Mapping[str, str] | None = None
) -> AbstractContextManager["TableWriter"]:
    """Open a table of results for writing; use it as a context manager.

    The rows go to a hidden file in the same folder, which takes the name `path` when the block ends well;
    when an exception leaves the block, it is removed and what stood at `path` is untouched. Memory does not
    grow with the rows.

    Args:
        path: the file, whose ending chooses the format (see `ENDINGS`), or "-" for TSV on standard output. A
            two-dimensional column becomes a fixed-size list in Parquet and columns name_0, name_1 … in TSV
            and CSV; NPY takes only this column, as one (rows, dim) matrix in the order written, no ids.
        metadata: texts kept in the schema of a Parquet file; the other formats have no place for them.

    Raises:
        ArgumentError: the ending is not known (here); the file cannot be made, or nothing was written (in the
            `with` statement).
    """
    name = os.fspath(path)
    if name != "-" and not name.lower().endswith(ENDINGS):
        raise ArgumentError(f"the ending of {name!r} is not known; use one of {', '.join(ENDINGS)}, or '-'")
    return _writing(name, dict(metadata or {}))


def takes_matrix_only(path: str | os.PathLike[str]) -> bool:
    """Whether the file will hold one matrix and neither ids nor other columns: NPY."""
    return os.fspath(path).lower().endswith(".npy")


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Name the file in the errors of the system, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, name) from error


@contextmanager
def _writing(name: str, metadata: dict[str, str]) -> Iterator["TableWriter"]:
    """Give the writer, and see that the encoder is closed before the file is."""
    target = nullcontext(sys.stdout.buffer) if name == "-" else atomic_file(name)
    with _naming(name), target as file:
        encoder = _make_encoder(name.lower(), file, metadata)
        writer = TableWriter(encoder)
        try:
            yield writer
        except BaseException:
            # What closing still writes is of no use; the error that ended the block is the one to show.
            with suppress(Exception):
                encoder.close()
            raise
        if not writer.has_columns:
            raise ArgumentError(f"nothing was written to {name!r}, not even an empty table with its columns")
        encoder.close()


def _make_encoder(name: str, file: BinaryIO, metadata: dict[str, str]) -> "_Encoder":
    """Choose the format by the ending."""
    if name.endswith(".parquet"):
        return _ParquetEncoder(file, metadata)
    if takes_matrix_only(name):
        return _NpyEncoder(file)
    delimiter = "," if name.endswith((".csv", ".csv.gz")) else "\t"
    return _DelimitedEncoder(file, delimiter, compress=name.endswith(".gz"))


class TableWriter:
    """Rows of named columns on their way to a file; made by `open_writer`.

    Attributes:
        rows: rows written so far.
    """

    def __init__(self, encoder: "_Encoder") -> None:
        self.rows = 0
        self._encoder = encoder
        self._widths: dict[str, int | None] = {}

    @property
    def has_columns(self) -> bool:
        """Whether anything was written, be it columns without rows."""
        return bool(self._widths)

    def write(self, columns: Mapping[str, Column]) -> None:
        """Append rows.

        Args:
            columns: values by name, all of one length: lists or arrays of shape (rows,), or arrays of numbers
                of shape (rows, dim). Names, their order and dim must stay those of the first call.

        Raises:
            ArgumentError: the columns do not fit together, to those of the first call or to the format.
        """
        widths = {name: _width(name, column) for name, column in columns.items()}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            raise ArgumentError(f"columns must be of one length, got {lengths}")
        if self._widths and list(widths.items()) != list(self._widths.items()):
            raise ArgumentError(
                f"columns {_describe(widths)} differ from the first: {_describe(self._widths)}"
            )
        self._encoder.write(columns)
        self._widths = widths
        self.rows += next(iter(lengths.values()))


class _Encoder(Protocol):
    """Turns columns into the bytes of one format."""

    def write(self, columns: Mapping[str, Column]) -> None:
        """Append rows."""

    def close(self) -> None:
        """Write what is left; the file stays open."""


class _DelimitedEncoder:
    """TSV or CSV with a header, quoted where needed, lines ended by LF."""

    def __init__(self, file: BinaryIO, delimiter: str, *, compress: bool) -> None:
        # Neither a name nor a time in the gzip header: the same rows give the same bytes.
        self._gzip = gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) if compress else None
        self._text = io.TextIOWrapper(cast(BinaryIO, self._gzip or file), encoding="utf-8", newline="")
        self._rows = csv.writer(self._text, delimiter=delimiter, lineterminator="\n")
        self._has_header = False

    def write(self, columns: Mapping[str, Column]) -> None:
        if not self._has_header:
            self._rows.writerow(_spread_names(columns))
            self._has_header = True
        cells = [_to_cells(column) for column in columns.values()]
        self._rows.writerows(chain.from_iterable(parts) for parts in zip(*cells, strict=True))

    def close(self) -> None:
        self._text.flush()
        # The wrapper would close the file below it when it is collected.
        self._text.detach()
        if self._gzip is not None:
            self._gzip.close()


class _ParquetEncoder:
    """Parquet, zstd-compressed, with row groups of about 32 MiB."""

    def __init__(self, file: BinaryIO, metadata: dict[str, str]) -> None:
        self._file = file
        self._metadata = metadata
        self._writer: Any = None
        self._tables: list[Any] = []
        self._pending_bytes = 0

    def write(self, columns: Mapping[str, Column]) -> None:
        import pyarrow as pa

        if self._writer is None:
            first = {name: _to_arrow(column, None) for name, column in columns.items()}
            table = pa.table(first).replace_schema_metadata(self._metadata)
            self._open(table.schema)
        else:
            schema = self._writer.schema
            try:
                arrays = [_to_arrow(column, schema.field(name).type) for name, column in columns.items()]
                table = pa.table(arrays, schema=schema)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise ArgumentError(f"values differ in type from the first rows': {error}") from error
        self._tables.append(table)
        self._pending_bytes += table.nbytes
        if self._pending_bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        if self._writer is not None:
            self._flush()
            self._writer.close()

    def _open(self, schema: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        # Numbers seldom repeat, so that a dictionary of them only costs time.
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        self._writer = parquet.ParquetWriter(self._file, schema, compression="zstd", use_dictionary=texts)

    def _flush(self) -> None:
        import pyarrow as pa

        if self._tables:
            table = pa.concat_tables(self._tables)
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._tables, self._pending_bytes = [], 0


class _NpyEncoder:
    """One matrix whose number of rows is filled in at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._dtype: np.dtype[Any] | None = None
        self._rows = 0
        self._width = 0

    def write(self, columns: Mapping[str, Column]) -> None:
        wide = [column for column in columns.values() if isinstance(column, np.ndarray) and column.ndim == 2]
        if len(wide) != 1:
            raise ArgumentError(
                f"NPY holds one two-dimensional column, got {len(wide)}; use .parquet or .tsv"
            )
        matrix = np.ascontiguousarray(wide[0])
        if self._dtype is None:
            self._dtype, self._width = matrix.dtype, matrix.shape[1]
            self._write_header()
        if matrix.dtype != self._dtype:
            raise ArgumentError(f"values are {matrix.dtype}, unlike the first rows' {self._dtype}")
        self._file.write(matrix.data)
        self._rows += len(matrix)

    def close(self) -> None:
        if self._dtype is not None:
            self._file.seek(0)
            self._write_header()

    def _write_header(self) -> None:
        """Write the header; NumPy leaves room in it for any number of rows, so that its size stays."""
        assert self._dtype is not None
        shape = (self._rows, self._width)
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)


def _width(name: str, column: Column) -> int | None:
    """Return dim of a two-dimensional column, None of another; refuse what no format can hold."""
    expected = "expected a list, an array of shape (rows,) or numbers of shape (rows, dim)"
    if isinstance(column, np.ndarray):
        if column.ndim == 1:
            return None
        if column.ndim == 2 and column.shape[1] > 0 and column.dtype.kind in "biuf":
            return int(column.shape[1])
        raise ArgumentError(f"column {name!r} is an array {column.shape} of {column.dtype}, {expected}")
    if isinstance(column, Sequence) and not isinstance(column, str | bytes):
        return None
    raise ArgumentError(f"column {name!r} is {type(column).__name__}, {expected}")


def _describe(widths: Mapping[str, int | None]) -> str:
    """Show names with the width of wide columns."""
    return ", ".join(name if width is None else f"{name}[{width}]" for name, width in widths.items())


def _spread_names(columns: Mapping[str, Column]) -> list[str]:
    """Return the header of a text table; a wide column has a name for each of its numbers."""
    names: list[str] = []
    for name, column in columns.items():
        width = _width(name, column)
        names += [name] if width is None else [f"{name}_{index}" for index in range(width)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ArgumentError(f"the columns spread to repeated names: {', '.join(repeated)}")
    return names


def _to_cells(column: Column) -> Iterator[Sequence[Any]]:
    """Yield each row's part of a text table; floats in the fewest digits that give them back."""
    if not isinstance(column, np.ndarray):
        return ((value,) for value in column)
    values = column
    if column.dtype.kind == "f":
        import pyarrow as pa

        flat = pa.array(column.reshape(-1)).cast(pa.string())
        values = flat.to_numpy(zero_copy_only=False).reshape(column.shape)
    return iter(values.tolist()) if column.ndim == 2 else ((value,) for value in values.tolist())


def _to_arrow(column: Column, kind: Any) -> Any:
    """Return a column as an Arrow array, of a type if one is given."""
    import pyarrow as pa

    if not isinstance(column, np.ndarray) or column.ndim == 1:
        # The type of a list is told by its values; lists without any are of text.
        untold = kind is None and not isinstance(column, np.ndarray) and not len(column)
        return pa.array(column, type=pa.string() if untold else kind)
    flat = pa.array(column.reshape(-1), type=None if kind is None else kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, column.shape[1])
