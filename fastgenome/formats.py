"""Which format a source of sequences has, by its ending or by its first bytes."""

from pathlib import PurePath
from typing import Literal, TypeAlias, get_args

from fastgenome.cleaning import NUCLEOTIDE_CODES
from fastgenome.errors import ArgumentError, InputError
from fastgenome.streams import ByteStream

Format: TypeAlias = Literal["fasta", "fastq", "csv", "tsv", "parquet", "text"]

_ENDINGS: dict[str, Format] = {
    **dict.fromkeys((".fa", ".fasta", ".fna", ".ffn", ".frn", ".fas", ".fsa"), "fasta"),
    **dict.fromkeys((".fq", ".fastq"), "fastq"),
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    ".csv": "csv",
}
_MAGIC: dict[bytes, Format] = {b">": "fasta", b"@": "fastq", b"PAR1": "parquet"}


def check_format(format: str | None) -> None:
    """Refuse a format that is not read."""
    if format is not None and format not in get_args(Format):
        raise ArgumentError(f"format is {format!r}; use one of {', '.join(get_args(Format))}")


def detect_format(stream: ByteStream, sequence_column: str | int) -> Format:
    """Tell the format of a stream by its ending or, failing that, by its first bytes.

    Without a known ending, a table is one whose first line names `sequence_column`, and text is what begins
    with a line of nucleotide letters.

    Raises:
        InputError: neither tells; the message names the argument that does.
    """
    name = PurePath(stream.name)
    suffix = name.suffix.lower()
    if suffix in (".gz", ".bgz"):
        suffix = PurePath(name.stem).suffix.lower()
    if suffix in _ENDINGS:
        return _ENDINGS[suffix]
    head = stream.head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, format in _MAGIC.items():
        if head.startswith(magic):
            return format
    if not head:
        raise InputError(f"{stream.name} is empty: it holds no records")
    line = head.splitlines()[0].decode("utf-8", errors="replace")
    if sequence_column in [field.strip('"') for field in line.split("\t")] and "\t" in line:
        return "tsv"
    if sequence_column in [field.strip('"') for field in line.split(",")]:
        return "csv"
    if suffix == ".txt" or set(line.strip().upper()) <= NUCLEOTIDE_CODES:
        return "text"
    raise InputError(
        f"neither the ending nor the first bytes tell the format of {stream.name}; "
        f"pass format= one of {', '.join(get_args(Format))}"
    )
