"""Full disks, writes that fail, read-only folders: a job ends with an error, and no file looks complete.

FASTGENOME_KILLS above 3 lets every write fail in turn, and tries more sizes of the disk.
"""

import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk_faults import NOT_ALLOWED, compiled
from killed_jobs import Jobs, errors
from kills import Nursery, make_place

pytest.importorskip("pyBigWig")
pytest.importorskip("pysam")
if not sys.platform.startswith("linux"):
    pytest.skip("mounts and preloads as Linux does", allow_module_level=True)

THOROUGH = int(os.environ.get("FASTGENOME_KILLS", "3")) > 3
COMPILER = shutil.which("g++") or shutil.which("clang++")
jobs = pytest.mark.parametrize("job", ["genome", "variants", "saturation"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    folder = tmp_path_factory.mktemp("jobs")
    with Nursery(compiled(COMPILER, folder) if COMPILER else None) as nursery:
        yield Jobs(nursery, make_place(folder))


@pytest.mark.skipif(COMPILER is None, reason="needs g++ or clang++")
@jobs
def test_jobs_survive_each_write_that_fails(job: str, runs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    n_writes = runs.run(job, tmp_path / "all", "run", failing_write=0)[1].writes
    assert n_writes > len(runs.undisturbed(job).log.begun)
    writes = range(1, n_writes + 1)
    for number in writes if THOROUGH else random.Random(job).sample(writes, 6):
        folder = tmp_path / str(number)
        folder.mkdir()
        ended, log = runs.run(job, folder, "failed", failing_write=number)
        assert ended.status == 1, (number, ended.status)
        assert "No space left" in errors(folder) or "could not be written to its end" in errors(folder)
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
            assert "No space left" in errors(folder) or "could not be written to its end" in errors(folder)
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
