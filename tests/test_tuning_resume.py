"""Tuning runs that are killed, resumed, or find their checkpoints damaged."""

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_motifs import planted_motifs
from safetensors.torch import load_file
from small_checkpoints import SHAPE, write_tiny
from torch import Tensor

import fastgenome as fg
from fastgenome.adapters.attach import is_merged
from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.training.tuning_checkpoint import Checkpoint, CheckpointFolder, read_checkpoint
from fastgenome.training.tuning_run import TuningRun

TESTS = Path(__file__).resolve().parent
KILLS = int(os.environ.get("FASTGENOME_KILLS", "4"))
CORRUPTIONS = int(os.environ.get("FASTGENOME_CORRUPTIONS", "200"))
METHODS = {
    "lora": fg.LoRA(rank=2, dropout=0.3),
    "ars": fg.ARS(initial_rank=4, target_rank=2, allocation_interval=1, orthogonality=0.1),
    "full": fg.Full(),
    "adalora": fg.AdaLoRA(initial_rank=4, target_rank=2, allocation_interval=1, dropout=0.3),
}
TRAINING = fg.Training(
    epochs=2, batch_size=8, batch_tokens=40, learning_rate=5e-3, evaluate_every=3, checkpoint_every=2, keep=3
)
STEPS = 16
# Files opened and folders made, renamed and removed in a run: some more or less.
OPERATIONS = 150

# Each run in a process of its own, which is killed. All come from one that has imported everything, as that
# takes the longest. A checkpoint that is found damaged ends a run.
_KILLED = """
import json, os, signal, sys, time, warnings
import matplotlib.backends.backend_agg, matplotlib.figure, scipy.stats, sklearn.linear_model, sklearn.metrics
import numpy as np
import torch._dynamo
import fastgenome.models
sys.path.insert(0, {tests!r})
import test_tuning_resume as t
from fastgenome.training.tuning_run import TuningRun

def begun(out, method, prepare=lambda: None):
    child = os.fork()
    if child == 0:
        prepare()
        warnings.filterwarnings("error", message=".*trying the checkpoint before it")
        t.tune_in(out, {model!r}, method)
        os._exit(0)
    return child

def status(child):
    return os.waitpid(child, 0)[1]
"""
_KILLED_AFTER_STEPS = """
one_step = TuningRun._one_step
for out, method, steps in {runs!r}:
    for step in steps:
        def killed(run):
            one_step(run)
            if run.step == step:
                os.kill(os.getpid(), signal.SIGKILL)
        TuningRun._one_step = killed
        assert status(begun(out, method)) == signal.SIGKILL
"""
_KILLED_AT_MOMENTS = """
rng, kills, places = np.random.default_rng(0), 0, []

def at_a_moment(out, method):
    child = begun(out, method)
    time.sleep(rng.uniform(0, {seconds!r}[method]))
    os.kill(child, signal.SIGKILL)
    return child

def before_a_file_operation(out, method):
    left = int(rng.integers({operations}))
    def hook(event, arguments):
        nonlocal left
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            left -= str(arguments[0]).startswith({folder!r})
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    return begun(out, method, lambda: sys.addaudithook(hook))

while kills < {kills}:
    method = list(t.METHODS)[len(places) % len(t.METHODS)]
    out = f"{folder}/{{method}}-{{len(places)}}"
    places.append((out, method))
    ended = None
    while ended != 0 and kills < {kills}:
        ended = status({how}(out, method))
        assert ended in (0, signal.SIGKILL)
        kills += ended == signal.SIGKILL
print(json.dumps(places))
"""


def run_killed(code: str, model: Path, **values: object) -> str:
    """What the script printed that starts runs and kills them."""
    code = (_KILLED + code).format(tests=str(TESTS), model=str(model), **values)
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, timeout=1200
    )
    return done.stdout


def tune_in(out: str | Path, model: str | Path, method: str, *, resume: bool | None = True) -> fg.Predictor:
    torch.set_num_threads(1)
    return fg.finetune(
        planted_motifs(60, seed=1),
        model=model,
        method=METHODS[method],
        validation=planted_motifs(20, seed=2),
        features="gc",
        training=TRAINING,
        out=out,
        resume=resume,
    )


def same_tensors(*runs: Path) -> bool:
    """Whether all that two runs learned is the same, bit for bit."""
    return same(*map(tensors_of, runs))


def tensors_of(run: Path) -> dict[str, Tensor]:
    return {f"{p.name}:{name}": t for p in run.rglob("*.safetensors") for name, t in load_file(p).items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Wide enough for weights to be packed.
    return write_tiny(tmp_path_factory.mktemp("models") / "small", shape=replace(SHAPE, dim=256, ffn_dim=160))


@pytest.fixture(scope="module")
def whole(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each method that nobody killed."""
    folders = {method: tmp_path_factory.mktemp("whole") / method for method in METHODS}
    for method, folder in folders.items():
        tune_in(folder, small, method)
    return folders


def assert_resumes(out: Path, whole: Path, model: Path, method: str, *, begins: int | None = None) -> None:
    """End a killed run, which then is the one that nobody killed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*trying the checkpoint before it")
        begun = begun_at(out, model, method)
    assert begins is None or begun == begins
    assert same_tensors(whole, out)
    for table in ("validation.csv", *(["ranks.csv"] if method in ("ars", "adalora") else [])):
        assert (out / table).read_text() == (whole / table).read_text()
    assert not (out / "training").exists()


def test_runs_killed_after_random_steps_resume_bit_for_bit(
    small: Path, whole: dict[str, Path], tmp_path: Path
) -> None:
    rng, runs = np.random.default_rng(0), []
    for n, method in enumerate(METHODS):
        left = len(range(n, KILLS, len(METHODS)))
        while left > 0:
            # No step twice in one run.
            steps = sorted(rng.choice(np.arange(1, STEPS), size=min(left, 5), replace=False).tolist())
            runs.append((str(tmp_path / f"{method}-{len(runs)}"), method, steps))
            left -= len(steps)
    assert sum(len(steps) for _, _, steps in runs) == KILLS
    run_killed(_KILLED_AFTER_STEPS, small, runs=runs)
    for out, method, steps in runs:
        assert not (Path(out) / "predictor.json").exists()
        # The step after which the process died was not stored yet.
        assert_resumes(Path(out), whole[method], small, method, begins=(steps[-1] - 1) // 2 * 2)


def begun_at(out: Path, model: Path, method: str, *, resume: bool = True) -> int | None:
    """End a run; the step at which it began or went on, None where it had ended."""
    begun: list[int] = []
    train = TuningRun.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TuningRun, "train", lambda run, *a, **k: (begun.append(run.step), train(run, *a, **k)))
        tune_in(out, model, method, resume=resume)
    return begun[0] if begun else None


@pytest.mark.parametrize("how", ["at_a_moment", "before_a_file_operation"])
def test_runs_killed_at_random_moments_resume_bit_for_bit(
    small: Path, whole: dict[str, Path], tmp_path: Path, how: str
) -> None:
    """While data are prepared or files are written, too; no checkpoint is ever half there."""
    seconds = {}
    for method in METHODS:
        begin = time.perf_counter()
        tune_in(tmp_path / "timed" / method, small, method)
        seconds[method] = time.perf_counter() - begin
    printed = run_killed(
        _KILLED_AT_MOMENTS,
        small,
        folder=f"{tmp_path}/runs",
        kills=KILLS,
        how=how,
        seconds=seconds,
        operations=OPERATIONS,
    )
    for out, method in json.loads(printed):
        assert_resumes(Path(out), whole[method], small, method)


def test_finished_run_is_returned_at_once(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tune_in(tmp_path / "run", small, "lora")
    files = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"predictor.json", "head.safetensors", "adapter", "log.csv", "metrics.json"} <= files
    report = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert report["metrics"] == first.metrics
    assert report["steps"] == 16
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert {"step", "loss", "learning_rate", "bases_per_second", "memory_mb"} <= set(rows[0].split(","))
    assert rows[-1].startswith("16,2.0,")
    monkeypatch.setattr(TuningRun, "train", None)
    again = tune_in(tmp_path / "run", small, "lora")
    sequences = planted_motifs(9, seed=3)[0]
    np.testing.assert_array_equal(again.predict_proba(sequences), first.predict_proba(sequences))
    with pytest.raises(CheckpointError, match="a finished run with other data or settings"):
        tune_in(tmp_path / "run", small, "full")


class Killed(Exception):
    pass


def interrupt(out: Path, model: Path, step: int = 9, method: str = "lora") -> None:
    """Leave a run that ended with an exception after some steps."""
    one_step = TuningRun._one_step

    def stopped(run: TuningRun) -> None:
        if run.step == step:
            raise Killed
        one_step(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TuningRun, "_one_step", stopped)
        with pytest.raises(Killed):
            tune_in(out, model, method)


def test_resume_refuses_another_run(small: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "run", small)
    with pytest.raises(CheckpointError, match="other data or settings"):
        tune_in(tmp_path / "run", small, "full")


def test_run_without_resume_starts_anew(small: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "run", small)
    tune_in(tmp_path / "whole", small, "lora")
    assert begun_at(tmp_path / "run", small, "lora", resume=False) == 0
    assert same_tensors(tmp_path / "whole", tmp_path / "run")


def test_damaged_checkpoint_is_passed_over_with_a_message(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    interrupt(out, small)
    stored = sorted((out / "training").glob("step-*"))
    assert [path.name for path in stored] == ["step-000000004", "step-000000006", "step-000000008"]
    state = stored[-1] / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="step-000000008: .* trying the checkpoint before it"):
        tune_in(out, small, "lora")
    tune_in(tmp_path / "whole", small, "lora")
    assert same_tensors(tmp_path / "whole", out)


def test_run_whose_checkpoints_are_all_damaged_is_refused(small: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "run", small)
    for path in (tmp_path / "run").rglob("state.safetensors"):
        path.unlink()
    with (
        pytest.warns(UserWarning, match="trying the checkpoint before it"),
        pytest.raises(CheckpointError, match=r"no checkpoint in .* is intact"),
    ):
        tune_in(tmp_path / "run", small, "lora")


def damage(path: Path, rng: np.random.Generator) -> None:
    """Cut a file short, or flip one of its bits."""
    data = bytearray(path.read_bytes())
    place = int(rng.integers(len(data)))
    if rng.random() < 0.3:
        del data[place:]
    else:
        data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(data))


def damage_folder(folder: Path, other: Path, rng: np.random.Generator) -> None:
    """Damage a file of a checkpoint, remove it, or put that of another step in its place."""
    name = str(rng.choice(["manifest.json", "state.safetensors"]))
    kind = rng.random()
    if kind < 0.8:
        damage(folder / name, rng)
    elif kind < 0.9:
        (folder / name).unlink()
    else:
        shutil.copy2(other / name, folder / name)


def test_no_damaged_checkpoint_loads(small: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for method in METHODS:
        interrupt(tmp_path / method, small, method=method)
        other, good = sorted((tmp_path / method / "training").glob("step-*"))[-2:]
        read_checkpoint(good)
        loaded = 0
        for _ in range(CORRUPTIONS // len(METHODS)):
            bad = tmp_path / "bad"
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(good, bad)
            damage_folder(bad, other, rng)
            try:
                read_checkpoint(bad)
                loaded += 1
            except CheckpointError:
                pass
        assert loaded == 0


def test_no_damaged_predictor_loads(small: Path, tmp_path: Path) -> None:
    tune_in(tmp_path / "run", small, "lora")
    described = json.loads((tmp_path / "run" / "predictor.json").read_text())
    names = sorted(described["tuned"]["files"])
    assert names == ["adapter/adapter_config.json", "adapter/adapter_model.safetensors", "head.safetensors"]
    rng = np.random.default_rng(0)
    for n in range(CORRUPTIONS // 4):
        path = tmp_path / "run" / names[n % 3]
        whole = path.read_bytes()
        damage(path, rng)
        with pytest.raises(CheckpointError):
            fg.Predictor.load(tmp_path / "run")
        path.write_bytes(whole)
    fg.Predictor.load(tmp_path / "run")


def test_checkpoint_folder_keeps_the_newest(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, "settings", keep=2)
    assert folder.newest() is None
    for step in (5, 10, 15):
        folder.save(Checkpoint(step, {"w": torch.full((3,), float(step))}, {"figure": 0.1 + 0.2}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000010", "step-000000015"]
    newest = folder.newest()
    assert newest is not None
    assert (newest.step, newest.progress) == (15, {"figure": 0.1 + 0.2})
    assert torch.equal(newest.tensors["w"], torch.full((3,), 15.0))


_PREDICT = """
import sys, numpy as np, fastgenome as fg
for folder in sys.argv[1:6]:
    np.save(folder + ".npy", fg.Predictor.load(folder).predict_proba(sys.argv[6:]))
"""


def test_predictor_predicts_the_same_in_another_process(tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "base")
    data, sequences = planted_motifs(40, seed=1), planted_motifs(12, seed=3)[0]
    # On its own data a run gets better for certain, so that the best weights are not those of the start.
    training = fg.Training(epochs=4, learning_rate=1e-3, batch_size=8, criterion="loss")
    expected = {}
    for method in ("lora", "dora", "ia3", "ars", "full"):
        predictor = fg.finetune(
            data, model=model, method=METHODS.get(method, method), validation=data, training=training
        )
        assert predictor.hyperparameters["best_step"] > 0
        predictor.save(tmp_path / method)
        expected[tmp_path / method] = predictor.predict_proba(sequences)
    command = [sys.executable, "-c", _PREDICT, *expected, *sequences]
    subprocess.run(command, check=True)
    for folder, probabilities in expected.items():
        np.testing.assert_allclose(np.load(f"{folder}.npy"), probabilities, atol=1e-6)


@pytest.mark.parametrize("method", ["lora", "ars", "full"])
def test_loaded_predictor_saves_itself_again(small: Path, tmp_path: Path, method: str) -> None:
    predictor = tune_in(tmp_path / "first", small, method)
    # A model that is given stays as it is.
    model = fg.load(small, dtype="float32")
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    fg.Predictor.load(tmp_path / "first", model=model).save(tmp_path / "second")
    assert not model.adapters.configs
    assert all(torch.equal(before[name], t) for name, t in model.network.state_dict().items())
    again = fg.Predictor.load(tmp_path / "second")
    sequences = planted_motifs(12, seed=3)[0]
    np.testing.assert_allclose(again.predict_proba(sequences), predictor.predict_proba(sequences), atol=1e-6)
    assert again.base == fg.Predictor.load(tmp_path / "first").base


@pytest.mark.parametrize(
    ("method", "named"), [("lora", False), ("probe", True)], ids=["without a folder", "probe"]
)
def test_resume_refuses_what_cannot_be_continued(tmp_path: Path, method: str, named: bool) -> None:
    with pytest.raises(ArgumentError, match="resume: only a tuning run with out= can be continued"):
        fg.finetune(
            "none.csv", model="none", method=method, out=tmp_path / "o" if named else None, resume=True
        )
    assert not list(tmp_path.iterdir())


def test_forgotten_resume_deletes_nothing(small: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "run", small)
    stored = sorted((tmp_path / "run" / "training").iterdir())
    with pytest.raises(
        ArgumentError, match=r"unfinished run; resume=True \(--resume\) continues it, resume=False"
    ):
        tune_in(tmp_path / "run", small, "lora", resume=None)
    with pytest.raises(ArgumentError, match="unfinished run"):
        fg.finetune(planted_motifs(20, seed=1), model=small, out=tmp_path / "run")
    assert sorted((tmp_path / "run" / "training").iterdir()) == stored


@pytest.mark.parametrize("lost", ["state.safetensors", "manifest.json"])
def test_damaged_checkpoints_never_outlive_intact_ones(tmp_path: Path, lost: str) -> None:
    folder = CheckpointFolder(tmp_path, "settings", keep=1)
    for step in (4, 8):
        CheckpointFolder(tmp_path, "settings", keep=5).save(Checkpoint(step, {"w": torch.zeros(3)}, {}))
    (tmp_path / "step-000000008" / lost).unlink()
    with pytest.warns(UserWarning, match="step-000000008"):
        assert folder.newest().step == 4
    for step in (6, 8):
        folder.save(Checkpoint(step, {"w": torch.zeros(3)}, {}))
        assert folder.newest().step == step


def test_finished_run_is_returned_after_its_base_moved(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "base")
    first = tune_in(tmp_path / "run", tmp_path / "base", "lora")
    (tmp_path / "base").rename(tmp_path / "moved")
    again = tune_in(tmp_path / "run", tmp_path / "moved", "lora")
    sequences = planted_motifs(9, seed=3)[0]
    np.testing.assert_array_equal(again.predict_proba(sequences), first.predict_proba(sequences))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_predictor_saved_again_names_its_base_where_it_is(small: Path, tmp_path: Path, method: str) -> None:
    shutil.copytree(small, tmp_path / "base")
    tune_in(tmp_path / "run", tmp_path / "base", method)
    (tmp_path / "base").rename(tmp_path / "moved")
    tune_in(tmp_path / "run", tmp_path / "moved", method).save(tmp_path / "again")
    described = json.loads((tmp_path / "again" / "predictor.json").read_text())
    assert described["model"]["name"] == str(tmp_path / "moved")
    before = json.loads((tmp_path / "run" / "predictor.json").read_text())["model"]
    assert described["model"] | {"name": before["name"]} == before
    fg.Predictor.load(tmp_path / "again")


def test_loaded_predictor_names_its_base_where_it_was_given(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "base")
    tune_in(tmp_path / "run", tmp_path / "base", "lora")
    (tmp_path / "base").rename(tmp_path / "moved")
    for given in (tmp_path / "moved", fg.load(tmp_path / "moved", dtype="float32")):
        fg.Predictor.load(tmp_path / "run", model=given).save(tmp_path / "again")
        fg.Predictor.load(tmp_path / "again")


def test_finished_run_is_the_same_for_equal_settings(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [
        (fg.LoRA(rank=2, alpha=4), fg.Training(epochs=1, warmup=0)),
        (fg.LoRA(rank=np.int64(2), alpha=np.float64(4)), fg.Training(epochs=np.int64(1), warmup=0.0)),
    ]
    outputs = []
    for method, training in settings:
        predictor = fg.finetune(
            planted_motifs(20, seed=1),
            model=small,
            method=method,
            validation=planted_motifs(20, seed=2),
            training=training,
            out=tmp_path / "run",
            resume=True,
        )
        outputs.append(predictor.outputs(planted_motifs(9, seed=3)[0]))
        # The second call has nothing left to do.
        monkeypatch.delattr(TuningRun, "train", raising=False)
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("method", ["lora", "probe"])
def test_files_of_others_are_kept(small: Path, tmp_path: Path, method: str) -> None:
    data, training = planted_motifs(40, seed=1), None if method == "probe" else fg.Training(epochs=1)
    for _ in range(2):
        fg.finetune(data, model=small, method=method, training=training, out=tmp_path / "run")
        (tmp_path / "run" / "notes.txt").write_text("mine")
        (tmp_path / "run" / "plots").mkdir(exist_ok=True)
        (tmp_path / "run" / "plots" / "one").write_text("mine")
    fg.finetune(data, model=small, method=method, training=training, out=tmp_path / "run")
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "run" / "plots" / "one").read_text() == "mine"
    fg.Predictor.load(tmp_path / "run")


def test_run_killed_before_its_marker_can_begin_again(small: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "training").mkdir(parents=True)
    tune_in(tmp_path / "run", small, "lora", resume=None)
    fg.Predictor.load(tmp_path / "run")
    (tmp_path / "other" / "training").mkdir(parents=True)
    (tmp_path / "other" / "training" / "mine").touch()
    with pytest.raises(ArgumentError, match="holds no predictor"):
        tune_in(tmp_path / "other", small, "lora", resume=None)


def test_discarded_run_keeps_its_marker_to_the_last(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path / "run", small)

    def killed(path: Path) -> None:
        assert (tmp_path / "run" / "training" / "running.json").is_file()
        raise Killed

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(Killed):
        tune_in(tmp_path / "run", small, "lora", resume=False)


def test_failed_saving_leaves_the_adapter_merged(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = tune_in(tmp_path / "run", small, "lora")
    expected = predictor.predict_proba(planted_motifs(9, seed=3)[0])

    def failing(*arguments: object, **options: object) -> None:
        raise Killed

    monkeypatch.setattr(type(predictor.model), "save_adapter", failing)
    with pytest.raises(Killed):
        predictor.save(tmp_path / "saved")
    assert is_merged(predictor.model)
    np.testing.assert_array_equal(predictor.predict_proba(planted_motifs(9, seed=3)[0]), expected)
