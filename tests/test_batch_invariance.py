"""An embedding depends on its sequence alone: not on neighbours, their order or the size of the batch.

FASTGENOME_COMPOSITIONS sets how many random batches of real sequences are tried for each family.
"""

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fastgenome as fg
from fastgenome.models.model import Model

PARITY = Path(__file__).resolve().parents[2] / "shared" / "parity"
FIXTURES = sorted(path.parent for path in PARITY.glob("*/model.safetensors"))
COMPOSITIONS = int(os.environ.get("FASTGENOME_COMPOSITIONS", "60"))
MODELS = [pytest.param("tiny", id="tiny"), *(pytest.param(path, id=path.name) for path in FIXTURES)]


@pytest.fixture(scope="module")
def bases(data_dir: Path) -> str:
    """Real DNA on one line."""
    with gzip.open(data_dir / "gue" / "H3" / "test.csv.gz", "rt") as file:
        rows = [row["sequence"] for _, row in zip(range(60), csv.DictReader(file), strict=False)]
    return "".join(rows)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return fg.load(request.param, device="cpu", dtype="float32")


def longest(model: Model) -> int:
    """Bases of the longest sequence tried: what the model takes, and at most 1,200."""
    if model.max_length is None:
        return 1200
    special = model.tokenizer.prefix_length + model.tokenizer.suffix_length
    return min(1200, (model.max_length - special) * (model.tokenizer.bases_per_token or 1))


def pieces(bases: str, model: Model, count: int) -> list[str]:
    """Real sequences from one token to the longest; a third of them of three lengths, so that equals meet."""
    random = np.random.default_rng(0)
    shortest, most = model.min_length, longest(model)
    lengths = np.geomspace(shortest, most, count).astype(int)
    lengths[::3] = random.choice([20, 64, 65], len(lengths[::3]))
    starts = random.integers(0, len(bases) - most, count)
    return [bases[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def test_embedding_is_the_same_in_any_batch(model: Model, bases: str) -> None:
    sequences = pieces(bases, model, 60)
    alone = np.concatenate([model.embed([sequence]) for sequence in sequences])
    norms = np.linalg.norm(alone, axis=1)
    random = np.random.default_rng(1)
    worst = 0.0
    for _ in range(COMPOSITIONS):
        chosen = random.permutation(len(sequences))[: random.integers(1, 9)]
        together = model.embed([sequences[i] for i in chosen], batch_tokens=int(random.integers(1, 4000)))
        difference = np.linalg.norm(together - alone[chosen], axis=1) / norms[chosen]
        worst = max(worst, float(difference.max()))
    assert worst <= 1e-5


def test_nothing_of_a_neighbour_gets_in(model: Model) -> None:
    # All that is known of T is not a number; sequences without it on either strand must not notice.
    clean, poisoned = "CCGGGCGC" * 5, "ACGGATTC" * 5
    vocabulary = model.tokenizer.vocabulary
    with_t = [number for token, number in vocabulary.items() if "T" in token and set(token) <= set("ACGT")]
    with_t = [number for number in with_t if number < model.encoder.vocabulary_size]
    expected = model.embed([clean])
    for name, table in model.network.named_modules():
        if isinstance(table, nn.Embedding) and "token_type" not in name and "position" not in name:
            poison(table.weight, with_t, name, model)
    assert np.isnan(model.embed([poisoned])).any()
    for batch in ([poisoned, clean, poisoned], [clean, poisoned + "T"], ["T" * 9, clean]):
        found = model.embed(batch)[batch.index(clean)]
        np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-5 * np.abs(expected).max())


def poison(table: torch.Tensor, rows: list[int], name: str, model: Model) -> None:
    if model.name == "tiny":
        kmers = len(table) - 1
        k = round(np.log(kmers) / np.log(4)) if name.endswith("kmers") else 0
        rows = [code for code in range(kmers) if 3 in np.unravel_index(code, (4,) * k)] if k else []
    with torch.no_grad():
        table[rows] = torch.nan
