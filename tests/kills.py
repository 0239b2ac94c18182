"""Jobs in processes of their own that are killed or whose writes fail, forked from one that has imported all.

A request is a line of JSON with the fields of `Run`, the answer one with those of `Ended`.
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import scored_variants
import sharded_genome
from disk_faults import fail_write, obey_permissions, own_disk
from genome_files import write
from logged_work import LOG, PAUSE, STEP_OF_WORKER, Logged, die_at, note
from sklearn.ensemble import RandomForestClassifier
from small_variants import fasta, vcf

import fastgenome as fg
from fastgenome.cli import app
from fastgenome.genome import open_genome
from fastgenome.scoring import allele_table, engines, window_plan

# What jobs import while they run, so that it is there before any begins.
IMPORTS = ("torch", "pyarrow.parquet", "pysam.bcftools", "pyBigWig", "skops.io", "sklearn.ensemble")
IMPORTS += tuple(f"fastgenome.scoring.{name}" for name in ("genome", "variants", "saturation", "tracks"))
TREES = "sklearn.tree._tree.Tree"


@dataclass(frozen=True)
class Run:
    """A run of a job, and what becomes of it.

    Attributes:
        job: one of `JOBS`.
        place: folder that `make_place` filled.
        out: folder for the outputs, made where it is missing.
        log: file to which every process writes which shards it begins and ends.
        workers: processes that compute; None to let the job choose, which then begins in its own process.
        alone: seconds after which such a job goes to other processes, too.
        step: it kills itself before its so manieth step of `STEPS`, from 1.
        step_of_worker: each worker process does so.
        seconds: after which it is killed.
        computing: these seconds begin with the first shard, not with the run.
        disk: bytes of the disk at `out`; what is left on it at the end lies in `out`, then.
        read_only: nothing may be written to `out`.
        failing_write: which write to a file of `out` fails, from 1; 0 for none. The log gets a line for each.
        killed_at_write: it is killed before this write instead.
        pause: seconds that each shard takes longer.
    """

    job: str
    place: str
    out: str
    log: str
    workers: int | None = 1
    alone: float = 5.0
    step: int | None = None
    step_of_worker: int | None = None
    seconds: float | None = None
    computing: bool = False
    disk: int | None = None
    read_only: bool = False
    failing_write: int | None = None
    killed_at_write: int | None = None
    pause: float = 0


class Ended(NamedTuple):
    """How a run ended.

    Attributes:
        status: 0, 1 after an error, or minus the number of the signal that killed it.
        before: seconds until the first shard was begun, or until the end where none was.
        seconds: from then to the end.
        left: command lines of processes that it left behind and that did not end soon.
    """

    status: int
    before: float
    seconds: float
    left: list[str]


def make_place(folder: Path) -> Path:
    """What the jobs read: genomes, variants and saved predictors, one of them a forest."""
    sharded_genome.make_place(folder)
    sequences = [f"{'ACGT'[i % 4] * 3}{'GATTACA' * (1 + i % 3)}" for i in range(60)]
    method = fg.Probe(head=RandomForestClassifier(5, random_state=0))
    labels = [i % 2 for i in range(60)]
    fg.finetune((sequences, labels), model=None, method=method, features=("gc", "kmer")).save(
        folder / "forest"
    )
    scored_variants.make_predictor().save(folder / "of_variants")
    contigs = scored_variants.make_contigs()
    write(folder / "variants.fa", fasta(contigs))
    write(folder / "in.vcf", vcf(scored_variants.some_lines(contigs, 120)))
    for name in ("genome.fa", "variants.fa"):
        # Writes its index, so that all runs take the same steps.
        open_genome(folder / name)
    return folder


def command(run: Run) -> list[str]:
    """The arguments of `fastgenome`."""
    place, out = Path(run.place), Path(run.out)
    saved = {"genome": "predictor", "forest": "forest"}.get(run.job, "of_variants")
    arguments = [*JOBS[run.job], "--predictor", str(place / saved)]
    arguments += [] if run.workers is None else ["--workers", str(run.workers)]
    arguments = [part.replace("PLACE", run.place) for part in arguments]
    return [*arguments, "--no-emissions", *(f"-o{out / name}" for name in OUTPUTS[run.job])]


_SCORE = [
    "score",
    "PLACE/genome.fa",
    f"--window={sharded_genome.WINDOW}",
    f"--stride={sharded_genome.STRIDE}",
]
_VARIANTS = ["variants", "--genome=PLACE/variants.fa", f"--window={scored_variants.WINDOW}"]
JOBS = {
    "genome": _SCORE,
    "forest": [*_SCORE, f"--trust={TREES}"],
    "variants": [*_VARIANTS, "PLACE/in.vcf"],
    "saturation": [*_VARIANTS, "--saturate=1:301-360"],
}
OUTPUTS = {
    "genome": ["s.parquet", "s.bw"],
    "forest": ["s.parquet", "s.bw"],
    "variants": ["s.parquet", "s.vcf.gz", "s.bcf"],
    "saturation": ["s.parquet", "s.tsv"],
}


def _run(run: Run) -> int:
    """The command itself, in a process of its own; its exit status."""
    os.environ[LOG], os.environ[PAUSE] = run.log, str(run.pause)
    if run.step_of_worker is not None:
        os.environ[STEP_OF_WORKER] = str(run.step_of_worker)
    window_plan._SHARD_WINDOWS, allele_table._SHARD_ALLELES, engines._SECONDS_ALONE = 100, 16, run.alone
    compute_shards = engines.compute_shards
    engines.compute_shards = lambda work, *rest, **options: compute_shards(Logged(work), *rest, **options)
    out = Path(run.out)
    out.mkdir(exist_ok=True)
    if run.read_only:
        out.chmod(0o555)
        obey_permissions()
    write = run.failing_write if run.killed_at_write is None else run.killed_at_write
    if write is not None:
        fail_write(write, out, Path(run.log), killed=run.killed_at_write is not None)
    with nullcontext() if run.disk is None else _on_a_disk(out, run.disk):
        steps = die_at(run.step)
        status = app(command(run), standalone_mode=False)
        note("steps", steps())
        return int(status or 0)


@contextmanager
def _on_a_disk(folder: Path, size: int) -> Iterator[None]:
    """A disk at a folder that is empty; its content is in the folder's place at the end."""
    beneath = os.open(folder, os.O_RDONLY)
    own_disk(folder, size)
    try:
        yield
    finally:
        shutil.copytree(folder, f"/proc/self/fd/{beneath}", dirs_exist_ok=True)


def _forked(run: Run) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        # What it starts is known by its session, whoever its parent becomes.
        os.setsid()
        errors = os.open(run.log + ".errors", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        status = _run(run)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _watched(run: Run) -> Ended:
    """Start a run, kill it at its moment, and wait for its end and that of all that it started."""
    begun, first, log = time.monotonic(), None, Path(run.log)
    child = _forked(run)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        now = time.monotonic()
        if first is None and log.exists():
            first = now
        if ended:
            break
        since = first if run.computing else begun
        if run.seconds is not None and since is not None and now - since >= run.seconds:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            break
        time.sleep(0.0005)
    before = (now if first is None else first) - begun
    return Ended(os.waitstatus_to_exitcode(status), before, now - begun - before, _left(child))


def _left(session: int) -> list[str]:
    """What of a session runs on after 20 seconds; it is killed then."""
    deadline = time.monotonic() + 20
    while (running := _running(session)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in running:
        os.kill(process, signal.SIGKILL)
    return list(running.values())


def _running(session: int) -> dict[int, str]:
    """Processes of a session, but for those that only wait to be reaped, and their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, own = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(own) == session and state not in "ZX":
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def serve() -> None:
    """Run what is asked for, line by line."""
    for name in IMPORTS:
        importlib.import_module(name)
    for line in sys.stdin:
        run = Run(**json.loads(line))
        print(json.dumps(_watched(run)._asdict()), flush=True)


class Nursery:
    """The process from which runs are forked, as others see it; to be used with `with`.

    Args:
        preloaded: a library that is loaded before all others.
    """

    def __init__(self, preloaded: Path | None = None) -> None:
        self._environment = {} if preloaded is None else {"LD_PRELOAD": str(preloaded)}

    def __enter__(self) -> "Nursery":
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import kills; kills.serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | self._environment,
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate(timeout=60)

    def run(self, run: Run) -> Ended:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asdict(run)), file=self._process.stdin, flush=True)
        return Ended(**json.loads(self._process.stdout.readline()))
