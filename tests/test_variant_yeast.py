"""Variants of a real genome, made from its own bases: every count, and a wrong build."""

import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from genome_files import bgzf, write
from scored_variants import FIGURES, ONE, one_score, table_scores
from small_variants import Line, edited, fasta, vcf

import fastgenome as fg
from fastgenome.errors import InputError
from fastgenome.scoring import allele_table
from fastgenome.sequences import read_sequences

pysam = pytest.importorskip("pysam")


@pytest.fixture(scope="module")
def chromosomes(yeast: Path) -> dict[str, str]:
    return {record.id: record.sequence for record in read_sequences(yeast)}


def yeast_lines(chromosomes: dict[str, str]) -> list[Line]:
    """10,000 true single-base changes, insertions and deletions, 50 with a wrong REF, 20 symbolic ones."""
    draw = random.Random(17)
    lines = []
    for number in range(10_070):
        name = draw.choices(list(chromosomes), [len(letters) for letters in chromosomes.values()])[0]
        start = draw.randrange(len(chromosomes[name]) - 60)
        kind = draw.choice(["change", "change", "insertion", "deletion", "both"])
        ref = chromosomes[name][start : start + (draw.randint(2, 50) if kind in ("deletion", "both") else 1)]
        alt = draw.choice([base for base in "ACGT" if base != ref[0]])
        if kind != "change":
            alt = ref[0] + "".join(draw.choices("ACGT", k=draw.randint(1, 50) if kind != "deletion" else 0))
        line = Line(name, start + 1, f"v{number}", ref, (alt,))
        if number < 50:
            line = line._replace(ref=next(base for base in "ACGT" if base != ref[0]), alts=(ref[0],))
        elif number < 70:
            line = line._replace(ref=ref[0], alts=(draw.choice(["<DEL>", "<DUP>", "<INV>"]),))
        elif alt == ref:
            line = line._replace(alts=(alt + "A",))
        lines.append(line)
    draw.shuffle(lines)
    return lines


def test_score_variants_of_yeast_counts_as_the_rules_say(
    predictor: fg.Predictor,
    yeast: Path,
    chromosomes: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(allele_table, "_SHARD_ALLELES", 1 << 13)
    lines = yeast_lines(chromosomes)
    source = write(tmp_path / "in.vcf.gz", bgzf(vcf(lines).encode(), 60_000))
    outs = [tmp_path / "out.vcf.gz", tmp_path / "out.parquet"]
    window = 120
    report = fg.score_variants(predictor, source, yeast, out=outs, window=window, run=ONE)
    assert (report.n_in, report.n_scored) == (10_070, 10_000)
    assert report.reasons == {"ref_mismatch": 50, "symbolic_allele": 20}
    table = parquet.read_table(outs[1])
    rows = iter(zip(*(table[name].to_pylist() for name in FIGURES), strict=True))
    with pysam.VariantFile(str(outs[0])) as file:
        for line, record in zip(lines, file, strict=True):
            assert record.id == line.id
            found = tuple(record.info[f"FG_{name}"][0] for name in FIGURES)
            assert found == ((None,) * 3 if found[0] is None else next(rows))
    scores = table_scores(outs[1])
    names = {name: place for place, name in enumerate(table["id"].to_pylist())}
    for line in lines[:60]:
        if line.id in names:
            windows = edited(chromosomes[line.contig], line.pos - 1, line.ref, line.alts[0], window)
            expected = [one_score(predictor, letters, "both") for letters in windows]
            np.testing.assert_allclose(scores[names[line.id], :2], expected, rtol=0, atol=2e-6)


def test_score_variants_of_yeast_stops_at_another_genome(
    predictor: fg.Predictor, yeast: Path, chromosomes: dict[str, str], tmp_path: Path
) -> None:
    source = write(tmp_path / "in.vcf", vcf(yeast_lines(chromosomes)))
    swapped = {name: letters[::-1] for name, letters in chromosomes.items()}
    genome = write(tmp_path / "swapped.fa", fasta(swapped))
    results = tmp_path / "results"
    results.mkdir()
    with pytest.raises(InputError, match=r"of 10,050 lines.*probable wrong build"):
        fg.score_variants(predictor, source, genome, out=results / "out.vcf.gz", window=120, run=ONE)
    assert list(results.iterdir()) == []
