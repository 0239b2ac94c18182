"""DNA from files, standard input and lists: cleaned records, and an account of every record read."""

import os
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastgenome import _core
from fastgenome.admission import Acceptance, Admission
from fastgenome.cleaning import why_not_dna
from fastgenome.errors import ArgumentError, InputError, RejectedRecordsError, TruncatedInputError
from fastgenome.formats import Format, check_format, detect_format
from fastgenome.records import CleanedBatch, RawRecord, ReadReport, Rejection, SequenceRecord
from fastgenome.streams import ByteStream, PathLike, ReadableBytes
from fastgenome.tables import Columns, read_delimited, read_parquet

__all__ = [
    "Acceptance",
    "ReadOptions",
    "ReadReport",
    "Rejection",
    "SequenceReader",
    "SequenceRecord",
    "clean_sequences",
    "read_sequences",
]

Source: TypeAlias = PathLike | ReadableBytes | Iterable[str]

# Records that are cleaned together; many short ones must not add up to much memory.
_BATCH_BASES = 1 << 18
_BATCH_RECORDS = 1 << 16


@dataclass(frozen=True)
class ReadOptions:
    """How a source is read, for functions that do more than read; see `read_sequences` for each field."""

    format: Format | None = None
    sequence_column: str | int = "sequence"
    id_column: str | int | None = None
    header: bool = True
    on_duplicate: Literal["keep", "reject", "ignore"] = "keep"
    on_all_n: Literal["keep", "reject"] = "keep"
    strict: bool = False

    def read(
        self, source: Source, *, label_columns: Sequence[str | int] = (), min_length: int = 1
    ) -> "SequenceReader":
        """Read a source so; see `read_sequences`."""
        columns = Columns(self.sequence_column, self.id_column, tuple(label_columns), self.header)
        acceptance = Acceptance(min_length, self.on_duplicate, self.on_all_n, self.strict)
        return SequenceReader(source, self.format, columns, acceptance)


def read_sequences(
    source: Source,
    *,
    format: Format | None = None,
    sequence_column: str | int = "sequence",
    id_column: str | int | None = None,
    label_columns: Sequence[str | int] = (),
    header: bool = True,
    min_length: int = 1,
    on_duplicate: Literal["keep", "reject", "ignore"] = "keep",
    on_all_n: Literal["keep", "reject"] = "keep",
    strict: bool = False,
) -> "SequenceReader":
    """Read DNA from a file, standard input or a list, and account for every record.

    A record without a name, as in a list or in text, is named by its number from 1.

    Args:
        source: a path, "-" for standard input, an open binary file, or strings; gzip is known by its bytes.
        format: "fasta", "fastq" (four lines a record), "csv", "tsv", "parquet" or "text" (a sequence a line);
            None goes by the file's ending, then by its first bytes.
        sequence_column, id_column, label_columns, header: where a table holds what, see `Columns`.
        min_length, on_duplicate, on_all_n, strict: which records are used, see `Acceptance`.

    Returns:
        A reader to iterate over.

    Raises:
        InputError: the source cannot be opened or its format is not known (here); it holds no usable record
            or mostly other text than DNA, or is damaged (while iterating).
        RejectedRecordsError: with `strict`, records were rejected (at the end of the iteration).
        ArgumentError: an argument is out of its range.
    """
    options = ReadOptions(format, sequence_column, id_column, header, on_duplicate, on_all_n, strict)
    return options.read(source, label_columns=label_columns, min_length=min_length)


def clean_sequences(sequences: Sequence[str]) -> list[str]:
    """Clean sequences that must all be usable, because results are returned by position.

    Args:
        sequences: strings of DNA or RNA.

    Returns:
        As many strings, of upper-case A, C, G, T, N only; none is empty.

    Raises:
        InputError: sequences are empty or not DNA; the message names the first of them by index from 0.
        ArgumentError: `sequences` is one string.
    """
    if isinstance(sequences, str):
        raise ArgumentError("sequences is one str; give a list: [sequence]")
    raw = [record.sequence for record in _from_strings(sequences)]
    cleaned, counts = _core.clean(raw)
    bad = [
        f"{index} ({why_not_dna(raw[index]) if counts[index, 4] else 'empty'})"
        for index in range(len(raw))
        if counts[index, 4] or not cleaned[index]
    ]
    if bad:
        first = ", ".join(bad[:5]) + (", …" if len(bad) > 5 else "")
        raise InputError(f"{len(bad)} of {len(raw)} sequences cannot be used, at the indexes {first}")
    return cleaned


class SequenceReader:
    """The usable records of a source, in its order; made by `read_sequences`.

    A file or list can be read again, and each reading has a new report; standard input, an open file, a pipe
    and an iterator can be read once. Memory is that of one batch and, unless duplicates are ignored, of the
    ids.

    Attributes:
        name: what messages call the source.
        report: the account of the latest reading, also of one that ended with an error.
    """

    def __init__(
        self, source: Source, format: Format | None, columns: Columns, acceptance: Acceptance
    ) -> None:
        check_format(format)
        self.name = "the list of sequences"
        self.report = ReadReport()
        self._source = source
        self._format = format
        self._columns = columns
        self._acceptance = acceptance
        self._stream: ByteStream | None = None
        self._begun = False
        self._once = isinstance(source, (ReadableBytes, Iterator))
        if isinstance(source, (str, os.PathLike)):
            # A pipe gives its bytes only once, so that looking early would lose them.
            self._once = source == "-" or _is_pipe(source)
            if not self._once:
                self._open_stream().close()

    @property
    def bytes_read(self) -> int:
        """Stored bytes read so far, for a progress bar."""
        return 0 if self._stream is None else self._stream.bytes_read

    @property
    def bytes_total(self) -> int | None:
        """Stored bytes of the source, where they are known."""
        return None if self._stream is None else self._stream.bytes_total

    def __iter__(self) -> Iterator[SequenceRecord]:
        return chain.from_iterable(self.batches())

    def batches(self, bases: int = _BATCH_BASES) -> Iterator[list[SequenceRecord]]:
        """Read the records in lists.

        Args:
            bases: a list ends with the record that brings it to this many bases (before cleaning) or is the
                65,536th; so memory is bounded by this and the longest record.

        Yields:
            Lists of at least one record; all of them together are the records of the source in its order.
        """
        if bases < 1:
            raise ArgumentError(f"bases is {bases}; it must be at least 1")
        return self._read(bases)

    def _read(self, bases: int) -> Iterator[list[SequenceRecord]]:
        if self._once and self._begun:
            raise InputError(f"{self.name} can be read only once; call read_sequences again, or use a file")
        self._begun = True
        self.report = ReadReport()
        admission = Admission(self._acceptance, self.report, _make_records)
        with closing(self._cleaned_batches(bases)) as batches:
            for batch in batches:
                if admitted := admission.admit(batch):
                    yield admitted
        self.report.complete = True
        _check_usable(self.report, self.name)
        if self._acceptance.strict:
            _check_all_used(self.report, self.name)

    def _cleaned_batches(self, bases: int) -> Generator[CleanedBatch, None, None]:
        """Yield what the source holds; closing the generator closes the file."""
        if not isinstance(self._source, (str, os.PathLike, ReadableBytes)):
            _refuse_labels(self._columns, self.name)
            yield from _grouped(_from_strings(self._source), bases)
            return
        with self._open_stream() as stream:
            format = self._format_of(stream)
            if format in ("fasta", "fastq"):
                yield from _read_fasta(stream, format, bases)
            else:
                yield from _grouped(_from_stream(stream, format, self._columns), bases)

    def _open_stream(self) -> ByteStream:
        """Open the source and check what its first bytes tell."""
        assert isinstance(self._source, (str, os.PathLike, ReadableBytes))
        self._stream = stream = ByteStream(self._source)
        self.name = stream.name
        try:
            if self._format_of(stream) not in ("csv", "tsv", "parquet"):
                _refuse_labels(self._columns, stream.name)
        except BaseException:
            stream.close()
            raise
        return stream

    def _format_of(self, stream: ByteStream) -> Format:
        return self._format or detect_format(stream, self._columns.sequence)


def _make_records(ids: list[str], sequences: list[str]) -> list[SequenceRecord]:
    return _core.make_records(SequenceRecord, ids, sequences)


def _from_strings(sequences: Iterable[str]) -> Iterator[RawRecord]:
    """Yield strings as records without a name."""
    for index, sequence in enumerate(sequences):
        if not isinstance(sequence, str):
            raise InputError(
                f"sequences[{index}] is {type(sequence).__name__} ({sequence!r:.40}), expected str"
            )
        yield RawRecord("", str(sequence))


def _from_stream(stream: ByteStream, format: Format, columns: Columns) -> Iterator[RawRecord]:
    """Yield the records of a table or of text."""
    if format == "parquet":
        return read_parquet(stream, columns)
    if format == "text":
        return (RawRecord("", line.rstrip("\r\n")) for line in stream.text())
    return read_delimited(stream, "\t" if format == "tsv" else ",", columns)


def _read_fasta(stream: ByteStream, format: str, bases: int) -> Iterator[CleanedBatch]:
    """Yield the records of FASTA or FASTQ in batches of about `bases` bases."""
    parser = _core.SequenceParser(format)
    try:
        for _ in stream.feed(parser) if format == "fasta" else map(parser.feed, stream):
            while (taken := parser.take(bases, _BATCH_RECORDS)) is not None:
                yield _parsed_batch(*taken)
        parser.finish()
        while (taken := parser.take(bases, _BATCH_RECORDS, rest=True)) is not None:
            yield _parsed_batch(*taken)
    except _core.TruncatedInput as error:
        raise TruncatedInputError(f"{stream.name}: {error}") from error
    except _core.MalformedInput as error:
        raise InputError(f"{stream.name}: {error}") from error


def _parsed_batch(
    ids: list[str], sequences: list[str], counts: NDArray[np.int64], suspects: dict[int, tuple[str, str]]
) -> CleanedBatch:
    """Name what the parser hands over; FASTA and FASTQ have no labels."""
    return CleanedBatch(ids, None, sequences, counts, suspects)


def _grouped(records: Iterable[RawRecord], bases: int) -> Iterator[CleanedBatch]:
    """Collect records into batches of about `bases` bases and clean them."""
    batch: list[RawRecord] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.sequence)
        if size >= bases or len(batch) == _BATCH_RECORDS:
            yield _clean(batch)
            batch, size = [], 0
    if batch:
        yield _clean(batch)


def _clean(batch: list[RawRecord]) -> CleanedBatch:
    """Clean a batch of records."""
    sequences, changes = _core.clean([record.sequence for record in batch])
    counts = np.zeros((len(batch), 7), np.int64)
    counts[:, :5] = changes
    counts[:, 5] = [len(sequence) for sequence in sequences]
    counts[:, 6] = [not sequence.strip("N") for sequence in sequences]
    suspects = {
        index: (record.sequence, record.defect)
        for index, record in enumerate(batch)
        if record.defect or counts[index, 4] or not counts[index, 5]
    }
    labels = [record.labels for record in batch]
    return CleanedBatch([record.id for record in batch], labels, sequences, counts, suspects)


def _is_pipe(path: PathLike) -> bool:
    """Tell whether a path names a pipe, such as the shell's <(command)."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def _refuse_labels(columns: Columns, name: str) -> None:
    """Refuse label columns where there are no columns."""
    if columns.labels:
        raise ArgumentError(
            f"label_columns={columns.labels} needs a table (CSV, TSV, Parquet); {name} is none"
        )


def _check_usable(report: ReadReport, name: str) -> None:
    """Refuse a source that held nothing, or mostly something else than DNA."""
    if report.n_in == 0:
        raise InputError(f"{name} holds no records")
    not_dna = report.reasons.get("not_dna", 0)
    if 2 * not_dna > report.n_in:
        first = next((rejection for rejection in report.rejections if rejection.reason == "not_dna"), None)
        example = f" (record {first.number}, {first.id!r}: {first.detail})" if first else ""
        raise InputError(
            f"{not_dna} of the {report.n_in} records of {name} are not DNA{example}: "
            "this looks like protein or other text; give nucleotide sequences"
        )
    if report.n_out == 0:
        raise InputError(f"no record of {name} can be used: {report.summary()}")


def _check_all_used(report: ReadReport, name: str) -> None:
    """Refuse a source of which records were rejected."""
    if report.n_rejected:
        first = report.rejections[0]
        raise RejectedRecordsError(
            f"{report.n_rejected} of the {report.n_in} records of {name} were rejected (first record "
            f"{first.number}, {first.id!r}: {first.reason}, {first.detail}), and strict allows none",
            report,
        )
