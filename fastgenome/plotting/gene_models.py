"""Genes of a GTF file, and rows to draw them in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fastgenome.errors import InputError
from fastgenome.regions import Region
from fastgenome.streams import ByteStream, PathLike

# What tells where a gene lies; coding parts and codons lie within exons.
_FEATURES = ("gene", "transcript", "exon")
# Every attribute, wanted or not: what stands between quotes may look like another one.
_ATTRIBUTE = re.compile(r'([^\s;"]+)\s+(?:"([^"]*)"|([^\s;"]+))')


class Gene(NamedTuple):
    """A gene; positions are 0-based, half-open.

    Attributes:
        strand: "+", "-" or ".".
        exons: (start, end) of the exons of all its transcripts, joined where they overlap, in order; all of
            the gene where the file names none.
    """

    id: str
    name: str
    contig: str
    start: int
    end: int
    strand: str
    exons: tuple[tuple[int, int], ...]


@dataclass
class _Draft:
    """What the lines read so far say of a gene."""

    name: str
    start: int
    end: int
    strand: str
    exons: list[tuple[int, int]] = field(default_factory=list)


def read_genes(path: PathLike, loci: Sequence[Region]) -> list[Gene]:
    """Read the genes of a GTF file, plain or gzip, that touch any of some loci.

    A gene is what the lines of one gene_id on one contig cover, whether or not it has a line of its own; its
    name is gene_name where there is one. Every line is checked.

    Returns:
        Genes in order of contig (that of the loci), start and end.

    Raises:
        InputError: the file cannot be read, a line is malformed (its number is named), or no line is about
            any contig of the loci, as when one file says "IV" and the other "chrIV".
    """
    wanted = dict.fromkeys(locus.contig for locus in loci)
    drafts: dict[tuple[str, str], _Draft] = {}
    contigs: dict[str, None] = {}
    with ByteStream(path) as stream:
        for number, line in enumerate(stream.text(), 1):
            if line.startswith("#") or not line.strip():
                continue
            try:
                contig, feature, start, end, strand, attributes = _fields(line.rstrip("\r\n"))
                contigs[contig] = None
                if contig in wanted and feature in _FEATURES:
                    _add(drafts, contig, feature, start, end, strand, attributes)
            except ValueError as error:
                raise InputError(f"{stream.name}, line {number}: {error}") from None
    if not wanted.keys() & contigs.keys():
        names = ", ".join(list(contigs)[:10]) + (", …" if len(contigs) > 10 else "")
        raise InputError(f"{path} has no line about {', '.join(wanted)}; it has {names or 'no line at all'}")
    order = list(wanted)
    genes = [_gene(contig, gene_id, draft) for (contig, gene_id), draft in drafts.items()]
    touching = [gene for gene in genes if any(_touches(gene, locus) for locus in loci)]
    return sorted(touching, key=lambda gene: (order.index(gene.contig), gene.start, gene.end, gene.id))


def _fields(line: str) -> tuple[str, str, int, int, str, str]:
    """Contig, feature, start and end (0-based, half-open), strand, attributes; ValueError where wrong."""
    fields = line.split("\t")
    if len(fields) != 9:
        raise ValueError(f"{len(fields)} fields; a GTF line has 9, parted by tabs")
    contig, _, feature, first, last, _, strand, _, attributes = fields
    if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        raise ValueError(f"start {first!r} and end {last!r} are not both whole numbers")
    start, end = int(first) - 1, int(last)
    if not 0 <= start < end < 2**63:
        raise ValueError(f"start {first} and end {last} are no region; bases are counted from 1")
    if strand not in ("+", "-", "."):
        raise ValueError(f"strand {strand!r} is none of + - .")
    return contig, feature, start, end, strand, attributes


def _add(
    drafts: dict[tuple[str, str], _Draft],
    contig: str,
    feature: str,
    start: int,
    end: int,
    strand: str,
    attributes: str,
) -> None:
    """Extend the gene of a line by it."""
    found = {name: quoted or plain for name, quoted, plain in _ATTRIBUTE.findall(attributes)}
    gene_id = found.get("gene_id", "")
    if not gene_id:
        raise ValueError(f'a {feature} without gene_id "…" among its attributes')
    draft = drafts.setdefault((contig, gene_id), _Draft("", start, end, strand))
    draft.name = draft.name or found.get("gene_name", "")
    draft.start, draft.end = min(draft.start, start), max(draft.end, end)
    if feature == "exon":
        draft.exons.append((start, end))


def _gene(contig: str, gene_id: str, draft: _Draft) -> Gene:
    exons = _joined(draft.exons) or ((draft.start, draft.end),)
    return Gene(gene_id, draft.name or gene_id, contig, draft.start, draft.end, draft.strand, exons)


def _joined(spans: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join spans that overlap or meet."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return tuple(joined)


def _touches(gene: Gene, locus: Region) -> bool:
    return gene.contig == locus.contig and gene.start < locus.end and locus.start < gene.end


def pack_rows(spans: Sequence[tuple[float, float]], gap: float = 0.0) -> list[int]:
    """Give every span the first row in which it lies at least `gap` behind those before it.

    Spans are taken by their starts, so there are as few rows as spans over one place.

    Returns:
        The row of each span, from 0, in the order given.
    """
    rows = [0] * len(spans)
    ends: list[float] = []
    for index in sorted(range(len(spans)), key=lambda i: spans[i]):
        start, end = spans[index]
        row = next((row for row, last in enumerate(ends) if last + gap <= start), len(ends))
        if row == len(ends):
            ends.append(end)
        ends[row] = end
        rows[index] = row
    return rows
