"""The options that commands share, and what their texts mean."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fastgenome.sequences import ReadOptions

Input = Annotated[
    str, typer.Argument(help="FASTA, FASTQ, CSV, TSV, Parquet or text, plain or gzip; - is stdin")
]
ModelName = Annotated[str, typer.Option("--model", help="name or directory of a model")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16")]
Species = Annotated[str | None, typer.Option(help="species token of a SpeciesLM model")]
Prompt = Annotated[
    str | None, typer.Option(help='domain of the prompt of an OPT model, such as "DNA Promoter"')
]
Out = Annotated[
    str, typer.Option("--out", "-o", help="file to write: .parquet, .tsv, .csv, .npy; - is stdout")
]
WindowSize = Annotated[int | None, typer.Option(help="cut records into windows of this many bases")]
Stride = Annotated[int | None, typer.Option(help="bases from one window to the next; default: the window")]
Json = Annotated[bool, typer.Option("--json", help="print the report as JSON")]
Emissions = Annotated[bool, typer.Option("--emissions", help="measure energy and CO2e")]
Strict = Annotated[
    bool, typer.Option("--strict", help="fail, and leave no output, when any record is rejected")
]
InputFormat = Annotated[
    str | None,
    typer.Option("--format", help="fasta, fastq, csv, tsv, parquet or text; default: told by the file"),
]
SequenceColumn = Annotated[str, typer.Option(help="column of a table, by name, or from 0 with --no-header")]
IdColumn = Annotated[
    str | None,
    typer.Option(help="column of names; default: id where there is one, else records are numbered"),
]
NoHeader = Annotated[bool, typer.Option("--no-header", help="the table's first line is data")]
Duplicates = Annotated[str, typer.Option(help="repeated ids: keep (and count), reject or ignore")]
AllN = Annotated[str, typer.Option(help="records of N alone: keep (and count) or reject")]
FeatureSets = Annotated[str, typer.Option("--features", help="comma-separated: zcurve, gc, kmer")]


def as_column(text: str, *, header: bool) -> str | int:
    """A column by its name in the header, or by number from 0 where there is none."""
    return text if header or not text.isdecimal() else int(text)


def feature_names(text: str) -> tuple[str, ...]:
    """The feature sets named in a text, with commas between them."""
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def show_progress(as_json: bool) -> bool:
    """Whether somebody sees a progress bar."""
    return sys.stderr.isatty() and not as_json


def read_options(
    format: str | None,
    sequence_column: str,
    id_column: str | None,
    no_header: bool,
    duplicates: str,
    all_n: str,
    strict: bool,
) -> ReadOptions:
    """The options of reading; their values are checked where they are used."""
    return ReadOptions(
        format=format,  # type: ignore[arg-type]
        sequence_column=as_column(sequence_column, header=not no_header),
        id_column=None if id_column is None else as_column(id_column, header=not no_header),
        header=not no_header,
        on_duplicate=duplicates,  # type: ignore[arg-type]
        on_all_n=all_n,  # type: ignore[arg-type]
        strict=strict,
    )
