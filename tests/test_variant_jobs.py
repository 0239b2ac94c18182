"""Jobs over variants: the same bytes whoever computes them and after every stop; damage is seen."""

import dataclasses
import errno
import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from genome_files import write
from scored_variants import ONE, WINDOW, some_lines, true_lines
from small_variants import Line, vcf

import fastgenome as fg
from fastgenome.errors import ArgumentError, CheckpointError, InputError
from fastgenome.scoring import allele_table, variant_files
from fastgenome.scoring.jobs import JobFolder

pysam = pytest.importorskip("pysam")
pytestmark = pytest.mark.usefixtures("small_shards")


def outputs_of(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.glob("out*")
        if path.suffix not in (".json", ".shards")
    }


def job(predictor: fg.Predictor, tmp_path: Path, folder: str, run: fg.RunOptions) -> Any:
    place = tmp_path / folder
    place.mkdir(exist_ok=True)
    outs = [place / "out.vcf.gz", place / "out.parquet", place / "out.bcf"]
    return fg.score_variants(
        predictor, tmp_path / "in.vcf", tmp_path / "genome.fa", out=outs, window=WINDOW, run=run
    )


def test_score_variants_in_processes_parts_and_after_a_stop_gives_the_same_bytes(
    predictor: fg.Predictor,
    contigs: dict[str, str],
    genome: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(tmp_path / "in.vcf", vcf(some_lines(contigs, 150)))
    job(predictor, tmp_path, "whole", ONE)
    expected = outputs_of(tmp_path / "whole")
    assert set(expected) == {"out.vcf.gz", "out.parquet", "out.bcf", "out.vcf.gz.rejected.tsv"}
    job(predictor, tmp_path, "two", fg.RunOptions(workers=2))
    assert outputs_of(tmp_path / "two") == expected
    for part in (2, 1, 3):
        report = job(predictor, tmp_path, "parts", fg.RunOptions(workers=1, shard=(part, 3)))
        assert (report.outputs, report.n_in) == ({}, 0)
    real, stored = JobFolder.store, []

    def store(self: JobFolder, shard: int, result: Any) -> None:
        if len(stored) == 4:
            raise RuntimeError("stopped")
        stored.append(shard)
        real(self, shard, result)

    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "store", store)
        job(predictor, tmp_path, "parts", ONE)
        assert not stored
        with pytest.raises(RuntimeError, match="stopped"):
            job(predictor, tmp_path, "stopped", ONE)
    assert outputs_of(tmp_path / "parts") == expected
    stored.clear()
    with monkeypatch.context() as patch:
        # Neither are alleles checked again, nor shards scored that lie there.
        patch.setattr(allele_table, "_write", None)
        patch.setattr(
            JobFolder, "store", lambda self, shard, result: (stored.append(shard), real(self, shard, result))
        )
        job(predictor, tmp_path, "stopped", ONE)
    assert outputs_of(tmp_path / "stopped") == expected
    assert min(stored) == 4
    assert not (tmp_path / "stopped/out.vcf.gz.shards").exists()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_score_variants_never_leaves_a_file_that_looks_complete(
    step: str,
    predictor: fg.Predictor,
    contigs: dict[str, str],
    genome: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(tmp_path / "in.vcf", vcf(some_lines(contigs, 40)))
    job(predictor, tmp_path, "whole", ONE)
    expected = outputs_of(tmp_path / "whole")
    real, failures = getattr(os, step), []
    for failing in range(1, 100):
        calls = 0

        def fail(*arguments: Any, failing: int = failing) -> Any:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            try:
                job(predictor, tmp_path, str(failing), ONE)
                break
            except OSError as error:
                failures.append(error.errno)
        written = outputs_of(tmp_path / str(failing))
        assert {name: expected[name] for name in written} == written
        job(predictor, tmp_path, str(failing), ONE)
        assert outputs_of(tmp_path / str(failing)) == expected
    assert set(failures) == {errno.ENOSPC}
    assert len(failures) == calls > 12


def test_score_variants_tells_of_an_earlier_run(
    predictor: fg.Predictor,
    contigs: dict[str, str],
    genome: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(tmp_path / "in.vcf", vcf(some_lines(contigs, 30)))
    first = job(predictor, tmp_path, "out", ONE)
    with monkeypatch.context() as patch:
        patch.setattr(allele_table, "_write", None)
        again = job(predictor, tmp_path, "out", ONE)
    assert again.earlier
    assert (again.outputs, again.n_in, again.reasons) == (first.outputs, first.n_in, first.reasons)
    changed = dataclasses.replace(ONE, folder=tmp_path / "other")
    place = [tmp_path / "out" / name for name in ("out.vcf.gz", "out.parquet", "out.bcf")]
    other = fg.score_variants(
        predictor, tmp_path / "in.vcf", genome, out=place, window=WINDOW, strand="forward", run=changed
    )
    assert not other.earlier
    assert other.outputs != first.outputs
    assert job(predictor, tmp_path, "out", ONE).outputs == first.outputs
    (tmp_path / "out/out.bcf").write_bytes(b"")
    assert not job(predictor, tmp_path, "out", ONE).earlier
    assert (tmp_path / "out/out.bcf").stat().st_size > 0


def test_score_variants_refuses_the_shards_of_another_job(
    predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.vcf", vcf(some_lines(contigs, 40)))
    part = fg.RunOptions(workers=1, shard=(1, 2))
    out = tmp_path / "out.vcf"
    fg.score_variants(predictor, source, genome, out=out, window=WINDOW, run=part)
    for changes, name in (
        ({"window": 30}, "window"),
        ({"strand": "forward"}, "strand"),
        ({"max_n": 0.5}, "max_n"),
    ):
        with pytest.raises(ArgumentError, match=name):
            fg.score_variants(predictor, source, genome, out=out, **{"window": WINDOW, "run": ONE, **changes})
    folder = tmp_path / "out.vcf.shards"
    for path in folder.iterdir():
        if path.name != "alleles.parquet":
            path.unlink()
    with pytest.raises(ArgumentError, match="window"):
        fg.score_variants(predictor, source, genome, out=out, window=30, run=ONE)
    write(source, vcf(some_lines(contigs, 41)))
    with pytest.raises(ArgumentError, match="variants"):
        fg.score_variants(predictor, source, genome, out=out, window=WINDOW, run=ONE)


def test_score_variants_leaves_a_foreign_folder_alone(
    predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.vcf", vcf(some_lines(contigs, 9)))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("dear")
    run = fg.RunOptions(workers=1, folder=folder)
    with pytest.raises(ArgumentError, match="no folder of shards"):
        fg.score_variants(predictor, source, genome, out=tmp_path / "out.vcf", window=WINDOW, run=run)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    fg.score_variants(predictor, source, genome, out=tmp_path / "out.vcf", window=WINDOW, run=run)
    assert not folder.exists()


def test_score_variants_needs_no_more_memory_for_more_variants(
    predictor: fg.Predictor, genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allele_table, "_SHARD_ALLELES", 500)
    genome = write(tmp_path / "acgt.fa", ">1\n" + "ACGT" * 100 + "\n")
    peaks = []
    for name, n in (("first", 2_000), ("few", 2_000), ("many", 20_000)):
        lines = [Line("1", 101 + 4 * (i % 50), f"v{i}", "A", ("C", "<DEL>")) for i in range(n)]
        source = write(tmp_path / f"{name}.vcf", vcf(lines))
        del lines
        tracemalloc.start()
        outs = [tmp_path / f"{name}.out.vcf.gz", tmp_path / f"{name}.out.tsv"]
        fg.score_variants(predictor, source, genome, out=outs, window=WINDOW, run=ONE)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The report keeps the first 1,000 rejects of either; the first run also loads modules.
    assert peaks[2] < 1.2 * peaks[1]


def test_score_variants_sees_a_damaged_table_of_alleles(
    predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.vcf", vcf(some_lines(contigs, 60)))
    out = tmp_path / "out.vcf"
    fg.score_variants(
        predictor, source, genome, out=out, window=WINDOW, run=fg.RunOptions(workers=1, shard=(1, 2))
    )
    table = tmp_path / "out.vcf.shards/alleles.parquet"
    content = bytearray(table.read_bytes())
    content[len(content) // 3] ^= 8
    table.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"alleles\.parquet"):
        fg.score_variants(predictor, source, genome, out=out, window=WINDOW, run=ONE)
    assert not out.exists()


def test_score_variants_sees_that_its_input_changes(
    predictor: fg.Predictor,
    contigs: dict[str, str],
    genome: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = true_lines(contigs, 40)
    source = write(tmp_path / "in.vcf", vcf(lines))
    real = variant_files.write_rejects
    for changed in (lines[:-1], [*lines, lines[0]], [*lines[:-1], lines[-1]._replace(pos=3)]):
        write(source, vcf(lines))

        def change(*arguments: Any, changed: list[Line] = changed) -> None:
            write(source, vcf(changed))
            real(*arguments)

        monkeypatch.setattr("fastgenome.scoring.allele_job.write_rejects", change)
        for name in ("out.vcf", "out.bcf"):
            out = tmp_path / name
            with pytest.raises(InputError, match="has changed while"):
                fg.score_variants(predictor, source, genome, out=out, window=WINDOW, run=ONE)
            assert not out.exists()
            shutil.rmtree(f"{out}.shards")
            write(source, vcf(lines))
