"""Jobs that are killed: resumed they give the same bytes, and compute only what is missing.

FASTGENOME_KILLS sets how many random moments are tried of each job; with more than 3 also a kill before every
step that changes the disk.
"""

import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from killed_jobs import KILLED, Jobs, errors
from kills import Nursery, make_place

pytest.importorskip("pyBigWig")
pytest.importorskip("pysam")
if not sys.platform.startswith("linux"):
    pytest.skip("reads /proc", allow_module_level=True)

KILLS = int(os.environ.get("FASTGENOME_KILLS", "3"))
# Of two processes, which take seconds to begin.
SLOW_KILLS = KILLS if KILLS > 3 else 1
jobs = pytest.mark.parametrize("job", ["genome", "forest", "variants", "saturation"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    with Nursery() as nursery:
        yield Jobs(nursery, make_place(tmp_path_factory.mktemp("jobs")))


@pytest.mark.parametrize("seed", range(KILLS))
@jobs
def test_jobs_survive_a_kill_at_a_random_moment(job: str, seed: int, runs: Jobs, tmp_path: Path) -> None:
    log = runs.killed(job, tmp_path, seed, workers=1)
    runs.check_resumed(job, tmp_path, log, workers=1, resumed=1)


@pytest.mark.parametrize("seed", range(SLOW_KILLS))
@pytest.mark.parametrize("job", ["genome", "variants"])
def test_jobs_of_two_processes_survive_a_kill_at_a_random_moment(
    job: str, seed: int, runs: Jobs, tmp_path: Path
) -> None:
    log = runs.killed(job, tmp_path, seed + 1, workers=2)
    runs.check_resumed(job, tmp_path, log, workers=2, resumed=1 + seed % 2)


@pytest.mark.parametrize("seed", range(SLOW_KILLS))
def test_jobs_that_go_to_processes_survive_a_kill_at_a_random_moment(
    seed: int, runs: Jobs, tmp_path: Path
) -> None:
    log = runs.killed("genome", tmp_path, seed + 1, workers=None)
    runs.check_resumed("genome", tmp_path, log, workers=None, resumed=1 if seed % 2 else None)


@pytest.mark.parametrize("job", ["genome", "variants"])
def test_workers_end_with_the_job_that_is_killed(job: str, runs: Jobs, tmp_path: Path) -> None:
    # `run` looks for what is left; each worker would take minutes for its shard.
    ended, log = runs.run(job, tmp_path, "killed", workers=2, seconds=0.2, computing=True, pause=300)
    assert ended.status == KILLED
    assert log.begun
    assert not log.computed


@pytest.mark.parametrize("job", ["genome", "variants", "saturation"])
def test_jobs_survive_a_kill_at_every_step(job: str, runs: Jobs, tmp_path: Path) -> None:
    n_steps = runs.undisturbed(job).log.steps
    steps = range(1, n_steps + 1)
    # The last one removes the folder of shards.
    for step in steps if KILLS > 3 else {*random.Random(job).sample(steps, 4), n_steps}:
        folder = tmp_path / str(step)
        folder.mkdir()
        ended, log = runs.run(job, folder, "killed", step=step)
        assert ended.status == KILLED, (step, errors(folder))
        runs.check_resumed(job, folder, log, workers=1, resumed=1)
        shutil.rmtree(folder)


@pytest.mark.parametrize("job", ["genome", "variants"])
def test_jobs_survive_a_kill_of_their_workers_at_every_step(job: str, runs: Jobs, tmp_path: Path) -> None:
    # A worker takes ten steps for a shard; both are killed before the same one.
    for step in range(1, 21) if KILLS > 3 else [4]:
        folder = tmp_path / str(step)
        folder.mkdir()
        ended, log = runs.run(job, folder, "killed", workers=2, step_of_worker=step)
        assert ended.status == 1
        assert "a worker process was killed" in errors(folder)
        runs.check_resumed(job, folder, log, workers=2, resumed=1)
