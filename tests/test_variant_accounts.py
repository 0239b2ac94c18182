"""The account of scored variants: each allele is scored or rejected with the reason of its definition."""

import random
from collections import Counter
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from genome_files import write
from scored_variants import (
    ONE,
    WINDOW,
    make_predictor,
)
from small_variants import (
    Line,
    fasta,
    random_contigs,
    random_line,
    vcf,
    verdict,
)

import fastgenome as fg
from fastgenome.scoring import allele_table

pytest.importorskip("pysam")


@pytest.fixture(scope="module")
def predictor() -> fg.Predictor:
    return make_predictor()


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allele_table, "_SHARD_ALLELES", 16)


def test_score_variants_accounts_for_every_allele_of_generated_files(
    predictor: fg.Predictor, tmp_path: Path
) -> None:
    draw = random.Random(2)
    total: Counter[str] = Counter()
    for number in range(40):
        contigs = random_contigs(draw)
        lines = [random_line(draw, contigs) for _ in range(draw.randint(0, 40))]
        # What htslib refuses to read is not what is tried here.
        lines = [line for line in lines if "Q" not in line.alts and "Aw" not in line.ref]
        source = write(tmp_path / f"{number}.vcf", vcf(lines))
        genome = write(tmp_path / f"{number}.fa", fasta(contigs))
        out = tmp_path / f"{number}.vcf"
        outs = [tmp_path / f"{number}.out.vcf", tmp_path / f"{number}.out.parquet"]
        report = fg.score_variants(
            predictor, source, genome, out=outs, window=WINDOW, max_ref_mismatch=1, run=ONE
        )
        found = [verdict(contigs, line, alt, WINDOW, 0.1) for line in lines for alt in line.alts or ("",)]
        reasons = Counter(reason for reason in found if isinstance(reason, str))
        assert report.n_records == len(lines)
        assert report.n_in == len(found) == report.n_scored + sum(report.reasons.values())
        assert report.reasons == reasons
        assert parquet.read_table(outs[1]).num_rows == report.n_scored
        check_rejects(Path(f"{outs[0]}.rejected.tsv"), contigs, lines)
        total.update(reasons)
        out.unlink()
    assert len(total) >= 12


def check_rejects(path: Path, contigs: dict[str, str], lines: list[Line]) -> None:
    """Every rejected allele stands in the table, and no other."""
    rows = [row.split("\t") for row in path.read_text().splitlines()]
    assert rows[0] == ["record", "contig", "start", "end", "id", "ref", "alt", "reason"]
    expected = [
        [str(number), line.contig, str(line.pos - 1), line.ref, alt, reason]
        for number, line in enumerate(lines, 1)
        for alt in line.alts or ("",)
        if isinstance(reason := verdict(contigs, line, alt, WINDOW, 0.1), str)
    ]
    assert [[row[i] for i in (0, 1, 2, 5, 6, 7)] for row in rows[1:]] == expected
