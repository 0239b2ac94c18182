"""Pre-training: learns, resumes exactly, and leaves a model that loads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fastgenome as fg
from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.models.tiny import TinyConfig
from fastgenome.models.transformer import TransformerConfig
from fastgenome.training import pretrain as module
from fastgenome.training.pretrain import STATE_FILE, PretrainConfig, pretrain

SMALL = PretrainConfig(
    bases=60_000, batch_bases=2000, shortest=32, longest=64, evaluate_bases=5000, checkpoint_steps=10
)


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    """A genome with something to learn: one word over and over, with a random base between."""
    rng = np.random.default_rng(0)
    sequence = "".join("ACCGTTA" + rng.choice(list("ACGT")) for _ in range(20_000))
    path = tmp_path / "genome.fa"
    path.write_text(f">chr1\n{sequence}\n")
    return path


def small_shape() -> TinyConfig:
    shape = TinyConfig()
    small = TransformerConfig(
        **{**vars(shape.transformer), "dim": 32, "heads": 2, "ffn_dim": 32, "layers": 1}
    )
    return TinyConfig(**{**vars(shape), "transformer": small, "default_layers": (0, 1)})


def test_pretrain_learns_and_saves_a_model(genome: Path, tmp_path: Path) -> None:
    report = pretrain(genome, tmp_path / "run", config=SMALL, shape=small_shape())
    assert report.steps == SMALL.steps == 30
    assert report.perplexity < report.loss[0]["perplexity"] < 4.5
    assert report.held_out_bases > 0
    # An order-8 context tells every base of the word but not the random one.
    assert report.markov_perplexity[8] < 1.5
    model = fg.load(tmp_path / "run")
    assert model.embed(["ACGT" * 20]).shape == (1, model.embedding_dim)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json",
        "model.safetensors",
        "loss.csv",
        "pretraining.json",
    }
    rows = (tmp_path / "run" / "loss.csv").read_text().splitlines()
    assert rows[0].split(",")[:2] == ["step", "bases"]
    assert [int(row.split(",")[0]) for row in rows[1:]] == [10, 20, 30]


class Killed(Exception):
    pass


def test_pretrain_resumes_bit_for_bit(genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pretrain(genome, tmp_path / "whole", config=SMALL, shape=small_shape())
    step = module._Run._one_step

    def killed_at_17(run: module._Run) -> float:
        if run.step == 17:
            raise Killed
        return step(run)

    with monkeypatch.context() as patch:
        patch.setattr(module._Run, "_one_step", killed_at_17)
        with pytest.raises(Killed):
            pretrain(genome, tmp_path / "broken", config=SMALL, shape=small_shape())
    assert not (tmp_path / "broken" / "model.safetensors").exists()
    steps = []
    monkeypatch.setattr(module._Run, "_one_step", lambda run: steps.append(run.step) or step(run))
    resumed = pretrain(genome, tmp_path / "broken", config=SMALL, shape=small_shape())
    assert steps[0] == 10
    assert resumed.perplexity == whole.perplexity
    assert [row["loss"] for row in resumed.loss] == [row["loss"] for row in whole.loss]
    first, second = (fg.load(tmp_path / name).network.state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_pretrain_finished_run_is_returned_at_once(
    genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pretrain(genome, tmp_path / "run", config=SMALL, shape=small_shape())
    monkeypatch.setattr(module._Run, "_one_step", None)
    assert pretrain(genome, tmp_path / "run", config=SMALL, shape=small_shape()) == first


def test_pretrain_refuses_another_runs_state(
    genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(module._Run, "report", lambda run: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        pretrain(genome, run, config=SMALL, shape=small_shape())
    other = PretrainConfig(**{**vars(SMALL), "seed": 1})
    with pytest.raises(CheckpointError, match="other data or settings"):
        pretrain(genome, run, config=other, shape=small_shape())
    state = run / STATE_FILE
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="cannot read"):
        pretrain(genome, run, config=SMALL, shape=small_shape())


def test_pretrain_report_is_json(genome: Path, tmp_path: Path) -> None:
    report = pretrain(genome, tmp_path / "run", config=SMALL, shape=small_shape())
    stored = json.loads((tmp_path / "run" / "pretraining.json").read_text())
    assert stored["perplexity"] == report.perplexity
    assert f"{report.perplexity:.3f}" in report.summary()


@pytest.mark.parametrize(
    "change", [{"bases": 0}, {"mask_rate": 1.0}, {"shortest": 100, "longest": 50}, {"held_out": 0.9}], ids=str
)
def test_pretrain_refuses_settings(genome: Path, tmp_path: Path, change: dict[str, float]) -> None:
    with pytest.raises(ArgumentError):
        pretrain(genome, tmp_path / "run", config=PretrainConfig(**{**vars(SMALL), **change}))
