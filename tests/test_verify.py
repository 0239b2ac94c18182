"""verify: a stand-in whose figures transformers computed passes, and anything changed in it fails."""

import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_checkpoints import sha256
from typer.testing import CliRunner

from fastgenome.cli import app
from fastgenome.errors import CheckpointError, ModelError
from fastgenome.models import REGISTRY, RegisteredModel, checkpoint
from fastgenome.models import verify as verify_module
from fastgenome.models.verify import verifiable, verify

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map("".join, product("ATCG", repeat=3))]
SEQUENCES = ["ACGTNACGTAC", "TTGACCATGATACCA"]
TOLERANCE = {"cosine": 0.99999999, "max_abs": 2e-5, "mean_abs": 1e-6}

Figures = list[dict[str, Any]]


def ids_of(sequence: str) -> list[int]:
    """DNABERT's: CLS, all 3-mers, SEP, and UNK for what is no 3-mer of A, C, G and T."""
    kmers = [sequence[i : i + 3] for i in range(len(sequence) - 2)]
    return [2, *(VOCABULARY.index(kmer) if kmer in VOCABULARY else 1 for kmer in kmers), 3]


def figures_of(model: Any, sequence: str, pooling: str) -> dict[str, Any]:
    """The figures of one input as they are published, computed by transformers."""
    ids = ids_of(sequence)
    with torch.inference_mode():
        rows = model(input_ids=torch.tensor([ids])).last_hidden_state[0].double().numpy()
    embedding = rows[0] if pooling == "cls" else rows.mean(0)
    return {
        "sequence": sequence, "special_tokens": True, "ids": ids, "pooling": pooling, "layer": -1,
        "width": len(embedding), "first": embedding[:16].tolist(), "last": embedding[-4:].tolist(),
        "norm": float(np.sqrt((embedding**2).sum())), "mean": float(embedding.mean()), "tolerance": TOLERANCE,
    }  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Figures]:
    """A small random DNABERT as transformers writes it, and its figures by transformers."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=96, max_position_embeddings=64,
    )  # fmt: skip
    model = BertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    directory = tmp_path_factory.mktemp("published")
    model.save_pretrained(directory)
    # Of the fields that published configs do not have.
    described = json.loads((directory / "config.json").read_text())
    del described["tie_word_embeddings"]
    (directory / "config.json").write_text(json.dumps(described))
    (directory / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return directory, [figures_of(model, SEQUENCES[0], "mean"), figures_of(model, SEQUENCES[1], "cls")]


@pytest.fixture
def stand_in(published: tuple[Path, Figures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published model as the entry "stand-in" of the registry, in a directory of its own."""
    directory = tmp_path / "stand-in"
    directory.mkdir()
    for file in published[0].iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    monkeypatch.setitem(
        REGISTRY, "stand-in", RegisteredModel("stand-in", "dnabert", "MIT", "a test", directory=directory)
    )
    publish(published[1], tmp_path, monkeypatch)
    return directory


def publish(figures: Figures, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "figures.json").write_text(json.dumps({"stand-in": figures}))
    monkeypatch.setattr(verify_module, "_FIGURES", place / "figures.json")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["verify", *arguments])


def test_verify_passes_the_published_weights(stand_in: Path) -> None:
    comparisons = verify("stand-in")
    assert [comparison.sequence for comparison in comparisons] == SEQUENCES
    for comparison in comparisons:
        assert comparison.passed
        assert comparison.ids_equal
        assert 0 < comparison.max_abs < TOLERANCE["max_abs"]
    assert verify("stand-in", directory=stand_in) == comparisons
    result = run("stand-in")
    assert result.exit_code == 0, result.output
    assert "equal to the published model" in result.stdout
    assert result.stdout.count("token ids: equal") == 2
    report = json.loads(run("stand-in", "--json").stdout)
    assert report["passed"] is True
    assert report["comparisons"][1]["max_abs"] == comparisons[1].max_abs


def change_weight(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    tensors["encoder.layer.1.output.LayerNorm.weight"][20] += 0.01
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def change_epsilon(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))


def change_vocabulary(directory: Path) -> None:
    tokens = VOCABULARY.copy()
    place = VOCABULARY.index("ACG")
    tokens[place], tokens[place + 1] = tokens[place + 1], tokens[place]
    (directory / "vocab.txt").write_text("\n".join(tokens) + "\n")


@pytest.mark.parametrize("change", [change_weight, change_epsilon, change_vocabulary])
@pytest.mark.parametrize("by", ["name", "directory"])
def test_verify_fails_what_was_changed(
    stand_in: Path, tmp_path: Path, change: Callable[[Path], None], by: str
) -> None:
    other = shutil.copytree(stand_in, tmp_path / "other")
    change(stand_in if by == "name" else other)
    option = ("--directory", str(other))
    result = run("stand-in", *(option if by == "directory" else ()))
    assert result.exit_code == 1
    assert "stand-in: DIFFERS FROM the published model" in result.stdout
    assert ("token ids: DIFFER" in result.stdout) == (change is change_vocabulary)
    assert ("BEYOND" in result.stdout) == (change is not change_vocabulary)
    assert run("stand-in", *(option if by == "name" else ())).exit_code == 0


def shift(field: str, place: int, by: float) -> Callable[[dict[str, Any]], Any]:
    """One value moved; the bound for the mean of all is widened, so that it alone lies beyond."""
    return lambda f: (
        f[field].__setitem__(place, f[field][place] + by),
        f["tolerance"].update(mean_abs=1e-5),
    )


# One figure changed beyond its bound while all others stay within theirs.
CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ids": shift("ids", 3, 1),
    "width": lambda f: f.update(width=f["width"] + 1),
    "first": shift("first", 7, 3e-5),
    "last": shift("last", 0, -3e-5),
    "all": lambda f: f.update(first=[value + 2e-6 for value in f["first"]]),
    "norm": lambda f: f.update(norm=f["norm"] + 2e-4),
    "mean": lambda f: f.update(mean=f["mean"] - 2e-6),
    "cosine": lambda f: f["tolerance"].update(cosine=1.1),
    "pooling": lambda f: f.update(pooling="cls"),
    "layer": lambda f: f.update(layer=1),
}  # fmt: skip


@pytest.mark.parametrize("field", CHANGES)
def test_verify_compares_every_figure(
    published: tuple[Path, Figures],
    stand_in: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    field: str,
) -> None:
    figures = json.loads(json.dumps(published[1]))
    CHANGES[field](figures[0])
    publish(figures, tmp_path, monkeypatch)
    assert [comparison.passed for comparison in verify("stand-in")] == [False, True]


def test_verify_compares_pinned_digests_first(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_SMALL", 0)
    digests = {"model.safetensors": sha256(stand_in / "model.safetensors")}
    monkeypatch.setitem(
        REGISTRY, "stand-in", RegisteredModel("stand-in", "x", "MIT", "", directory=stand_in, digests=digests)
    )
    assert all(comparison.passed for comparison in verify("stand-in"))
    content = bytearray((stand_in / "model.safetensors").read_bytes())
    # Where the norm of the embeddings' bias would not be touched by much: the last bit of one number.
    content[-4] ^= 1
    (stand_in / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or of another release"):
        verify("stand-in")


@pytest.mark.parametrize("name", ["tiny", "dnabert-6", "nobody/nothing", "unknown"])
def test_verify_names_what_it_knows(name: str) -> None:
    with pytest.raises(ModelError, match=r"no figures .* they are for .*dnabert2.*"):
        verify(name)
    assert run(name).exit_code == 1


def test_the_figures_are_those_published(parity_dir: Path) -> None:
    facts = json.loads((parity_dir / "oracle_vectors.json").read_text())
    whole = {key: fact for key, fact in facts.items() if "l2_norm" in fact}
    ours = json.loads(verify_module._FIGURES.read_text())
    assert ours
    assert set(ours) == set(verifiable())
    found = {
        (REGISTRY[name].repository, figure["sequence"]): figure for name in ours for figure in ours[name]
    }
    assert len(found) == len(whole)
    for fact in whole.values():
        figure = found[fact["repo"], fact["input"]["sequence"]]
        assert figure["ids"] == fact["input"]["ids"]
        assert (figure["first"], figure["last"]) == (fact["first_16"], fact["last_4"])
        assert (figure["norm"], figure["mean"]) == (fact["l2_norm"], fact["mean"])
        assert (figure["width"], figure["tolerance"]) == (fact["width"], fact["evo_tolerances"])
        assert figure["pooling"] == ("cls" if fact["pooling"].startswith("CLS") else "mean")
        assert figure["special_tokens"] == ("no special tokens" not in fact["pooling"])
