"""Tuning in two processes on gloo: the same numbers as in one, one set of files, kills and errors.

torchrun starts this file itself as the script of both processes.
"""

import atexit
import csv
import importlib
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from planted_motifs import planted_motifs
from safetensors.torch import load_file, save_file
from small_checkpoints import write_tiny
from test_tuning_resume import same, same_tensors
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import fastgenome as fg
from fastgenome.errors import (
    ArgumentError,
    CheckpointError,
    DivergedError,
    FastgenomeError,
    MissingExtraError,
    SequenceTooLongError,
)
from fastgenome.training import distributed
from fastgenome.training.distributed import Processes, launched_processes
from fastgenome.training.state import whole
from fastgenome.training.trained_parts import masks_of
from fastgenome.training.tuning_batches import parts_of_batch, shares_of_batch
from fastgenome.training.tuning_run import TuningRun

TESTS = Path(__file__).resolve().parent

# 57 sequences: the last batch of an epoch has one, so that the second process has none of it. A batch of
# eight has several parts in each process.
TRAIN, HELD = planted_motifs(57, seed=1), planted_motifs(20, seed=2)
TRAINING = fg.Training(
    epochs=2, batch_size=8, batch_tokens=40, learning_rate=5e-3, evaluate_every=3, checkpoint_every=2, keep=3
)
STEPS = 16


class Run(NamedTuple):
    method: Any
    training: fg.Training = TRAINING
    sharded: bool = False


RUNS = {
    "lora": Run(fg.LoRA(rank=2)),
    "lora-dropout": Run(fg.LoRA(rank=2, dropout=0.3)),
    "lora-sharded": Run(fg.LoRA(rank=2), replace(TRAINING, gradient_checkpointing=True), sharded=True),
    "ia3-sharded": Run(fg.IA3(), sharded=True),
    "ars": Run(fg.ARS(initial_rank=4, target_rank=2, allocation_interval=1, orthogonality=0.1)),
    # Of the embedding output alone: no other weight of the encoder has a gradient.
    "full-layer-0": Run(fg.Full(), replace(TRAINING, layer=0)),
    "full-sharded": Run(fg.Full(), sharded=True),
}
# What each killed run does last, and the newest checkpoint by then.
KILLS = {"full-sharded": (9, signal.SIGINT, 8), "ars": (7, signal.SIGKILL, 6)}


class Recorded(NamedTuple):
    """After every optimizer step."""

    states: list[dict[str, Tensor]]  # what is trained, and the masks
    norms: list[float]  # of the gradient, before clipping
    seeds: list[int]  # of torch's generator
    apart: list[int]  # parts whose gradients were not exchanged, so far


def tune(folder: Path, run: Run, out: Path, *, resume: bool | None = None) -> fg.Predictor:
    torch.set_num_threads(1)
    return fg.finetune(
        TRAIN,
        model=folder / "small",
        method=run.method,
        validation=HELD,
        features="gc",
        training=run.training,
        out=out,
        resume=resume,
    )


@contextmanager
def recorded(step: int = 0, ending: int = 0) -> Iterator[Recorded]:
    """Record a run; after a step that is given it ends by a signal."""
    found = Recorded([], [], [], [])
    one_step, clip = TuningRun._one_step, torch.nn.utils.clip_grad_norm_
    no_sync, apart = DistributedDataParallel.no_sync, [0]

    def counting(module: DistributedDataParallel) -> Any:
        apart[0] += 1
        return no_sync(module)

    def clipping(*arguments: Any) -> Tensor:
        norm = whole(clip(*arguments))
        found.norms.append(float(norm))
        return norm

    def recording(run: TuningRun) -> None:
        one_step(run)
        tensors = {**run.parameters, **masks_of(run.model.network)}
        found.states.append({name: whole(tensor.detach()).clone() for name, tensor in tensors.items()})
        found.seeds.append(torch.initial_seed())
        found.apart.append(apart[0])
        if run.step == step:
            signal.raise_signal(ending)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TuningRun, "_one_step", recording)
        patch.setattr(torch.nn.utils, "clip_grad_norm_", clipping)
        patch.setattr(DistributedDataParallel, "no_sync", counting)
        yield found


# The part of this file that runs in both processes. Each names folders of its own, of which only the first
# process's may come to be.

RANK = os.environ.get("RANK", "0")


def forbid_writing(folder: Path) -> None:
    """From here on this process dies of writing below a folder, but for what this file itself stores."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if writes and str(folder) in str(arguments[0]) and not str(arguments[0]).endswith((".pt", ".txt")):
            print(f"writes: {event} {arguments}", file=sys.stderr, flush=True)
            os.abort()

    sys.addaudithook(watch)


def set_sharded(sharded: bool) -> None:
    os.environ["ACCELERATE_USE_FSDP"] = str(sharded).lower()
    distributed._meet.cache_clear()


def tune_and_store(
    folder: Path, name: str, *, stored: str, resume: bool | None = None, ending: tuple[int, int] = (0, 0)
) -> None:
    set_sharded(RUNS[name].sharded)
    with recorded(*ending) as found:
        predictor = tune(folder, RUNS[name], folder / f"{stored}-{RANK}", resume=resume)
    outputs = torch.from_numpy(predictor.predict_proba(HELD[0]))
    torch.save((tuple(found), outputs, predictor.metrics), folder / f"{stored}-{RANK}.pt")


def tune_whole(folder: Path) -> None:
    for name in RUNS:
        tune_and_store(folder, name, stored=name)
    set_sharded(False)
    grid, training = {"learning_rate": (1e-3, 5e-3)}, fg.Training(epochs=1)
    out = folder / f"grid-{RANK}"
    fg.sweep(TRAIN, grid, model=folder / "small", validation=HELD, training=training, out=out)
    sys.argv = ["fastgenome", "finetune", str(folder / "train.csv"), "--method", "lora", "--epochs", "1",
                "--model", str(folder / "small"), "-o", str(folder / f"command-{RANK}")]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("fastgenome", run_name="__main__")
    assert ended.value.code == 0


def tune_until_killed(folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        tune_and_store(folder, "full-sharded", stored="full-sharded-broken", ending=KILLS["full-sharded"][:2])
    tune_and_store(folder, "ars", stored="ars-broken", ending=KILLS["ars"][:2])


def resume_and_fail(folder: Path) -> None:
    for name in KILLS:
        tune_and_store(folder, name, stored=f"{name}-broken", resume=True)
    set_sharded(False)
    with pytest.raises(CheckpointError, match="a finished run with other data or settings"):
        tune(folder, RUNS["lora-dropout"], folder / f"lora-{RANK}", resume=True)
    out = folder / f"failed-{RANK}"
    with pytest.raises(DivergedError, match="use a lower learning_rate"):
        tune(folder, Run(fg.LoRA(rank=2), replace(TRAINING, learning_rate=1e30)), out)
    set_sharded(True)
    for method in (fg.ARS(), fg.AdaLoRA(), fg.DoRA()):
        with pytest.raises(ArgumentError, match="measures whole matrices"):
            tune(folder, Run(method), out, resume=False)
    with pytest.raises(ArgumentError, match="pooling='attention' is not for FSDP"):
        tune(folder, Run(fg.Full(), replace(TRAINING, pooling="attention")), out, resume=False)
    (folder / f"failed-{RANK}.txt").write_text("as expected")
    set_sharded(False)
    sys.argv = ["fastgenome", "finetune", str(folder / "train.csv"), "--method", "lora", "--set", "rank=0",
                "--model", str(folder / "small"), "-o", str(folder / f"command-failed-{RANK}")]  # fmt: skip
    runpy.run_module("fastgenome", run_name="__main__")


HELD_GROUPS: list[Any] = []


def exchange_and_end(folder: Path, held: bool) -> None:
    """Exchange objects last of all, by threads that hardly get a core."""
    processes = launched_processes(torch.device("cpu"))
    importlib.import_module("torch._dynamo")
    # As the caches of FSDP do; else as DDP's modules do.
    groups = HELD_GROUPS if held else []
    groups += [torch.distributed.group.WORLD, groups]
    for thread in threads_of_gloo():
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
    for _ in range(3):
        processes.by_first(lambda: list(range(1000)))


def threads_of_gloo() -> list[int]:
    tasks = Path("/proc/self/task")
    named = [(int(task), (tasks / task / "comm").read_text()) for task in os.listdir(tasks)]
    return [task for task, name in named if name.startswith("pt_gloo")]


def exchange_and_count(folder: Path) -> None:
    atexit.register(lambda: (folder / f"gloo-{RANK}.txt").write_text(str(len(threads_of_gloo()))))
    exchange_and_end(folder, held=False)


JOBS = {
    "whole": tune_whole,
    "killed": tune_until_killed,
    "resumed": resume_and_fail,
    "joined": exchange_and_count,
    "held": partial(exchange_and_end, held=True),
}

# The part that starts them.


def launched(job: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Both processes, one thread each, until they end."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2"),
        *("--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"),
        *(__file__, job, str(folder)),
    ]
    paths = [str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    own = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the runs of two processes that nothing broke."""
    folder = tmp_path_factory.mktemp("runs")
    weights = write_tiny(folder / "small") / "model.safetensors"
    tensors, generator = load_file(weights), torch.Generator().manual_seed(5)
    for tensor in tensors.values():
        if tensor.dim() == 1:
            # Trained models have no biases of zero, of which a relative error would tell nothing.
            tensor += 0.1 * torch.randn(tensor.shape, generator=generator)
    save_file(tensors, weights)
    with (folder / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("sequence", "label"), *zip(*TRAIN, strict=True)])
    result = launched("whole", folder)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("predictor saved in") == 1
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, tuple[Recorded, fg.Predictor]]:
    """The same runs in this process, in folders of which the names end in "-alone"."""
    found = {}
    for name, run in RUNS.items():
        with recorded() as steps:
            predictor = tune(folder, run, folder / f"{name}-alone")
        found[name] = steps, predictor
    return found


def stored(folder: Path, name: str) -> list[tuple[Recorded, Tensor, dict[str, dict[str, float]]]]:
    """What each of the two processes recorded, predicted and reported."""
    loaded = [torch.load(folder / f"{name}-{rank}.pt") for rank in (0, 1)]
    return [(Recorded(*steps), outputs, metrics) for steps, outputs, metrics in loaded]


def column(run: Path, table: str, name: str) -> list[float]:
    with (run / table).open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", [name for name in RUNS if name != "lora-dropout"])
def test_two_processes_equal_one(folder: Path, alone: dict[str, Any], name: str) -> None:
    expected, predictor = alone[name]
    found, outputs, metrics = stored(folder, name)[0]
    assert len(found.states) == len(expected.states) == STEPS
    np.testing.assert_allclose(found.norms, expected.norms, rtol=1e-5)
    for step, (ours, theirs) in enumerate(zip(found.states, expected.states, strict=True), start=1):
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            values, found_values = tensor.double(), ours[key].double()
            if key.endswith("qkv.bias"):
                # Scores of one query move alike with the keys' bias: its gradient is rounding, of which Adam
                # makes steps of full length.
                values, found_values = (
                    torch.cat([x.chunk(3)[0], x.chunk(3)[2]]) for x in (values, found_values)
                )
            error = (found_values - values).abs().max() / values.abs().max().clamp_min(1e-30)
            assert error <= 1e-5, (step, key, float(error))
    np.testing.assert_allclose(outputs, predictor.predict_proba(HELD[0]), rtol=1e-4)
    for part, figures in predictor.metrics.items():
        assert metrics[part] == pytest.approx(figures, rel=1e-4)
    for table in ("log.csv", "validation.csv"):
        losses = column(folder / f"{name}-alone", table, "loss")
        np.testing.assert_allclose(column(folder / f"{name}-0", table, "loss"), losses, rtol=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_both_processes_hold_the_same_at_every_step(folder: Path, name: str) -> None:
    (first, outputs, metrics), (second, other_outputs, other_metrics) = stored(folder, name)
    assert len(first.states) == len(second.states) == STEPS
    assert all(same(*states) for states in zip(first.states, second.states, strict=True))
    assert torch.equal(outputs, other_outputs)
    assert metrics == other_metrics


def test_masks_are_those_of_one_process_at_every_step(folder: Path, alone: dict[str, Any]) -> None:
    def masks(states: list[dict[str, Tensor]]) -> list[list[bool]]:
        return [torch.cat([t for n, t in state.items() if n.endswith(".mask")]).tolist() for state in states]

    expected = masks(alone["ars"][0].states)
    assert len(set(map(tuple, expected))) > 3
    for found, _, _ in stored(folder, "ars"):
        assert masks(found.states) == expected
    tables = [(folder / run / "ranks.csv").read_bytes() for run in ("ars-0", "ars-alone")]
    assert tables[0] == tables[1]


def test_each_process_draws_dropout_of_its_own(folder: Path, alone: dict[str, Any]) -> None:
    (first, *_), (second, *_) = stored(folder, "lora-dropout")
    assert first.seeds == alone["lora-dropout"][0].seeds
    assert len({*first.seeds, *second.seeds}) == 2 * STEPS


def test_gradients_are_exchanged_once_a_step(folder: Path) -> None:
    # Four sequences of each process make two parts; the last batch of an epoch has one sequence.
    for found, _, _ in stored(folder, "lora"):
        assert sorted(np.diff(found.apart, prepend=0)) == [0] * 2 + [1] * 14


def test_only_the_first_process_writes(folder: Path) -> None:
    for name in (*RUNS, "command"):
        assert (folder / f"{name}-0" / "predictor.json").is_file()
        assert not (folder / f"{name}-0" / "training").exists()
    assert (folder / "grid-0" / "sweep.csv").is_file()
    assert not list(folder.glob("*-1"))


def test_killed_processes_resume_bit_for_bit(folder: Path) -> None:
    result = launched("killed", folder)
    assert result.returncode != 0
    assert "Signal 9" in result.stderr
    for name, (_, _, step) in KILLS.items():
        steps = sorted(path.name for path in (folder / f"{name}-broken-0" / "training").glob("step-*"))
        assert steps[-1] == f"step-{step:09d}"
    result = launched("resumed", folder)
    # Its last command has a bad argument.
    assert result.returncode != 0
    assert "fastgenome: error: rank must be" in result.stderr, result.stderr[-3000:]
    assert not list(folder.glob("command-failed-*"))
    for rank in (0, 1):
        assert (folder / f"failed-{rank}.txt").is_file(), result.stderr[-3000:]
    for name, (_, _, step) in KILLS.items():
        for unbroken, broken in zip(stored(folder, name), stored(folder, f"{name}-broken"), strict=True):
            assert len(broken[0].states) == STEPS - step
            assert all(same(*pair) for pair in zip(unbroken[0].states[step:], broken[0].states, strict=True))
            assert torch.equal(unbroken[1], broken[1])
        assert same_tensors(folder / f"{name}-0", folder / f"{name}-broken-0")


@pytest.mark.parametrize("job", ["joined", "held"])
def test_threads_of_gloo_end_first(tmp_path: Path, job: str) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        result = launched(job, tmp_path)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert result.returncode == 0, result.stderr[-3000:]
    if job == "joined":
        assert [(tmp_path / f"gloo-{rank}.txt").read_text() for rank in (0, 1)] == ["0", "0"]


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_shares_hold_every_sequence_once(processes: int) -> None:
    lengths, batch = np.array([9, 3, 3, 8, 20, 1, 7]), np.array([6, 0, 4, 2, 1])
    shares = shares_of_batch(lengths, batch, 10, processes)
    assert len(shares) == processes
    assert len({len(share) for share in shares}) == 1
    assert sorted(np.concatenate([part for share in shares for part in share])) == sorted(batch)
    assert all(len(part) <= 1 or lengths[part].sum() <= 10 for share in shares for part in share)
    if processes == 1:
        parts = parts_of_batch(lengths, batch, 10)
        assert [part.tolist() for part in shares[0]] == [part.tolist() for part in parts]


def test_different_data_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes()
    processes.check_same("mine", "data")
    processes.count = 2
    monkeypatch.setattr("accelerate.utils.gather_object", lambda values: [*values, "mine"])
    processes.check_same("mine", "data")
    with pytest.raises(ArgumentError, match="the processes have different data"):
        processes.check_same("other", "data")


def test_missing_accelerate_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastgenome\[accelerate\]'"):
        launched_processes(torch.device("cpu"))


@pytest.mark.parametrize("name", ["DEEPSPEED", "MEGATRON_LM"])
def test_other_engines_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ArgumentError, match="DDP or FSDP"):
        launched_processes(torch.device("cpu"))


def test_error_that_cannot_travel_is_told_by_its_text() -> None:
    told = distributed._portable(SequenceTooLongError("too long", 3))
    assert type(told) is FastgenomeError
    assert str(told) == "too long"
    assert type(distributed._portable(DivergedError("diverged"))) is DivergedError


if __name__ == "__main__":
    if RANK == "1":
        forbid_writing(Path(sys.argv[2]))
    JOBS[sys.argv[1]](Path(sys.argv[2]))
