"""What has to hold of jobs that are killed or whose writes fail, and of the runs that follow."""

import json
import random
import shutil
from pathlib import Path
from typing import NamedTuple

from joblib import cpu_count
from kills import Ended, Nursery, Run

KILLED = -9


class Log(NamedTuple):
    """Shards that the processes of a run began to compute, and those that they computed; steps and writes."""

    begun: list[int]
    computed: list[int]
    steps: int
    writes: int


class Undisturbed(NamedTuple):
    """A run that nothing disturbed: what it wrote, the account in its report, and how long it took."""

    files: dict[str, bytes]
    account: dict[str, object]
    log: Log
    ended: Ended


class Jobs:
    """Runs jobs in a folder and compares them with those that nothing disturbed."""

    def __init__(self, nursery: Nursery, place: Path) -> None:
        self.nursery, self.place = nursery, place
        self._known: dict[tuple[str, int | None], Undisturbed] = {}

    def run(self, job: str, folder: Path, name: str, **how: object) -> tuple[Ended, Log]:
        """A run whose log has a name; its outputs lie in the folder's `out`."""
        log = folder / f"{name}.log"
        log.unlink(missing_ok=True)
        ended = self.nursery.run(Run(job, str(self.place), str(folder / "out"), str(log), **how))
        assert ended.left == []
        return ended, read_log(log)

    def undisturbed(self, job: str, workers: int | None = 1) -> Undisturbed:
        if (job, workers) not in self._known:
            folder = self.place / f"undisturbed-{job}-{workers}"
            folder.mkdir()
            ended, log = self.run(job, folder, "run", **run_by(workers))
            assert ended.status == 0, errors(folder)
            assert log.begun
            found = Undisturbed(outputs(folder / "out"), account(folder / "out"), log, ended)
            self._known[job, workers] = found
        return self._known[job, workers]

    def killed(self, job: str, folder: Path, seed: int, workers: int | None) -> Log:
        """A run that is killed at a random moment."""
        draw, usual = random.Random(f"{job} {workers} {seed}"), self.undisturbed(job, workers).ended
        computing = seed % 4 > 0
        most = usual.seconds if computing else usual.before
        for _ in range(20):
            seconds = draw.uniform(0, most)
            ended, log = self.run(
                job, folder, "killed", seconds=seconds, computing=computing, **run_by(workers)
            )
            if ended.status == KILLED:
                return log
            # It was faster than the one that nothing disturbed.
            assert ended.status == 0, errors(folder)
            shutil.rmtree(folder / "out")
            most *= 0.8
        raise AssertionError("every run ended before it was killed")

    def check_resumed(
        self, job: str, folder: Path, killed: Log, *, workers: int | None, resumed: int | None
    ) -> None:
        """What has to hold after a kill, and after the run that follows it."""
        out, usual = folder / "out", self.undisturbed(job)
        assert_nothing_looks_complete_that_is_not(out, usual)
        stored, complete = stored_shards(out), (out / "s.parquet.report.json").exists()
        if not complete:
            # Of the job's own process what it computed and what was being written, of others one each.
            most = cpu_count() + 2 if workers is None else max(2, workers)
            assert len(set(killed.begun) - stored) <= most
        ended, log = self.run(job, folder, "resumed", **run_by(resumed))
        assert ended.status == 0, errors(folder)
        assert sorted(log.begun) == ([] if complete else sorted(set(usual.log.begun) - stored))
        assert outputs(out) == usual.files
        assert account(out) == usual.account
        assert not (out / "s.parquet.shards").exists()


def run_by(workers: int | None) -> dict[str, object]:
    """How a job is computed by so many processes, or by its own one and then by as many as it chooses."""
    return {"workers": workers} if workers else {"workers": None, "alone": 0.1, "pause": 0.05}


def read_log(path: Path) -> Log:
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    begun, computed, steps, writes = (
        [int(number) for name, number in lines if name == what]
        for what in ("begun", "computed", "steps", "write")
    )
    return Log(begun, computed, sum(steps), sum(writes))


def errors(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*.errors"))


def outputs(out: Path) -> dict[str, bytes]:
    """The files that a user finds, but for the report, which has times."""
    return {
        path.name: path.read_bytes()
        for path in out.iterdir()
        if path.is_file() and not path.name.startswith(".") and not path.name.endswith(".report.json")
    }


def account(out: Path) -> dict[str, object]:
    """What the report counts."""
    report = json.loads(next(out.glob("*.report.json")).read_text())
    return {name: report.get(name) for name in ("records", "windows", "bases", "n_records", "alleles")}


def stored_shards(out: Path) -> set[int]:
    return {int(path.stem[6:]) for path in out.glob("*.shards/shard-*.json")}


def assert_nothing_looks_complete_that_is_not(out: Path, usual: Undisturbed) -> None:
    found = outputs(out) if out.exists() else {}
    assert {name: usual.files[name] for name in found} == found
    if list(out.glob("*.report.json")):
        assert found == usual.files
        assert account(out) == usual.account
