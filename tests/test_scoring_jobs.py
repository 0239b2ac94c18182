"""Jobs in shards: the same bytes whoever computes them, and what a folder of shards may hold."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sharded_genome import STRIDE, WINDOW, make_predictor, score, stored_shards

import fastgenome as fg
from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.scoring import engines, jobs
from fastgenome.scoring.engines import WorkerError
from fastgenome.scoring.jobs import JobFolder

pytest.importorskip("pyBigWig")
pytestmark = pytest.mark.usefixtures("small_genome_shards")


def test_score_genome_in_several_processes_gives_the_same_bytes(
    place: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    score(place, tmp_path / "two.parquet", workers=2)
    assert (tmp_path / "two.parquet").read_bytes() == undisturbed
    assert not (tmp_path / "two.parquet.shards").exists()


def test_score_genome_in_actors_of_ray_gives_the_same_bytes(
    place: Path, tmp_path: Path, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    # More than this machine has cores: as many as there are.
    monkeypatch.setattr(engines, "_default_workers", lambda work: 2)
    for workers in (None, 2):
        out = tmp_path / f"{workers}.parquet"
        score(place, out, workers=workers, engine="ray")
        assert out.read_bytes() == undisturbed


def test_score_genome_as_a_job_array_gives_the_same_bytes(
    place: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    out = tmp_path / "array.parquet"
    for done, part in enumerate((3, 1, 4, 2), 1):
        report = score(place, out, shard=(part, 4))
        assert report.outputs == {}
        assert len(stored_shards(out)) == 3 * done
        assert not out.exists()
    computed = [path.stat().st_mtime_ns for path in sorted(out.with_name("array.parquet.shards").iterdir())]
    assert len(computed) == 2 * 12 + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs.JobFolder, "store", None)
        score(place, out)
    assert out.read_bytes() == undisturbed


def test_tiny_in_several_processes_gives_the_same_bytes(place: Path, tmp_path: Path) -> None:
    make_predictor(tmp_path / "predictor", "tiny")
    found = []
    for workers, context in ((1, None), (2, None), (1, 600), (2, 600)):
        out = tmp_path / f"{workers}-{context}.parquet"
        fg.score_genome(
            tmp_path / "predictor", place / "genome.fa", out=out, window=WINDOW, stride=STRIDE,
            context=context, run=fg.RunOptions(workers=workers),
        )  # fmt: skip
        found.append(out.read_bytes())
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[0] != found[2]


def interrupted(place: Path, out: Path, stores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends with an error after some shards."""
    with monkeypatch.context() as patch:
        real, count = JobFolder.store, 0

        def store(self: JobFolder, shard: int, result: Any) -> None:
            nonlocal count
            if count == stores:
                raise RuntimeError("stopped")
            count += 1
            real(self, shard, result)

        patch.setattr(JobFolder, "store", store)
        with pytest.raises(RuntimeError, match="stopped"):
            score(place, out)
    assert not out.exists()


def test_score_genome_repeats_only_what_is_missing_or_damaged(
    place: Path, tmp_path: Path, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "resumed.parquet"
    interrupted(place, out, 6, monkeypatch)
    folder = tmp_path / "resumed.parquet.shards"
    damaged = folder / "shard-000002.parquet"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 4
    damaged.write_bytes(content)
    (folder / "shard-000004.json").write_text("{")
    entry = json.loads((folder / "shard-000001.json").read_text())
    (folder / "shard-000001.json").write_text(json.dumps({**entry, "job": "another"}))
    stored, real = [], JobFolder.store

    def store(self: JobFolder, shard: int, result: Any) -> None:
        stored.append(shard)
        real(self, shard, result)

    monkeypatch.setattr(JobFolder, "store", store)
    score(place, out)
    assert stored == [1, 2, 4, 6, 7, 8, 9, 10, 11]
    assert out.read_bytes() == undisturbed


@pytest.mark.parametrize("changed", ["window", "genome", "predictor"])
def test_score_genome_refuses_shards_of_another_job(
    changed: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scores.parquet"
    interrupted(place, out, 2, monkeypatch)
    genome, predictor, window = place / "genome.fa", place / "predictor", WINDOW
    if changed == "genome":
        genome = tmp_path / "other.fa"
        genome.write_text((place / "genome.fa").read_text().replace("ACGT", "ACGA", 1))
    if changed == "predictor":
        predictor = make_predictor(tmp_path / "predictor", "tiny")
    if changed == "window":
        window += 1
    with pytest.raises(ArgumentError, match={"predictor": "scorer"}.get(changed, changed)):
        fg.score_genome(
            predictor, genome, out=out, window=window, stride=STRIDE, run=fg.RunOptions(workers=1)
        )


def test_score_genome_writes_what_an_earlier_run_did_not(place: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.parquet", tmp_path / "b.bw"
    assert not score(place, first).earlier
    assert not score(place, [first, second]).earlier
    assert second.exists()
    assert score(place, [first, second]).earlier
    first.write_bytes(first.read_bytes()[:-1])
    assert not score(place, [first, second]).earlier


def test_score_genome_removes_shards_that_a_kill_at_the_end_left(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, shards = tmp_path / "a.parquet", tmp_path / "a.parquet.shards"
    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "remove", lambda self: None)
        score(place, out)
    assert len(list(shards.iterdir())) == 25
    (shards / "mine.txt").write_text("not the job's")
    assert score(place, out).earlier
    assert [path.name for path in shards.iterdir()] == ["mine.txt"]


def test_score_genome_leaves_a_foreign_folder_alone(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("dear")
    with pytest.raises(ArgumentError, match="no folder of shards"):
        score(place, tmp_path / "scores.parquet", folder=folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_job_folder_names_a_shard_that_is_missing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(place, tmp_path / "scores.parquet", 2, monkeypatch)
    settings = json.loads((tmp_path / "scores.parquet.shards/job.json").read_text())
    digest = json.loads((tmp_path / "scores.parquet.shards/shard-000000.json").read_text())["job"]
    folder = JobFolder(tmp_path / "scores.parquet.shards", digest, settings["shards"])
    with pytest.raises(CheckpointError, match="shard-000002"):
        list(folder.tables())


class _Dying:
    """Work of which every worker process is killed."""

    n_shards = 3

    def settings(self) -> dict[str, Any]:
        return {}

    def amount(self, shard: int) -> float:
        return 1.0

    def open(self) -> Any:
        return lambda shard: os.kill(os.getpid(), signal.SIGKILL)


def test_run_job_says_when_a_worker_was_killed(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="worker process was killed"):
        jobs.run_job(_Dying(), (), tmp_path / "job", fg.RunOptions(workers=2), unit="shards")


def test_score_genome_runs_in_a_script_without_a_guard(place: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import fastgenome as fg\nfrom fastgenome.scoring import window_plan\nprint('once')\n"
        "window_plan._SHARD_WINDOWS = 100\n"
        f"fg.score_genome({str(place / 'predictor')!r}, {str(place / 'genome.fa')!r}, "
        f"out={str(tmp_path / 's.parquet')!r}, window=60, stride=20, run=fg.RunOptions(workers=2))\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "once\n"


class _Unopened:
    """Work that cannot begin."""

    n_shards = 3
    amount, settings = _Dying.amount, _Dying.settings

    def open(self) -> Any:
        raise ArgumentError("the genome has moved")


def test_run_job_says_why_workers_cannot_begin(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="the genome has moved"):
        jobs.run_job(_Unopened(), (), tmp_path / "job", fg.RunOptions(workers=2), unit="shards")


def test_job_folder_is_shared_by_parts_that_begin_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "job", jobs.check_unused

    def meanwhile(folder: Path) -> None:
        JobFolder.of(tmp_path / "other", _Dying())
        (tmp_path / "other/job.json").rename(path / "job.json")
        real(folder)

    path.mkdir()
    monkeypatch.setattr(jobs, "check_unused", meanwhile)
    assert JobFolder.of(path, _Dying()).n_shards == 3


def test_shards_hold_the_rows_of_their_windows(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as parquet

    interrupted(place, tmp_path / "s.parquet", 3, monkeypatch)
    for shard in range(3):
        table = parquet.read_table(tmp_path / f"s.parquet.shards/shard-{shard:06d}.parquet")
        entry = json.loads((tmp_path / f"s.parquet.shards/shard-{shard:06d}.json").read_text())
        assert entry["rows"] == table.num_rows == entry["counts"]["scored"]
        assert entry["counts"]["windows"] == 100
        assert (np.diff(table["start"].to_numpy()[:2]) == STRIDE).all()
