"""Full disks, writes that fail, read-only folders: a job ends with an error, and no file looks complete.

FASTGENOME_KILLS above 3 lets each write fail in turn, kills before each, and tries more sizes of the disk.
"""

import os
import random
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from disk_faults import NOT_ALLOWED, compiled
from killed_jobs import KILLED, Jobs, errors
from kills import Nursery, make_place

pytest.importorskip("pyBigWig")
pytest.importorskip("pysam")
if not sys.platform.startswith("linux"):
    pytest.skip("mounts and preloads as Linux does", allow_module_level=True)

THOROUGH = int(os.environ.get("FASTGENOME_KILLS", "3")) > 3
COMPILER = shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs g++ or clang++")
jobs = pytest.mark.parametrize("job", ["genome", "variants", "saturation"])


def says_why(messages: str) -> bool:
    """Whether an error tells people that a file could not be written, in one line."""
    told = "No space left" in messages or "could not be written to its end" in messages
    return told and "Traceback" not in messages


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    folder = tmp_path_factory.mktemp("jobs")
    with Nursery(compiled(COMPILER, folder) if COMPILER else None) as nursery:
        yield Jobs(nursery, make_place(folder))


def some_writes(job: str, runs: Jobs, folder: Path) -> Iterable[int]:
    """Numbers of writes that a job makes to its folder: all, or some."""
    folder.mkdir()
    n_writes = runs.run(job, folder, "run", failing_write=0)[1].writes
    assert n_writes > len(runs.undisturbed(job).log.begun)
    writes = range(1, n_writes + 1)
    return writes if THOROUGH else random.Random(job).sample(writes, 6)


@needs_compiler
@jobs
def test_jobs_survive_each_write_that_fails(job: str, runs: Jobs, tmp_path: Path) -> None:
    for number in some_writes(job, runs, tmp_path / "all"):
        folder = tmp_path / str(number)
        folder.mkdir()
        ended, log = runs.run(job, folder, "failed", failing_write=number)
        assert ended.status == 1, (number, ended.status)
        assert says_why(errors(folder)), errors(folder)
        runs.check_resumed(job, folder, log, workers=1, resumed=1)
        shutil.rmtree(folder)


@needs_compiler
@jobs
def test_jobs_survive_a_kill_at_each_write(job: str, runs: Jobs, tmp_path: Path) -> None:
    for number in some_writes(job, runs, tmp_path / "all"):
        folder = tmp_path / str(number)
        folder.mkdir()
        ended, log = runs.run(job, folder, "killed", killed_at_write=number)
        assert ended.status == KILLED, (number, errors(folder))
        runs.check_resumed(job, folder, log, workers=1, resumed=1)
        shutil.rmtree(folder)


@jobs
def test_jobs_survive_a_full_disk(job: str, runs: Jobs, tmp_path: Path) -> None:
    statuses, page = [], 4096
    for size in range(page, 200 * page, (2 if THOROUGH else 25) * page):
        folder = tmp_path / str(size)
        folder.mkdir()
        ended, log = runs.run(job, folder, "failed", disk=size)
        if ended.status == NOT_ALLOWED:
            pytest.skip("this machine lets nobody mount a disk")
        statuses.append(ended.status)
        if ended.status:
            assert says_why(errors(folder)), errors(folder)
        runs.check_resumed(job, folder, log, workers=1, resumed=1)
        shutil.rmtree(folder)
    # Too little first, and enough at last.
    assert set(statuses) == {0, 1}
    assert statuses == sorted(statuses, reverse=True)


@jobs
def test_jobs_fail_in_a_read_only_folder_before_any_work(job: str, runs: Jobs, tmp_path: Path) -> None:
    ended, log = runs.run(job, tmp_path, "failed", read_only=True)
    assert ended.status == 1
    assert "no permission to write" in errors(tmp_path)
    assert not log.begun
    assert not list((tmp_path / "out").iterdir())
