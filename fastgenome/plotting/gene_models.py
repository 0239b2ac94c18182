"""Genes of a GTF file, and rows to draw them in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fastgenome.errors import InputError
from fastgenome.plotting.locus_index import LocusIndex, joined
from fastgenome.regions import Region
from fastgenome.streams import ByteStream, PathLike

# What tells where a gene lies.
_WHOLE = frozenset({"gene", "transcript", "exon"})
# What lies within exons, and together makes them up where a file names none.
_PARTS = frozenset(
    {"CDS", "start_codon", "stop_codon", "UTR", "5UTR", "3UTR", "five_prime_utr", "three_prime_utr"}
)
_FEATURES = _WHOLE | _PARTS
# Every attribute, wanted or not: what stands between quotes may look like another one.
_ATTRIBUTE = re.compile(r'([^\s;"]+)\s+(?:"([^"]*)"|([^\s;"]+))')


class Gene(NamedTuple):
    """A gene; positions are 0-based, half-open.

    Attributes:
        strand: "+", "-" or ".".
        exons: (start, end) of the exons of all its transcripts, joined where they overlap, in order;
            where the file names none, its coding and untranslated parts; without these all of it.
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

    strand: str
    name: str = ""
    span: tuple[int, int] | None = None
    exons: list[tuple[int, int]] = field(default_factory=list)
    parts: list[tuple[int, int]] = field(default_factory=list)


def read_genes(path: PathLike, loci: Sequence[Region]) -> list[Gene]:
    """Read the genes of a GTF file, plain or gzip, that touch any of some loci.

    A gene is what the lines of one gene_id on one contig cover, whether or not it has a line of its own;
    coding parts count where it has no exon, transcript or gene. Its name is gene_name where there is one.
    Every line is checked.

    Returns:
        Genes in order of contig (that of the loci), start and end.

    Raises:
        InputError: the file cannot be read, a line is malformed (its number is named), or no line is about
            any contig of the loci, as when one file says "IV" and the other "chrIV".
    """
    index = LocusIndex(loci)
    order = {contig: place for place, contig in enumerate(index.contigs)}
    drafts: dict[tuple[str, str], _Draft] = {}
    contigs: dict[str, None] = {}
    with ByteStream(path) as stream:
        for number, line in enumerate(stream.text(), 1):
            if line.startswith("#") or not line.strip():
                continue
            try:
                contig, feature, start, end, strand, attributes = _fields(line.rstrip("\r\n"))
                contigs[contig] = None
                if contig in order and feature in _FEATURES:
                    _add(drafts, contig, feature, start, end, strand, attributes)
            except ValueError as error:
                raise InputError(f"{stream.name}, line {number}: {error}") from None
    if not order.keys() & contigs.keys():
        names = ", ".join(list(contigs)[:10]) + (", …" if len(contigs) > 10 else "")
        raise InputError(f"{path} has no line about {', '.join(order)}; it has {names or 'no line at all'}")
    genes = [_gene(contig, gene_id, draft) for (contig, gene_id), draft in drafts.items()]
    touching = [gene for gene in genes if index.touches(gene.contig, gene.start, gene.end)]
    return sorted(touching, key=lambda gene: (order[gene.contig], gene.start, gene.end, gene.id))


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
    draft = drafts.setdefault((contig, gene_id), _Draft(strand))
    draft.name = draft.name or found.get("gene_name", "")
    if feature in _PARTS:
        draft.parts.append((start, end))
        return
    first, last = draft.span or (start, end)
    draft.span = min(first, start), max(last, end)
    if feature == "exon":
        draft.exons.append((start, end))


def _gene(contig: str, gene_id: str, draft: _Draft) -> Gene:
    parts = joined(draft.parts)
    start, end = draft.span or (parts[0][0], parts[-1][1])
    exons = joined(draft.exons) or parts or [(start, end)]
    return Gene(gene_id, draft.name or gene_id, contig, start, end, draft.strand, tuple(exons))


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
