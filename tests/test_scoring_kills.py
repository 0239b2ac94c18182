"""Jobs that are killed: resumed they give the same bytes, and compute only what is missing."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sharded_genome import make_place, score, stored_shards, undisturbed_bytes

from fastgenome.scoring import window_plan
from fastgenome.scoring.jobs import JobFolder

pytest.importorskip("pyBigWig")

# Kills at random moments; with more than 3 also one before every step that changes the disk.
KILLS = int(os.environ.get("FASTGENOME_KILLS", "3"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_place(tmp_path_factory.mktemp("job"))


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_plan, "_SHARD_WINDOWS", 100)


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> bytes:
    return undisturbed_bytes(place)


RUN = """
import sys
from pathlib import Path
from fastgenome.scoring import window_plan
window_plan._SHARD_WINDOWS = 100
import fastgenome as fg
from fastgenome import atomic
at = int(sys.argv[3])
calls = 0
def dying(real):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == at:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
if at:
    import os
    for name in ("fsync", "replace", "unlink", "rmdir"):
        setattr(os, name, dying(getattr(os, name)))
place, out = Path(sys.argv[1]), Path(sys.argv[2])
fg.score_genome(place / "predictor", place / "genome.fa", out=[out, out.with_suffix(".bw")], window=60,
                stride=20, run=fg.RunOptions(workers=1))
"""


def in_process(place: Path, out: Path, at: int = 0) -> subprocess.Popen[bytes]:
    """A run in a process of its own, which kills itself at the `at`-th step that changes the disk."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(place), str(out), str(at)], stderr=subprocess.DEVNULL
    )


@pytest.mark.parametrize("at", range(1, 120) if KILLS > 3 else [2, 8, 21, 52, 57, 70])
def test_score_genome_survives_a_kill_at_any_step(
    at: int, place: Path, tmp_path: Path, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "killed.parquet"
    process = in_process(place, out, at)
    assert process.wait(120) in (-signal.SIGKILL, 0)
    if out.exists():
        assert out.read_bytes() == undisturbed
    before = {int(name[6:12]) for name in stored_shards(out)}
    stored, real = [], JobFolder.store

    def store(self: JobFolder, shard: int, result: Any) -> None:
        stored.append(shard)
        real(self, shard, result)

    monkeypatch.setattr(JobFolder, "store", store)
    report = score(place, [out, out.with_suffix(".bw")])
    assert out.read_bytes() == undisturbed
    # What was stored with its entry is not computed again.
    assert stored == ([] if report.earlier else sorted(set(range(12)) - before))


@pytest.mark.parametrize("seed", range(KILLS))
def test_score_genome_survives_a_kill_at_a_random_moment(
    seed: int, place: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    out = tmp_path / "killed.parquet"
    process = in_process(place, out)
    time.sleep(random.Random(seed).uniform(1, 5))
    process.kill()
    process.wait()
    score(place, [out, out.with_suffix(".bw")])
    assert out.read_bytes() == undisturbed
