"""Which genes and scores are found for which regions, against their definitions; rows to draw genes in."""

import gzip
import itertools
import random
import re
from pathlib import Path

import numpy as np
import pytest
from genome_files import write
from plotting_files import GENES, expanded, per_base, random_rows, write_bedgraph, write_parquet

from fastgenome.errors import InputError
from fastgenome.plotting import score_tracks
from fastgenome.plotting.gene_models import Gene, pack_rows, read_genes
from fastgenome.plotting.locus_index import LocusIndex
from fastgenome.plotting.score_files import read_scores
from fastgenome.plotting.segments import Segments, segments_of
from fastgenome.regions import Region


def test_read_genes_equals_the_definition(gtf: Path) -> None:
    assert read_genes(gtf, [Region("one", 0, 2000)]) == [
        Gene("G1", "ABC1", "one", 100, 400, "+", ((100, 250), (300, 400))),
        Gene("G2", "G2", "one", 350, 700, "-", ((350, 700),)),
        Gene("G3", "x<y & $z$", "one", 899, 901, ".", ((899, 901),)),
    ]
    zipped = gtf.with_name("genes.gtf.gz")
    zipped.write_bytes(gzip.compress(gtf.read_bytes()))
    names = {(400, 899): ["G2"], (399, 400): ["G1", "G2"], (700, 899): [], (900, 950): ["G3"]}
    for (start, end), expected in names.items():
        assert [gene.id for gene in read_genes(zipped, [Region("one", start, end)])] == expected
    several = read_genes(gtf, [Region("two", 0, 9), Region("one", 800, 950)])
    assert [gene.name for gene in several] == ["ELSE", "x<y & $z$"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('one\tm\tgene\t1\t9\t.\t+\tgene_id "a";', "8 fields"),
        ('one\tm\tgene\tx\t9\t.\t+\t.\tgene_id "a";', "start 'x'"),
        ('one\tm\tgene\t0\t9\t.\t+\t.\tgene_id "a";', "start . and end . are no region"),
        ('one\tm\tgene\t9\t8\t.\t+\t.\tgene_id "a";', "start . and end . are no region"),
        ('six\tm\tCDS\t1\t9\t.\t?\t.\tgene_id "a";', "strand '\\?'"),
        ('one\tm\texon\t1\t9\t.\t+\t.\tgene_name "a";', "an? exon without gene_id"),
    ],
)
def test_read_genes_names_a_malformed_line(gtf: Path, line: str, message: str) -> None:
    gtf.write_text(GENES + line + "\n" + GENES)
    with pytest.raises(InputError, match=f"{gtf.name}, line 11: {message}"):
        read_genes(gtf, [Region("one", 0, 2000)])


def test_read_genes_refuses_other_names_of_contigs(gtf: Path) -> None:
    with pytest.raises(InputError, match="no line about chrone; it has one, two"):
        read_genes(gtf, [Region("chrone", 0, 10)])


def test_read_genes_finds_the_genes_of_yeast(yeast_genes: Path) -> None:
    with gzip.open(yeast_genes, "rt") as file:
        lines = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    contigs = dict.fromkeys(line[0] for line in lines)
    expected = sorted(
        (line[0], int(line[3]) - 1, int(line[4]), line[6], re.search('gene_id "(.*?)"', line[8])[1])  # type: ignore[index]
        for line in lines
        if line[2] == "gene"
    )
    genes = read_genes(yeast_genes, [Region(contig, 0, 10**9) for contig in contigs])
    assert sorted((g.contig, g.start, g.end, g.strand, g.id) for g in genes) == expected
    assert len(genes) == 7036
    exons = sum(line[2] == "exon" for line in lines)
    assert 7036 <= sum(len(gene.exons) for gene in genes) <= exons == 7416


@pytest.mark.parametrize("gap", [0.0, 2.5])
def test_pack_rows_never_overlaps_and_wastes_no_row(gap: float) -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        starts = rng.integers(0, 100, 30)
        spans = [(float(s), float(s + size)) for s, size in zip(starts, rng.integers(1, 20, 30), strict=True)]
        rows = pack_rows(spans, gap)
        for row in set(rows):
            members = sorted(span for span, r in zip(spans, rows, strict=True) if r == row)
            assert all(a[1] + gap <= b[0] for a, b in itertools.pairwise(members))
        depth = max(sum(a <= s < b + gap for a, b in spans) for s, _ in spans)
        assert max(rows) + 1 == depth
    assert pack_rows([]) == []


CODING = """one\tm\tstop_codon\t398\t400\t.\t+\t0\tgene_id "C1";
one\tm\tCDS\t101\t200\t.\t+\t0\tgene_id "C1"; gene_name "both";
one\tm\tCDS\t301\t397\t.\t+\t0\tgene_id "C1";
one\tm\tCDS\t500\t600\t.\t-\t0\tgene_id "C2";
one\tm\tfive_prime_utr\t601\t610\t.\t-\t.\tgene_id "C2";
one\tm\tCDS\t750\t800\t.\t-\t0\tgene_id "C3";
one\tm\tgene\t701\t900\t.\t-\t.\tgene_id "C3";
one\tm\tintron\t1000\t1100\t.\t-\t.\tgene_id "C4";
"""


def test_read_genes_takes_coding_parts_where_there_are_no_exons(tmp_path: Path) -> None:
    genes = read_genes(write(tmp_path / "g.gtf", CODING), [Region("one", 0, 2000)])
    assert genes == [
        Gene("C1", "both", "one", 100, 400, "+", ((100, 200), (300, 400))),
        Gene("C2", "C2", "one", 499, 610, "-", ((499, 610),)),
        Gene("C3", "C3", "one", 700, 900, "-", ((749, 800),)),
    ]
    without = write(tmp_path / "bad.gtf", CODING + CODING.replace('gene_id "C2"', 'name "C2"'))
    with pytest.raises(InputError, match="line 12: a CDS without gene_id"):
        read_genes(without, [Region("one", 0, 2000)])


def random_spans(draw: random.Random, count: int) -> list[tuple[str, int, int]]:
    starts = [draw.randrange(300) for _ in range(count)]
    return [(draw.choice("ab"), start, start + draw.randint(1, 30)) for start in starts]


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_locus_index_equals_the_definition(count: int) -> None:
    draw = random.Random(count)
    seen = set()
    for _ in range(100):
        loci = [Region(*span) for span in random_spans(draw, count)]
        index = LocusIndex(loci)
        assert index.contigs == tuple(dict.fromkeys(locus.contig for locus in loci))
        for name in "abc":
            spans = [(start, end) for _, start, end in random_spans(draw, 20)]
            expected = [
                any(name == contig and a < end and start < b for contig, a, b in loci) for start, end in spans
            ]
            assert [index.touches(name, *span) for span in spans] == expected
            assert index.touched(name, *np.array(spans).T).tolist() == expected
            seen.update(expected)
    assert seen == ({True, False} if count else {False})


class Counted(int):
    """A number that counts how often any of its kind is compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) < other

    def __gt__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) > other

    def __le__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) <= other


def test_reading_for_many_loci_compares_each_line_with_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3000
    loci = [Region("one", Counted(100 * i), Counted(100 * i + 10)) for i in range(count)]
    places = [random.Random(i).randrange(100 * count - 100) for i in range(count)]
    genes = "".join(
        f'one\tm\tgene\t{at + 1}\t{at + 20}\t.\t+\t.\tgene_id "{at}";\n' for at in dict.fromkeys(places)
    )
    graph = write_bedgraph(tmp_path / "t.bedgraph", [("one", at, at + 20, 1.0) for at in places])
    expected = sorted(at for at in places if at % 100 < 10 or at % 100 > 80)
    limit = 40 * 2 * count
    monkeypatch.setattr(Counted, "compared", 0)
    found = read_genes(write(tmp_path / "g.gtf", genes), loci)
    assert [gene.start for gene in found] == sorted(set(expected))
    assert count < Counted.compared < limit
    monkeypatch.setattr(Counted, "compared", 0)
    intervals = read_scores(graph, loci).tracks[0].intervals["one"]
    assert intervals.starts.tolist() == expected
    assert count < Counted.compared < limit


def test_segments_of_a_locus_are_those_of_all_that_lies_over_it(tmp_path: Path) -> None:
    rows = [*random_rows(5, 3000, overlap=True), ("one", 7, 2000, 1.0), ("one", 500, 900, 2.0)]
    random.Random(1).shuffle(rows)
    draw = random.Random(2)
    for track in read_scores(write_parquet(tmp_path / "t.parquet", rows)).tracks:
        for _ in range(100):
            start = draw.randrange(3000)
            locus = Region("one", start, start + draw.randint(1, 200))
            found = expanded(track.segments(locus), *locus[1:])
            np.testing.assert_allclose(found, per_base(rows, *locus), rtol=0, atol=1e-12)


def test_segments_of_many_loci_look_at_few_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    def counting(starts: np.ndarray, *rest: object) -> Segments:
        looked_at.append(len(starts))
        return segments_of(starts, *rest)

    monkeypatch.setattr(score_tracks, "segments_of", counting)
    rows = [("one", 10 * i, 10 * i + 10, float(i)) for i in range(5000)]
    random.Random(1).shuffle(rows)
    (track,) = read_scores(write_parquet(tmp_path / "t.parquet", rows)).tracks
    for i in range(500):
        segments = track.segments(Region("one", 100 * i + 45, 100 * i + 55))
        assert segments.values.tolist() == [10 * i + 4, 10 * i + 5]
    assert looked_at == [2] * 500
