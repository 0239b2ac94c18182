"""Scored variants as VCF, BCF or a table: what the input says stays as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice, pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastgenome.atomic import atomic_file, atomic_path, unfinished
from fastgenome.bgzf import BgzfFile, BgzfWriter
from fastgenome.errors import InputError
from fastgenome.records import Rejection
from fastgenome.scoring.allele_checks import REASONS
from fastgenome.scoring.bcf_records import bcf_header, read_bcf
from fastgenome.scoring.variant_fields import InfoField
from fastgenome.scoring.writers import Column, open_writer
from fastgenome.streams import ByteStream
from fastgenome.variants import import_pysam, open_hts

if TYPE_CHECKING:
    import pyarrow as pa

VCF_ENDINGS = (".vcf", ".vcf.gz", ".bcf")
TABLE_ENDINGS = (".parquet", ".tsv", ".tsv.gz", ".csv", ".csv.gz")


class _Figures(NamedTuple):
    """Of one line: where it lies, and for each field the values of its alleles; none for a line without."""

    contig: str
    start: int
    values: list[list[Any]]


def is_vcf(path: Path) -> bool:
    """Whether a file is to be VCF or BCF."""
    return path.name.lower().endswith(VCF_ENDINGS)


def write_table(
    path: Path, tables: Iterable[pa.Table], figures: Sequence[str], metadata: Mapping[str, str]
) -> None:
    """Write a row for each scored allele: contig, start, end (of REF), id, ref, alt and the figures.

    Coordinates are 0-based, half-open; contigs are named as in the input.
    """
    import pyarrow.compute as compute

    with open_writer(path, metadata=metadata) as writer:
        for table in tables:
            scored = table.filter(compute.equal(table["reason"], ""))
            if scored.num_rows:
                writer.write(_place_columns(scored) | {name: scored[name].to_numpy() for name in figures})
        if not writer.has_columns:
            writer.write(_no_places() | {name: np.empty(0, dtype=np.float32) for name in figures})


def write_rejects(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write a row for each rejected allele: record (its line, from 1), place, id, ref, alt and the reason."""
    with open_writer(path) as writer:
        for rejected in _rejected(tables):
            reasons = rejected["reason"].to_pylist()
            numbers = rejected["record"].to_numpy() + 1
            writer.write({"record": numbers, **_place_columns(rejected), "reason": reasons})
        if not writer.has_columns:
            nothing = np.empty(0, dtype=np.int64)
            writer.write({"record": nothing, **_no_places(), "reason": np.empty(0, dtype=str)})


def first_rejections(tables: Iterable[pa.Table], most: int = 1000) -> list[Rejection]:
    """The first rejected alleles, each with the number of its line from 1; long alleles are shortened."""
    names = ("record", "id", "contig", "start", "reference", "alternative", "reason")
    rows = (
        row
        for rejected in _rejected(tables)
        for row in zip(*(rejected[name].to_pylist() for name in names), strict=True)
    )
    return [
        Rejection(
            record + 1,
            identifier or f"{contig}:{start + 1}",
            reason,
            f"{contig}:{start + 1} {_short(reference)}>{_short(alternative) or '.'}: {REASONS[reason]}",
        )
        for record, identifier, contig, start, reference, alternative, reason in islice(rows, most)
    ]


def write_variants(
    path: Path, source: Path, tables: Iterable[pa.Table], fields: Sequence[InfoField], note: str
) -> None:
    """Write the lines of a VCF or BCF file again, in their order, with figures added to INFO.

    A VCF file that becomes a VCF file keeps every byte but for the fields added. BCF needs a whole header:
    contigs and tags that VCF does not declare are declared there; records of BCF keep every byte, too.

    Raises:
        InputError: the source has changed since its alleles were read, or cannot be written as BCF.
    """
    additions = [f"##fastgenome={note}", *(field.header_line for field in fields)]
    if not path.name.lower().endswith(".bcf"):
        with _open_text(path) as write, open_lines(source) as (header, lines):
            write(b"".join(_extended(header, additions)))
            for line in _annotated(lines, _of_lines(tables, fields, _as_texts), fields, source):
                write(line)
        return
    if is_bcf(source):
        _annotate_bcf(path, source, tables, fields, additions)
    else:
        _convert_to_bcf(path, source, tables, fields, additions)


def is_bcf(source: Path) -> bool:
    """Whether a file is BCF, by its first bytes."""
    with ByteStream(source) as stream:
        return stream.head.startswith(b"BCF")


@contextmanager
def open_lines(source: Path) -> Iterator[tuple[list[bytes], Iterator[bytes]]]:
    """Open VCF as it stands, or BCF as htslib writes it: the lines of the header, and the others."""
    if is_bcf(source):
        with open_hts(source) as file:
            header = str(file.header).encode().splitlines(keepends=True)
            yield header, (str(record).encode() for record in file)
        return
    with ByteStream(source) as stream:
        lines = iter(stream.binary())
        header = []
        for line in lines:
            header.append(line)
            if line.startswith(b"#CHROM"):
                break
        yield header, lines


def _annotate_bcf(
    path: Path, source: Path, tables: Iterable[pa.Table], fields: Sequence[InfoField], additions: list[str]
) -> None:
    """BCF to BCF, with numbers added to its records; htslib's text would round those that are there."""
    with open_hts(source) as file:
        header = file.header
        contigs = {contig.id: name for name, contig in header.contigs.items()}
        known = (*header.info.values(), *header.filters.values(), *header.formats.values())
        free = 1 + max((entry.id for entry in known), default=0)
    lines = [additions[0], *(line[:-1] + f",IDX={free + i}>" for i, line in enumerate(additions[1:]))]
    with ByteStream(source) as stream, _open_packed(path) as write:
        magic, text, records = read_bcf(stream.binary(), str(source))
        write(bcf_header(magic, b"".join(_extended(text.splitlines(keepends=True), lines))))
        for record, figures in _paired(records, _of_lines(tables, fields, _as_numbers), source):
            if (contigs.get(record.contig), record.position) != figures[:2]:
                raise _changed(source)
            write(record.with_numbers([(free + i, values) for i, values in enumerate(figures.values)]))


def _convert_to_bcf(
    path: Path, source: Path, tables: Iterable[pa.Table], fields: Sequence[InfoField], additions: list[str]
) -> None:
    """VCF to BCF, by way of a VCF whose header declares all that its lines use."""
    pysam = import_pysam()
    import pysam.bcftools as bcftools

    with open_hts(source) as reader:
        # htslib declares what it meets as it reads.
        for _ in reader:
            pass
        header = str(reader.header).encode().splitlines(keepends=True)
    with (
        tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".partial") as file,
        open_lines(source) as (_, lines),
    ):
        text = BgzfWriter(file, level=1)
        annotated = _annotated(lines, _of_lines(tables, fields, _as_texts), fields, source)
        for line in chain(_extended(header, additions), annotated):
            text.write(line)
        text.close()
        file.flush()
        with atomic_path(path) as hidden:
            # Not pysam's own writer, which adds END to INFO and takes it away.
            try:
                bcftools.view("--no-version", "-Ob", "-o", str(hidden), file.name, catch_stdout=False)
            except pysam.SamtoolsError as error:
                if "close failed" in str(error) or "cannot write" in str(error):
                    raise unfinished(path, error) from error
                raise InputError(
                    f"{str(source)!r} cannot be written as BCF: {error}; write .vcf.gz"
                ) from error
            BgzfFile(hidden).close()


@contextmanager
def _open_text(path: Path) -> Iterator[Callable[[bytes], object]]:
    """A file, bgzip by its ending, that appears when the block ends well."""
    if path.name.lower().endswith(".gz"):
        with _open_packed(path) as write:
            yield write
    else:
        with atomic_file(path) as file:
            yield file.write


@contextmanager
def _open_packed(path: Path) -> Iterator[Callable[[bytes], object]]:
    with atomic_file(path) as file:
        packed = BgzfWriter(file)
        yield packed.write
        packed.close()


def _extended(header: Sequence[bytes], additions: Sequence[str]) -> list[bytes]:
    """The header with further lines before its last one, their ends like that one's."""
    end = b"\r\n" if header[-1].endswith(b"\r\n") else b"\n"
    return [*header[:-1], *(line.encode() + end for line in additions), header[-1]]


def _annotated(
    lines: Iterable[bytes], figures: Iterator[_Figures], fields: Sequence[InfoField], source: Path
) -> Iterator[bytes]:
    """Lines of VCF with the figures of their alleles at the end of INFO."""
    names = [field.id for field in fields]
    for line, (contig, start, values) in _paired(lines, figures, source):
        cells = line.split(b"\t", 8)
        if len(cells) < 8 or cells[0] != contig.encode() or int(cells[1]) != start + 1:
            raise _changed(source)
        if values:
            info = cells[7].rstrip(b"\r\n")
            added = ";".join(
                f"{name}={','.join(texts)}" for name, texts in zip(names, values, strict=True)
            ).encode()
            # Some files end INFO with the mark between two fields.
            mark = b"" if info.endswith(b";") else b";"
            cells[7] = (added if info in (b"", b".") else info + mark + added) + cells[7][len(info) :]
        yield b"\t".join(cells)


def _paired(
    lines: Iterable[Any], figures: Iterator[_Figures], source: Path
) -> Iterator[tuple[Any, _Figures]]:
    """Each line with its figures; InputError where there are more of one than of the other."""
    for line, found in zip_longest(lines, figures):
        if line is None or found is None:
            raise _changed(source)
        yield line, found


def _of_lines(
    tables: Iterable[pa.Table], fields: Sequence[InfoField], convert: Callable[[Any], list[Any]]
) -> Iterator[_Figures]:
    """The figures of each line, in order; the alleles of a line stand in one table."""
    for table in tables:
        contigs, starts, numbers = (table[name].to_pylist() for name in ("contig", "start", "number"))
        columns = [convert(table[field.figure]) for field in fields]
        borders = np.flatnonzero(np.diff(table["record"].to_numpy())) + 1
        edges = [0, *borders.tolist(), table.num_rows]
        for first, last in pairwise(edges):
            values = [column[first:last] for column in columns] if numbers[first] else []
            yield _Figures(contigs[first], starts[first], values)


def _as_texts(column: Any) -> list[str]:
    """Numbers in the fewest digits that give them back, "." for none."""
    return list(column.cast("string").fill_null(".").to_pylist())


def _as_numbers(column: Any) -> list[float | None]:
    return list(column.to_pylist())


def _place_columns(table: pa.Table) -> dict[str, Column]:
    return {
        "contig": table["contig"].to_pylist(),
        "start": table["start"].to_numpy(),
        "end": table["end"].to_numpy(),
        "id": table["id"].to_pylist(),
        "ref": table["reference"].to_pylist(),
        "alt": table["alternative"].to_pylist(),
    }


def _no_places() -> dict[str, Column]:
    """The columns of no alleles, of the types that those of alleles have."""
    numbers, texts = np.empty(0, dtype=np.int64), np.empty(0, dtype=str)
    return {"contig": texts, "start": numbers, "end": numbers, "id": texts, "ref": texts, "alt": texts}


def _rejected(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rejected alleles of those tables that have any."""
    import pyarrow.compute as compute

    for table in tables:
        rejected = table.filter(compute.not_equal(table["reason"], ""))
        if rejected.num_rows:
            yield rejected


def _short(allele: str) -> str:
    return allele if len(allele) <= 50 else f"{allele[:49]}…"


def _changed(source: Path) -> InputError:
    return InputError(f"{str(source)!r} has changed while it was scored; run the job again")
