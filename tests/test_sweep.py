"""Sweeps over settings, and settings as texts of the command line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from planted_motifs import planted_motifs
from small_checkpoints import write_tiny
from typer.testing import CliRunner

import fastgenome as fg
from fastgenome.cli import app
from fastgenome.cli_settings import configured, grid_of
from fastgenome.errors import ArgumentError, DivergedError
from fastgenome.training.settings import Settings


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """Files to train and to validate on."""
    paths = []
    for seed, count in ((1, 60), (2, 30)):
        sequences, labels = planted_motifs(count, seed=seed)
        path = tmp_path / f"{count}.csv"
        rows = (f"{sequence},{label}" for sequence, label in zip(sequences, labels, strict=True))
        path.write_text("\n".join(["sequence,label", *rows]) + "\n")
        paths.append(path)
    return paths[0], paths[1]


def run(*arguments: object) -> object:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_configured_reads_values_by_the_types_of_fields() -> None:
    texts = ["rank=4", "targets=query,ffn_in", "use_rslora=true", "lr=3e-3", "layer=0,-1", "patience=none"]
    settings = configured("lora", [*texts, "class_weights=1,2.5", "seed=7", "dtype=bfloat16", "clip=inf"])
    assert settings.method == fg.LoRA(rank=4, targets=("query", "ffn_in"), use_rslora=True, seed=7)
    assert settings.training == fg.Training(
        learning_rate=3e-3,
        layer=(0, -1),
        class_weights=(1.0, 2.5),
        seed=7,
        dtype="bfloat16",
        clip=float("inf"),
    )


@pytest.mark.parametrize(
    ("method", "text", "expected"),
    [
        ("lora", "targets=output", {"targets": ("output",)}),
        ("ars", "allocation_warmup=10", {"allocation_warmup": 10}),
        ("ars", "allocation_warmup=0.2", {"allocation_warmup": 0.2}),
        ("ars", "mode=lingo", {"mode": "lingo"}),
        ("lora", "alpha=8", {"alpha": 8.0}),
    ],
)
def test_configured_reads_settings_of_methods(method: str, text: str, expected: dict) -> None:
    found = configured(method, [text]).method
    for name, value in expected.items():
        assert (getattr(found, name), type(getattr(found, name))) == (value, type(value))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["rnak=4"], r"'rnak=4': expected KEY=VALUE, each of rank, alpha"),
        (["rank"], "expected KEY=VALUE"),
        (["rank=4", "rank=8"], "rank is set already"),
        (["lr=1e-3", "learning_rate=1e-2"], "learning_rate is set already"),
        (["rank=many"], "rank must be a whole number from 1 .* got 'many'"),
        (["epochs=2.5"], r"epochs must be a whole number .* got '2.5'"),
        (["use_rslora=maybe"], "use_rslora: expected true or false, got 'maybe'"),
        (["targets=query,tail"], "targets must be"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_configured_refuses(texts: list[str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        configured("lora", texts)


def test_grid_of_reads_axes() -> None:
    grid = grid_of(["rank=2,4 lr=1e-4,1e-3", "epochs=1"], Settings.of("lora"))
    assert grid == {"rank": (2, 4), "learning_rate": (1e-4, 1e-3), "epochs": (1,)}
    grid = grid_of(["targets=query+value,query", "layer=0+-1,-1", "class_weights=1+2.5"], Settings.of("lora"))
    assert grid["targets"] == (("query", "value"), ("query",))
    assert grid["layer"] == ((0, -1), -1)
    assert grid["class_weights"] == ((1.0, 2.5),)
    with pytest.raises(ArgumentError, match="--sweep 'depth=1': expected KEY=VALUE"):
        grid_of(["depth=1"], Settings.of("lora"))


def test_sweep_tunes_every_combination_and_takes_the_best(small: Path, tmp_path: Path) -> None:
    # On its own data a run gets better for certain.
    train = validation = planted_motifs(60, seed=1)
    training = fg.Training(epochs=4, batch_size=8, criterion="loss")
    result = fg.sweep(
        train,
        {"rank": (1, 2), "lr": (1e-9, 1e-3)},
        model=small,
        validation=validation,
        training=training,
        out=tmp_path / "grid",
    )
    settings = [(row["rank"], row["learning_rate"]) for row in result.rows]
    assert settings == [(1, 1e-9), (1, 1e-3), (2, 1e-9), (2, 1e-3)]
    losses = [row["loss"] for row in result.rows]
    assert [row["best"] for row in result.rows] == [loss == min(losses) for loss in losses]
    best = result.rows[int(np.argmin(losses))]
    assert result.best.hyperparameters["rank"] == best["rank"]
    assert result.best.metrics["validation"]["mcc"] == best["mcc"]
    folders = {path.name for path in (tmp_path / "grid").iterdir() if path.is_dir()}
    assert folders == {f"rank={r},learning_rate={lr}" for r in (1, 2) for lr in (1e-9, 1e-3)}
    alone = fg.finetune(
        train,
        model=small,
        method=fg.LoRA(rank=2),
        validation=validation,
        training=fg.Training(epochs=4, batch_size=8, criterion="loss", learning_rate=1e-3),
    )
    assert alone.metrics["validation"] == {
        name: value for name, value in result.rows[3].items() if name in alone.metrics["validation"]
    }
    table = read_table(tmp_path / "grid" / "sweep.csv")
    assert [row["best"] for row in table] == [str(row["best"]) for row in result.rows]
    assert float(table[1]["loss"]) == losses[1]


def test_sweep_goes_on_where_a_run_diverges(small: Path, tmp_path: Path) -> None:
    data, training = planted_motifs(40, seed=1), fg.Training(epochs=20, clip=float("inf"))
    arguments = {"model": small, "training": training, "out": tmp_path / "grid"}
    result = fg.sweep(data, {"lr": (1e30, 1e-9, 1e31)}, **arguments)
    assert [row["diverged"] for row in result.rows] == [True, False, True]
    assert [row["best"] for row in result.rows] == [False, True, False]
    assert len(read_table(tmp_path / "grid" / "sweep.csv")) == 3
    with pytest.raises(ArgumentError, match=r"learning_rate=1e.30 holds an unfinished run"):
        fg.sweep(data, {"lr": (1e-9, 1e30)}, **arguments)
    with pytest.raises(DivergedError, match="every run of the sweep diverged"):
        fg.sweep(data, {"lr": (1e30,)}, resume=False, **arguments)


def test_sweep_takes_numbers_of_numpy(small: Path) -> None:
    training = fg.Training(epochs=1)
    result = fg.sweep(
        planted_motifs(40, seed=1), {"rank": list(np.array([1]))}, model=small, training=training
    )
    assert json.dumps(result.best.hyperparameters["rank"]) == "1"


def test_finetune_command_tells_of_diverged_runs(
    small: Path, tables: tuple[Path, Path], tmp_path: Path
) -> None:
    command = [
        "finetune",
        tables[0],
        "--model",
        small,
        "--method",
        "lora",
        "--epochs",
        20,
        "--set",
        "clip=inf",
    ]
    told = run(*command, "-o", tmp_path / "grid", "--sweep", "lr=1e30,1e-9")
    assert told.exit_code == 0, told.output
    assert [line.split()[-1] for line in told.output.splitlines()[1:3]] == ["diverged", "best"]


def test_finetune_command_refuses_an_unfinished_run(
    small: Path, tables: tuple[Path, Path], tmp_path: Path
) -> None:
    command = [
        "finetune",
        tables[0],
        "--model",
        small,
        "--method",
        "lora",
        "--epochs",
        1,
        "-o",
        tmp_path / "r",
    ]
    (tmp_path / "r" / "training").mkdir(parents=True)
    (tmp_path / "r" / "training" / "running.json").write_text("{}")
    told = run(*command)
    assert told.exit_code == 1
    assert "--restart" in told.stderr
    assert run(*command, "--restart").exit_code == 0


@pytest.mark.parametrize(
    ("method", "grid", "message"),
    [
        ("probe", {"seed": (1,)}, "the probe chooses its penalty by itself"),
        ("lora", {"depth": (1,)}, r"grid has \['depth'\], expected some of rank"),
        ("lora", {"rank": (0,)}, "rank must be"),
        ("lora", {"rank": ()}, "grid must hold"),
        ("lora", {"rank": 4}, "grid must hold"),
        ("lora", {"criterion": ("mcc", "loss")}, "grid has criterion"),
        ("lora", {"seed": (1, 2), "held_out": (0.1,)}, "grid has held_out, seed, .* give validation="),
        ("lora", {"lr": (1e-3,), "learning_rate": (1e-2,)}, "grid names a setting twice: lr, learning_rate"),
        ("lora", {"rank": (2, 4, 2)}, "grid has a value of rank twice"),
    ],
    ids=["probe", "unknown", "value", "empty", "number", "criterion", "data", "names", "values"],
)
def test_sweep_refuses(small: Path, method: str, grid: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        fg.sweep(planted_motifs(20, seed=1), grid, method=method, model=small)


def test_finetune_command_tunes_resumes_and_predicts(
    small: Path, tables: tuple[Path, Path], tmp_path: Path
) -> None:
    train, validation = tables
    command = ["finetune", train, "--model", small, "--method", "lora", "--validation", validation]
    command += ["--set", "rank=2", "--set", "targets=query,value", "--epochs", 2, "--lr", 1e-3]
    command += ["--batch-size", 16, "-o", tmp_path / "run"]
    told = run(*command)
    assert told.exit_code == 0, told.output
    assert "lora: " in told.output
    assert "parameters trained" in told.output
    report = json.loads(run(*command, "--resume", "--json").stdout)
    assert report["hyperparameters"]["rank"] == 2
    assert report["hyperparameters"]["training"]["epochs"] == 2
    assert report["hyperparameters"]["steps"] == 8
    predicted = run("predict", validation, "--predictor", tmp_path / "run", "-o", tmp_path / "out.tsv")
    assert predicted.exit_code == 0, predicted.output
    assert len((tmp_path / "out.tsv").read_text().splitlines()) == 31


def test_finetune_command_sweeps(small: Path, tables: tuple[Path, Path], tmp_path: Path) -> None:
    command = ["finetune", tables[0], "--model", small, "--method", "lora", "--epochs", 1]
    told = run(*command, "-o", tmp_path / "grid", "--sweep", "rank=1,2", "lr=1e-4,1e-3")
    assert told.exit_code == 0, told.output
    assert told.output.splitlines()[0].split()[:3] == ["rank", "learning_rate", "mcc"]
    assert sum(line.endswith("best") for line in told.output.splitlines()) == 1
    assert len(read_table(tmp_path / "grid" / "sweep.csv")) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "lora", "lr=1e-3,1e-4"], "unexpected argument 'lr=1e-3,1e-4'"),
        (["--method", "lora", "--resume", "--restart"], "not both"),
        (["--resume"], "only a tuning run can be continued"),
        (["--epochs", 3], "'epochs=3': expected KEY=VALUE, each of pooling, layer, seed"),
        (["--method", "lora", "--set", "epochs=1", "--epochs", 3], "epochs is set already"),
        (["--method", "lora", "--model", "none", "--features", "gc"], "'lora' tunes a model"),
    ],
    ids=["axis", "both", "resume", "probe", "twice", "no-model"],
)
def test_finetune_command_refuses(
    tables: tuple[Path, Path], tmp_path: Path, arguments: list[object], message: str
) -> None:
    told = run("finetune", tables[0], "-o", tmp_path / "run", *arguments)
    assert told.exit_code == 1
    assert message in told.stderr
