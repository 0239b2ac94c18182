"""Jobs whose inputs change, or whose folder or outputs another job has, while they run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from genome_files import two_bit, write
from scored_variants import ONE, WINDOW, make_contigs, make_predictor, true_lines
from small_variants import Line, fasta, vcf

import fastgenome as fg
from fastgenome.errors import ArgumentError, CheckpointError, InputError
from fastgenome.scoring import allele_table, genome, jobs
from fastgenome.scoring.allele_job import VariantReport
from fastgenome.scoring.allele_scores import AlleleWork
from fastgenome.scoring.genome import GenomeReport
from fastgenome.scoring.genome_work import GenomeWork

pytest.importorskip("pysam")

CONTIGS = make_contigs()


@pytest.fixture(scope="module")
def predictor() -> fg.Predictor:
    return make_predictor()


def lines(n: int, name: str) -> list[Line]:
    return [line._replace(id=f"{name}{line.id}") for line in true_lines(CONTIGS, n)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write(tmp_path / "g.fa", fasta(CONTIGS))
    write(tmp_path / "g.2bit", two_bit(CONTIGS))
    write(tmp_path / "a.vcf", vcf(lines(40, "a"), list(CONTIGS)))
    write(tmp_path / "b.vcf", vcf(lines(25, "b"), list(CONTIGS)))
    return tmp_path


def score_variants(predictor: fg.Predictor, place: Path, name: str, **options: Any) -> VariantReport:
    given = {"out": place / "out.tsv", "window": WINDOW, "run": ONE, **options}
    return fg.score_variants(predictor, place / name, place / "g.fa", **given)


def score_genome(predictor: fg.Predictor, place: Path, **options: Any) -> GenomeReport:
    given = {"out": place / "out.tsv", "window": WINDOW, "run": ONE, **options}
    return fg.score_genome(predictor, place / "g.2bit", **given)


def amid(monkeypatch: pytest.MonkeyPatch, work: type, act: Callable[[], object]) -> None:
    """Do something once, before a job computes its last shard."""
    real, done = work.open, []

    def opened(self: Any) -> Any:
        compute = real(self)

        def shard_of(shard: int) -> Any:
            if shard == self.n_shards - 1 and not done:
                done.append(shard)
                act()
            return compute(shard)

        return shard_of

    monkeypatch.setattr(work, "open", opened)


def other_genome(path: Path) -> None:
    swapped = {
        name: letters.translate(str.maketrans("ACacGTgt", "GTgtACac")) for name, letters in CONTIGS.items()
    }
    path.with_name("new").write_bytes(two_bit(swapped))
    os.replace(path.with_name("new"), path)


@pytest.mark.parametrize("failing", [False, True])
def test_genome_that_changes_ends_the_job(
    failing: bool, place: Path, predictor: fg.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        other_genome(place / "g.2bit")
        if failing:
            raise OSError("disk full")

    with monkeypatch.context() as patch:
        amid(patch, GenomeWork, act)
        with pytest.raises(InputError, match=r"g\.2bit was changed while the job ran"):
            score_genome(predictor, place)
    assert not (place / "out.tsv").exists()
    assert not (place / "out.tsv.shards").exists()
    assert score_genome(predictor, place).windows.n_scored


@pytest.mark.parametrize("moment", ["computing", "writing"])
def test_variants_that_change_end_the_job(
    moment: str, place: Path, predictor: fg.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change() -> None:
        changed = [line._replace(alts=("T" if line.alts != ("T",) else "G",)) for line in lines(40, "a")]
        write(place / "a.vcf", vcf(changed, list(CONTIGS)))

    if moment == "computing":
        amid(monkeypatch, AlleleWork, change)
    else:
        real = jobs.JobFolder.tables
        monkeypatch.setattr(jobs.JobFolder, "tables", lambda self: (change(), real(self))[1])
    with pytest.raises(InputError, match=r"a\.vcf was changed while the job ran"):
        score_variants(predictor, place, "a.vcf", out=place / "out.vcf")
    assert not (place / "out.vcf.report.json").exists()
    assert (place / "out.vcf").exists() == (moment == "writing")


def test_input_that_is_written_anew_with_the_same_bytes_has_not_changed(
    place: Path, predictor: fg.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    amid(monkeypatch, AlleleWork, lambda: write(place / "a.vcf", (place / "a.vcf").read_bytes()))
    assert score_variants(predictor, place, "a.vcf").n_scored == 40


def test_job_that_is_refused_leaves_the_alleles_of_another(
    place: Path, predictor: fg.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_variants(predictor, place, "a.vcf", out=place / "expected.tsv")
    real = allele_table._write

    def slow(*arguments: Any) -> Any:
        # Of b; a begins now, and is ahead.
        monkeypatch.setattr(allele_table, "_write", real)
        score_variants(predictor, place, "a.vcf", run=fg.RunOptions(workers=1, shard=(1, 1)))
        return real(*arguments)

    monkeypatch.setattr(allele_table, "_write", slow)
    with pytest.raises(ArgumentError, match="holds shards of a job with another variants"):
        score_variants(predictor, place, "b.vcf")
    monkeypatch.setattr(jobs.JobFolder, "store", None)
    assert score_variants(predictor, place, "a.vcf").n_in == 40
    assert (place / "out.tsv").read_bytes() == (place / "expected.tsv").read_bytes()


def test_two_jobs_that_begin_at_once_do_not_share_a_folder(
    place: Path, predictor: fg.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_genome(predictor, place, out=place / "expected.tsv", strand="forward")
    real = jobs.write_json

    def slow(path: Path, *arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(jobs, "write_json", real)
        score_genome(predictor, place, strand="forward", run=fg.RunOptions(workers=1, shard=(1, 1)))
        real(path, *arguments, **options)

    monkeypatch.setattr(jobs, "write_json", slow)
    with pytest.raises(ArgumentError, match="holds shards of a job with another strand"):
        score_genome(predictor, place, strand="reverse")
    score_genome(predictor, place, strand="forward")
    assert (place / "out.tsv").read_bytes() == (place / "expected.tsv").read_bytes()


def test_job_that_another_run_of_it_has_ended_gives_its_report(
    place: Path, predictor: fg.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: Any, folder: Path, options: fg.RunOptions) -> Any:
        monkeypatch.undo()
        score_genome(predictor, place)
        raise CheckpointError("the shards are gone")

    monkeypatch.setattr(genome._GenomeJob, "run", run)
    report = score_genome(predictor, place)
    assert report.earlier
    assert report.windows.n_scored == len((place / "out.tsv").read_text().splitlines()) - 1


def test_same_names_in_another_folder_are_other_outputs(
    place: Path, predictor: fg.Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (place / "one", place / "two"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        report = score_variants(predictor, place, "a.vcf", out=[place / "out.tsv", "out.vcf"])
        assert not report.earlier
        assert (folder / "out.vcf").exists()
        fg.saturate(
            predictor, place / "g.fa", "1:100-110", window=WINDOW, out=[place / "s.tsv", "s.csv"], run=ONE
        )
        assert (folder / "s.csv").exists()


def test_score_variants_takes_numbers_of_numpy(place: Path, predictor: fg.Predictor) -> None:
    options = {"window": np.int64(WINDOW), "max_n": np.float32(0.25), "max_ref_mismatch": np.float32(0.5)}
    assert score_variants(predictor, place, "a.vcf", **options).window == WINDOW
