"""Every published family against its reference's outputs, through the public interface alone."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

import fastgenome as fg
from fastgenome.models.model import Model

PARITY = Path(__file__).resolve().parents[2] / "shared" / "parity"
FIXTURES = sorted(path.parent for path in PARITY.glob("*/model.safetensors"))
if not FIXTURES:
    pytest.skip("needs the fixtures of ../shared/parity", allow_module_level=True)

# These references take no attention mask: to them padding is a token like any other.
MASKLESS = ("hyenadna", "caduceus")
# The learned positions of these references count padding on the left, ours cannot.
LEFT_PADDING_SHIFTS = ("dnabert", "specieslm")


@cache
def loaded(fixture: Path, species: str | None = None) -> Model:
    return fg.load(fixture, device="cpu", dtype="float32", species=species)


def inputs() -> list[Any]:
    return [
        pytest.param(fixture, entry, id=f"{fixture.name}-{entry['name']}")
        for fixture in FIXTURES
        for entry in json.loads((fixture / "inputs.json").read_text())["inputs"]
    ]


class Case:
    """One input of a fixture: its packed tokens, and where each of their rows stands in the padded batch."""

    def __init__(self, fixture: Path, entry: dict[str, Any]) -> None:
        ids = np.array(entry["input_ids"], dtype=np.int32)
        mask = np.array(entry["attention_mask"] or np.ones_like(ids), dtype=bool)
        self.pooled = mask
        family = fixture.name.rpartition("_")[0]
        self.kept = np.ones_like(mask) if family.startswith(MASKLESS) else mask
        if family in LEFT_PADDING_SHIFTS and not self.kept[:, 0].all():
            pytest.skip("the reference's positions count the padding")
        self.tokens = fg.Tokens(ids[self.kept], np.concatenate([[0], np.cumsum(self.kept.sum(1))]))
        types = entry.get("token_type_ids")
        self.types = None if types is None else np.array(types)[self.kept]
        self.expected = {
            name.removeprefix(f"{entry['name']}."): values
            for name, values in load_file(fixture / "expected.safetensors").items()
            if name.startswith(f"{entry['name']}.")
        }
        self.logits_at = entry.get("logits_at") or []
        self.tolerance = json.loads((fixture / "meta.json").read_text())["tolerance"]

    def padded(self, rows: torch.Tensor) -> NDArray[np.float32]:
        """Packed rows in the places of the padded batch, NaN elsewhere."""
        batch = np.full((*self.kept.shape, rows.shape[1]), np.nan, dtype=np.float32)
        batch[self.kept] = rows.detach().numpy()
        return batch

    def check(self, name: str, found: NDArray[np.float32]) -> None:
        expected = self.expected[name]
        assert found.shape == expected.shape
        kind = "hidden_states" if name.startswith("hidden_states") else name
        bound = self.tolerance[kind]["recommended_atol"]
        difference = np.abs(found.astype(np.float64) - expected)
        assert np.nanmax(difference) <= bound, (name, np.nanmax(difference), bound)


@pytest.mark.parametrize(("fixture", "entry"), inputs())
def test_model_equals_its_reference(fixture: Path, entry: dict[str, Any]) -> None:
    model, case = loaded(fixture), Case(fixture, entry)
    with torch.inference_mode():
        states = model.hidden_states(case.tokens, layers="all", token_types=case.types)
        last = case.padded(states[-1])
        checked = {"last_hidden_state"}
        case.check("last_hidden_state", last)
        if "mean_pool" in case.expected:
            checked.add("mean_pool")
            weight = case.pooled[..., None].astype(np.float64)
            case.check("mean_pool", np.nansum(np.where(weight, last, 0), 1) / weight.sum(1))
        layers = sorted(name for name in case.expected if name.startswith("hidden_states."))
        for name in layers:
            case.check(name, case.padded(states[int(name.rpartition(".")[2])]))
        if layers and not fixture.name.startswith("caduceus"):
            assert len(layers) == len(states)
        checked |= set(layers)
        if {"logits", "logits_at"} & case.expected.keys():
            logits = case.padded(model.logits(case.tokens, token_types=case.types))
            if "logits" in case.expected:
                case.check("logits", logits)
            if "logits_at" in case.expected:
                case.check("logits_at", np.stack([logits[row, place] for row, place in case.logits_at]))
            checked |= {"logits", "logits_at"}
        if "pooler_output" in case.expected:
            checked.add("pooler_output")
            assert model.network.pooler is not None
            case.check("pooler_output", model.network.pooler(states[-1][case.tokens.offsets[:-1]]).numpy())
    assert case.expected.keys() <= checked


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.name)
def test_model_has_the_tokenizer_of_its_reference(fixture: Path) -> None:
    model = loaded(fixture)
    for case in json.loads((fixture / "tokenization.json").read_text())["cases"]:
        if "species" in case:
            model = loaded(fixture, case["species"])
        special = case.get("add_special_tokens", True)
        tokens = model.tokenizer([case["sequence"]], clean=False, special_tokens=special)
        expected = np.array(case["ids"])
        # Some fixtures masked tokens after tokenization.
        masked = expected == model.tokenizer.special_token_ids.get("mask", -1)
        assert tokens.ids[~masked].tolist() == expected[~masked].tolist(), case["sequence"]
