"""Pre-training: learns, resumes exactly, and leaves a model that loads."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

import fastgenome as fg
from fastgenome.cli import app
from fastgenome.emissions import Footprint
from fastgenome.errors import ArgumentError, CheckpointError, InputError
from fastgenome.models.tiny import TinyConfig
from fastgenome.models.transformer import TransformerConfig
from fastgenome.training import masked_language, pretrain_run
from fastgenome.training.corpus import build_corpus
from fastgenome.training.held_out import ORDERS, HiddenBases, nats_per_base, sample_hidden_bases
from fastgenome.training.markov import MarkovModel
from fastgenome.training.masked_language import masked_nats
from fastgenome.training.pretrain import PretrainConfig, PretrainReport, pretrain
from fastgenome.training.pretrain_run import STATE_FILE, PretrainRun

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
    assert report.loss[-1]["loss"] < report.loss[0]["loss"] < 2
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
    step = PretrainRun._one_step

    def killed_at_17(run: PretrainRun) -> float:
        if run.step == 17:
            raise Killed
        return step(run)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainRun, "_one_step", killed_at_17)
        with pytest.raises(Killed):
            pretrain(genome, tmp_path / "broken", config=SMALL, shape=small_shape())
    assert not (tmp_path / "broken" / "model.safetensors").exists()
    steps = []
    monkeypatch.setattr(PretrainRun, "_one_step", lambda run: steps.append(run.step) or step(run))
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
    monkeypatch.setattr(PretrainRun, "_one_step", None)
    assert pretrain(genome, tmp_path / "run", config=SMALL, shape=small_shape()) == first


def test_pretrain_refuses_another_runs_state(
    genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(PretrainRun, "report", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        pretrain(genome, run, config=SMALL, shape=small_shape())
    other = PretrainConfig(**{**vars(SMALL), "seed": 1})
    with pytest.raises(CheckpointError, match="other data or settings"):
        pretrain(genome, run, config=other, shape=small_shape())
    state = run / STATE_FILE
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="cannot read"):
        pretrain(genome, run, config=SMALL, shape=small_shape())


def test_pretrain_refuses_to_replace_another_finished_run(genome: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pretrain(genome, run, config=SMALL, shape=small_shape())
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    other = PretrainConfig(**{**vars(SMALL), "seed": 1})
    with pytest.raises(CheckpointError, match="a finished run with other data or settings"):
        pretrain(genome, run, config=other, shape=small_shape())
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    report = pretrain(genome, run, config=other, shape=small_shape(), resume=False)
    assert report == pretrain(genome, run, config=other, shape=small_shape())
    (run / "pretraining.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot read the report"):
        pretrain(genome, run, config=other, shape=small_shape())


def test_pretrain_resumes_a_run_begun_over_a_finished_one(
    genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(genome, tmp_path / "run", config=SMALL, shape=small_shape())
    other = PretrainConfig(**{**vars(SMALL), "seed": 1})
    with monkeypatch.context() as patch:
        patch.setattr(PretrainRun, "report", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            pretrain(genome, tmp_path / "run", config=other, shape=small_shape(), resume=False)
    monkeypatch.setattr(PretrainRun, "_one_step", None)
    resumed = pretrain(genome, tmp_path / "run", config=other, shape=small_shape())
    assert resumed.steps == SMALL.steps


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_pretrain_checks_the_folder_before_reading(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ArgumentError, match="is not a folder"):
        pretrain(tmp_path / "missing.fa", tmp_path / place, config=SMALL)


def test_pretrain_report_is_json(genome: Path, tmp_path: Path) -> None:
    report = pretrain(genome, tmp_path / "run", config=SMALL, shape=small_shape())
    stored = json.loads((tmp_path / "run" / "pretraining.json").read_text())
    assert stored["perplexity"] == report.perplexity
    assert f"{report.perplexity:.3f}" in report.summary()
    assert PretrainReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_pretrain_reports_each_source(genome: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noise = ["".join(rng.choice(list("ACGT"), 200)) for _ in range(300)]
    other = tmp_path / "noise.csv"
    other.write_text("sequence\n" + "\n".join([*noise, "MKLV", "ACG", "ACG"]) + "\n")
    short = tmp_path / "short.txt"
    short.write_text("ACGTN\nACG\n")
    config = PretrainConfig(**{**vars(SMALL), "held_out": 0.3})
    report = pretrain([genome, other, short], tmp_path / "run", config=config, shape=small_shape())
    words, random, rest = report.sources
    assert [source.name for source in report.sources] == [str(genome), str(other), str(short)]
    assert (random.reading["n_in"], random.reading["reasons"]) == (303, {"not_dna": 1})
    assert [source.blocks_too_short for source in report.sources] == [0, 2, 2]
    assert sum(source.train_bases for source in report.sources) == report.train_bases
    assert sum(source.held_out_bases for source in report.sources) == report.held_out_bases
    # The words are learnt, random bases cannot be.
    assert words.perplexity < report.perplexity < random.perplexity
    assert words.markov_perplexity[8] < 1.5 < 3.5 < random.markov_perplexity[8]
    assert (rest.held_out_bases, rest.perplexity, rest.markov_perplexity) == (0, None, {})
    weights = [words.held_out_bases, random.held_out_bases]
    nats = np.average(np.log([words.perplexity, random.perplexity]), weights=weights)
    assert report.perplexity == pytest.approx(np.exp(nats))
    summary = report.summary()
    assert "303 records read, 302 used, 1 rejected (not_dna 1)" in summary
    assert "2 blocks too short" in summary


def test_pretrain_without_held_out_data_gives_no_figure(genome: Path, tmp_path: Path) -> None:
    config = PretrainConfig(**{**vars(SMALL), "held_out": 0.0})
    report = pretrain(genome, tmp_path / "run", config=config, shape=small_shape())
    assert report.perplexity is None
    assert report.markov_perplexity == {}
    assert [row["perplexity"] for row in report.loss] == [None] * 3
    assert "no held-out bases" in report.summary()
    assert "held-out perplexity" not in report.summary()
    assert (tmp_path / "run" / "loss.csv").read_text().splitlines()[1].endswith(",")


def test_pretrain_survives_unknown_bases(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    # Nearly every crop is unknown; whole steps would have no loss if they were not drawn again.
    path = tmp_path / "gaps.fa"
    parts = ["N" * 3000 + "".join(rng.choice(list("ACGT"), 40)) + "N" * 3000 for _ in range(20)]
    path.write_text("".join(f">{i}\n{part}\n" for i, part in enumerate(parts)))
    config = PretrainConfig(**{**vars(SMALL), "bases": 2000, "batch_bases": 100, "held_out": 0.4})
    report = pretrain(path, tmp_path / "run", config=config, shape=small_shape())
    assert all(np.isfinite(row["loss"]) and row["loss"] > 0.5 for row in report.loss)
    assert 1 < report.perplexity < 6
    weights = fg.load(tmp_path / "run").network.state_dict().values()
    assert all(torch.isfinite(tensor).all() for tensor in weights)


def test_pretrain_stops_when_it_diverges(genome: Path, tmp_path: Path) -> None:
    config = PretrainConfig(**{**vars(SMALL), "learning_rate": 1e6})
    with pytest.raises(ArgumentError, match="use a lower learning_rate"):
        pretrain(genome, tmp_path / "run", config=config, shape=small_shape())


def hidden_bases(*pieces: str, context: int = 0) -> HiddenBases:
    """Crops with every third base hidden; those with `context` bases before them are scored."""
    crops = [np.frombuffer(piece.encode(), np.uint8) for piece in pieces]
    hidden = [(np.arange(len(crop)) % 3 == 0) & (crop != ord("N")) for crop in crops]
    scored = [mask & (np.arange(len(mask)) >= context) for mask in hidden]
    return HiddenBases(crops, hidden, scored)


def test_masked_nats_equals_a_mean_over_single_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    # In float32 on every machine, so that the bound can be tight.
    monkeypatch.setattr(masked_language, "native_bfloat16", lambda device: False)
    torch.manual_seed(0)
    model = fg.models.tiny.create(small_shape())
    rng = np.random.default_rng(0)
    pieces = ["N" * 60, "".join(rng.choice(list("ACGTNNN"), 100)), "".join(rng.choice(list("ACGT"), 37))]
    sample = hidden_bases(*pieces, "N" * 61, context=12)
    expected = []
    for crop, hidden, scored in zip(*sample, strict=True):
        text = "".join("N" if mask else chr(base) for base, mask in zip(crop, hidden, strict=True))
        with torch.no_grad():
            logits = model.logits(model.tokenizer([text], special_tokens=False)).numpy().reshape(-1, 4)
        for i in np.flatnonzero(scored):
            scores = logits[i].astype(np.float64)
            expected.append(np.log(np.exp(scores).sum()) - scores["ACGT".index(chr(crop[i]))])
    for batch_bases in (1, 100, 10_000):
        found = masked_nats(model, sample, batch_bases=batch_bases)
        assert found == pytest.approx(np.mean(expected), rel=1e-5)
    with pytest.raises(InputError, match="no known base"):
        masked_nats(model, hidden_bases("N" * 60), batch_bases=100)


def test_sample_hidden_bases_scores_what_every_order_can_predict() -> None:
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), 30)) + "N" + "".join(rng.choice(list("ACGT"), 50))] * 20
    corpus = build_corpus([sequences], held_out=0.0, seed=0).train
    sample = sample_hidden_bases(corpus, bases=3000, length=64, rate=0.15, span=2, seed=0)
    assert sample.n_scored > 100
    for crop, hidden, scored in zip(*sample, strict=True):
        text = crop.tobytes().decode()
        assert "N" not in {text[i] for i in np.flatnonzero(hidden)}
        expected = [i for i in np.flatnonzero(hidden) if i >= 10 and "N" not in text[i - 10 : i + 1]]
        assert np.flatnonzero(scored).tolist() == expected
    # Every order scores exactly these: none leaves a base out.
    torch.manual_seed(0)
    markov = [MarkovModel(corpus, order) for order in ORDERS]
    nats = nats_per_base(fg.models.tiny.create(small_shape()), markov, sample, batch_bases=1000)
    for baseline, value in zip(markov, nats[1:], strict=True):
        scores = [baseline.log_probability(c)[m] for c, m in zip(sample.crops, sample.scored, strict=True)]
        assert value == pytest.approx(-sum(float(s.sum()) for s in scores) / sample.n_scored)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_pretrain_measures_the_weights_that_it_saves(genome: Path, tmp_path: Path, dtype: str) -> None:
    config = PretrainConfig(**{**vars(SMALL), "weights_dtype": dtype})
    report = pretrain(genome, tmp_path / "run", config=config, shape=small_shape())
    with safe_open(tmp_path / "run" / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {getattr(torch, dtype)}  # noqa: SIM118
    sequence = genome.read_text().splitlines()[1]
    held_out = build_corpus([[sequence]], held_out=SMALL.held_out, seed=SMALL.seed).held_out
    sample = sample_hidden_bases(held_out, bases=5000, length=64, rate=0.15, span=2, seed=SMALL.seed)
    nats = masked_nats(fg.load(tmp_path / "run", dtype="float32"), sample, batch_bases=SMALL.batch_bases)
    assert report.perplexity == pytest.approx(np.exp(nats), rel=1e-9)


@pytest.mark.parametrize("tracked", [(True, True), (True, False), (False, True), (False, False)], ids=str)
def test_pretrain_adds_up_the_energy_of_resumed_parts(
    genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracked: tuple[bool, bool]
) -> None:
    @contextmanager
    def one_kwh() -> Iterator[Footprint]:
        footprint = Footprint()
        yield footprint
        footprint.energy_kwh, footprint.co2e_g, footprint.measured = 1.0, 480.0, True

    monkeypatch.setattr(pretrain_run, "track_emissions", one_kwh)
    step = PretrainRun._one_step
    with monkeypatch.context() as patch:
        patch.setattr(PretrainRun, "_one_step", lambda run: step(run) if run.step < 13 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(genome, tmp_path / "run", config=SMALL, shape=small_shape(), track_energy=tracked[0])
    report = pretrain(genome, tmp_path / "run", config=SMALL, shape=small_shape(), track_energy=tracked[1])
    # One checkpoint before the end, two after it; the steps that were lost are not in `seconds` either.
    expected = (3.0, 1440.0) if all(tracked) else (None, None)
    assert (report.energy_kwh, report.co2e_g) == expected
    assert ("3e+03 Wh" in report.summary()) == all(tracked)


def test_pretrain_command_reports_energy_and_sources(genome: Path, tmp_path: Path) -> None:
    arguments = ["pretrain", genome, "-o", tmp_path / "run", "--bases", 2000, "--batch-bases", 1000]
    arguments += ["--weights-dtype", "bfloat16", "--emissions", "--json"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["energy_kwh"] > 0
    assert report["sources"][0]["reading"]["n_out"] == 1
    assert fg.load(tmp_path / "run").embed(["ACGT" * 9]).shape[0] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"bases": 0},
        {"bases": 1e6},
        {"mask_rate": 1.0},
        {"shortest": 100, "longest": 50},
        {"shortest": 15},
        {"held_out": 0.9},
        {"held_out": float("nan")},
        {"learning_rate": -1},
        {"learning_rate": float("inf")},
        {"weight_decay": -0.1},
        {"warmup": 1.0},
        {"seed": -1},
        {"seed": 2**64},
        {"weights_dtype": "float8"},
    ],
    ids=str,
)
def test_pretrain_config_refuses_settings(change: dict[str, float]) -> None:
    name = "shortest" if "shortest" in change else next(iter(change))
    with pytest.raises(ArgumentError, match=name):
        PretrainConfig(**{**vars(SMALL), **change})
