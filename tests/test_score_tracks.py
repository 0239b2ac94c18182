"""Tracks of scores: numbers beyond all bounds, regions close together, names and lengths of contigs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from genome_files import two_bit, write
from scored_variants import ONE, WINDOW, make_contigs, make_predictor
from small_variants import fasta

import fastgenome as fg
from fastgenome.errors import ArgumentError
from fastgenome.scoring.scorer import Scorer
from fastgenome.scoring.tracks import check_contigs

pyBigWig = pytest.importorskip("pyBigWig")

CONTIGS = make_contigs()


@pytest.fixture(scope="module")
def predictor() -> fg.Predictor:
    return make_predictor()


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    return write(tmp_path / "g.fa", fasta(CONTIGS))


def score(
    predictor: fg.Predictor, genome: Path, **options: Any
) -> tuple[Any, list[tuple[Any, ...]], list[Any]]:
    """The report, the rows (contig, start, score) of Parquet, and those of bigWig with their ends."""
    outs = [genome.with_name("out.parquet"), genome.with_name("out.bw")]
    given = {"window": WINDOW, "strand": "forward", "run": ONE, **options}
    report = fg.score_genome(predictor, genome, out=outs, **given)
    table = parquet.read_table(outs[0])
    rows = list(zip(*(table[name].to_pylist() for name in ("contig", "start", "probability_1")), strict=True))
    with pyBigWig.open(str(outs[1])) as track:
        drawn = [(name, *row) for name in CONTIGS for row in track.intervals(name) or ()]
    return report, rows, drawn


def test_score_genome_rejects_scores_that_are_no_finite_numbers(
    predictor: fg.Predictor, genome: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected, _ = score(predictor, genome)
    genome.with_name("out.parquet").unlink()
    real = Scorer.of_inputs

    def of_inputs(self: Scorer, inputs: Any) -> Any:
        scores = real(self, inputs)
        return np.where(scores > 0.6, np.nan, np.where(scores > 0.5, -np.inf, scores))

    monkeypatch.setattr(Scorer, "of_inputs", of_inputs)
    bed = write(genome.with_name("r.bed"), "".join(f"{c}\t{s}\t{s + WINDOW}\n" for c, s, _ in expected))
    kept = [row for row in expected if row[2] <= 0.5]
    assert 0 < len(kept) < len(expected)
    for regions in (None, bed):
        report, rows, drawn = score(predictor, genome, regions=regions)
        assert rows == kept
        assert [(contig, start) for contig, start, *_ in drawn] == [
            (contig, start) for contig, start, _ in kept
        ]
        assert report.windows.reasons["not_finite"] == len(expected) - len(kept)
        genome.with_name("out.parquet").unlink()
    assert report.records.reasons == {"no_score": len(expected) - len(kept)}


def test_score_genome_draws_very_large_scores(
    predictor: fg.Predictor, genome: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Scorer.of_inputs
    large = np.float32(3e38)
    monkeypatch.setattr(Scorer, "of_inputs", lambda self, inputs: real(self, inputs) * large)
    _, rows, drawn = score(predictor, genome)
    assert [value for *_, value in drawn] == pytest.approx([value for *_, value in rows])


def test_score_genome_draws_regions_closer_than_the_stride(predictor: fg.Predictor, genome: Path) -> None:
    regions = [("1", 0, 24), ("1", 30, 54), ("1", 60, 130), ("2", 0, 100)]
    bed = write(genome.with_name("r.bed"), "".join(f"{c}\t{s}\t{e}\n" for c, s, e in regions))
    _, rows, drawn = score(predictor, genome, regions=bed, stride=40, max_n=1)
    assert [row[:2] for row in rows] == [("1", 0), ("1", 30), ("1", 60), ("1", 100), ("2", 0), ("2", 40)]
    assert drawn == [(contig, start, start + WINDOW, value) for contig, start, value in rows]


@pytest.mark.parametrize("ending", ["bed", "bed.gz", "bedgraph", "bw"])
def test_score_genome_refuses_names_that_break_lines(
    ending: str, predictor: fg.Predictor, tmp_path: Path
) -> None:
    genome = write(tmp_path / "g.2bit", two_bit({"good": "ACGT" * 20, "a\tb": "ACGT" * 20}))
    with pytest.raises(ArgumentError, match=r"contig 'a\\tb' would break a line"):
        fg.score_genome(predictor, genome, out=tmp_path / f"out.{ending}", window=WINDOW, run=ONE)
    fg.score_genome(predictor, genome, out=tmp_path / "out.parquet", window=WINDOW, run=ONE)


def test_contigs_too_long_for_bigwig_are_refused() -> None:
    genome: Any = SimpleNamespace(names=("c",), lengths=np.array([2**32 - 1]))
    check_contigs(Path("o.bw"), genome)
    genome.lengths[0] += 1
    check_contigs(Path("o.bedgraph"), genome)
    with pytest.raises(ArgumentError, match="4,294,967,296 bases is too long for bigWig"):
        check_contigs(Path("o.bw"), genome)
