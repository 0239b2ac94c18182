"""Adapters chosen for each sequence of a batch: what each gives alone, in any mixture."""

import threading

import numpy as np
import pytest
import torch
from small_checkpoints import SHAPE

import fastgenome as fg
import fastgenome.models.model
from fastgenome.adapters.adalora import AdaLoRA
from fastgenome.adapters.attach import adapted_layers
from fastgenome.adapters.linear import MIXTURE
from fastgenome.errors import ArgumentError
from fastgenome.models.convnova import ConvNovaConfig
from fastgenome.models.convnova import create as create_convnova
from fastgenome.models.model import Model
from fastgenome.models.tiny import TinyConfig, create

NAMES = ("wide", "narrow", "ranks", None)


@pytest.fixture
def model() -> Model:
    """A model with adapters of different ranks on different layers, the last with masked values."""
    torch.manual_seed(0)
    model = create(TinyConfig(SHAPE, max_length=400, default_layers=(-1,)))
    model.add_adapter(fg.LoRA(rank=5, targets=("query", "value", "ffn_in")), name="wide")
    model.add_adapter(fg.LoRA(rank=1, alpha=3, targets=("key", "ffn_out")), name="narrow")
    model.add_adapter(AdaLoRA(initial_rank=4, target_rank=2, targets=("query", "output")), name="ranks")
    with torch.no_grad():
        for name in filter(None, NAMES):
            for parameter in model.adapter_parameters(name=name):
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        for layer in adapted_layers(model.network).values():
            for branch in layer.branches("ranks"):
                assert branch.mask is not None
                branch.mask[1] = False
    return model


def random_sequences(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("ACGT"), rng.integers(6, 90))) for _ in range(count)]


def alone(model: Model, sequence: str, name: str | None) -> np.ndarray:
    active = model.adapters.active
    model.set_adapter(name)
    embedding = model.embed([sequence])[0]
    model.set_adapter(active)
    return embedding


@pytest.mark.parametrize("batch_tokens", [8, 4096], ids=["many batches", "one batch"])
def test_each_sequence_gets_what_its_adapter_gives_alone(model: Model, batch_tokens: int) -> None:
    sequences = random_sequences(23)
    names = [NAMES[i % 4] for i in np.random.default_rng(1).permutation(23)]
    found = model.embed(sequences, adapter=names, batch_tokens=batch_tokens)
    expected = np.array([alone(model, *pair) for pair in zip(sequences, names, strict=True)])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # The adapters differ by far more than that.
    assert np.abs(expected - model.embed(sequences)).max() > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_one_adapter_for_all(model: Model, name: str | None) -> None:
    sequences = random_sequences(5)
    expected = [alone(model, sequence, name) for sequence in sequences]
    np.testing.assert_allclose(model.embed(sequences, adapter=[name] * 5), expected, rtol=1e-4, atol=1e-5)


def test_active_adapter_acts_again_afterwards(model: Model) -> None:
    sequences = random_sequences(4)
    before = model.embed(sequences)
    model.embed(sequences, adapter=["narrow", None, "wide", "wide"])
    assert np.array_equal(model.embed(sequences), before)
    with pytest.raises(RuntimeError, match="no step"):
        _fail_within(model, sequences)
    assert np.array_equal(model.embed(sequences), before)


def _fail_within(model: Model, sequences: list[str]) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no step")

    handle = model.encoder.layers[-1].register_forward_pre_hook(fail)
    try:
        model.embed(sequences, adapter=["narrow"] * len(sequences))
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["wide"], "each of 2 sequences, got 1 names"),
        ("wide", "each of 2 sequences, got 'wide'"),
        (["wide", "other"], "no adapter 'other'"),
        (["wide", "scaled"], "'scaled' has factors"),
    ],
)
def test_names_that_do_not_fit_are_refused(model: Model, names: list[str], message: str) -> None:
    model.add_adapter(fg.DoRA(rank=2), name="scaled")
    with pytest.raises(ArgumentError, match=message):
        model.embed(random_sequences(2), adapter=names)


def test_merged_adapters_and_other_networks_are_refused(model: Model) -> None:
    model.set_adapter("wide")
    model.merge_adapter()
    with pytest.raises(ArgumentError, match="'wide' is merged"):
        model.embed(random_sequences(1), adapter=["wide"])
    other = create_convnova(ConvNovaConfig())
    with pytest.raises(ArgumentError, match="need a transformer"):
        other.embed(random_sequences(1), adapter=[None])


def test_threads_do_not_see_each_others_adapters(model: Model) -> None:
    sequences = random_sequences(6)
    expected = {name: model.embed(sequences, adapter=[name] * 6) for name in ("wide", "narrow")}
    plain = model.embed(sequences)
    wrong: list[object] = []

    def repeat(name: str | None) -> None:
        for _ in range(20):
            found = model.embed(sequences, adapter=None if name is None else [name] * 6)
            if not np.allclose(found, plain if name is None else expected[name], rtol=1e-4, atol=1e-5):
                wrong.append(name)

    threads = [threading.Thread(target=repeat, args=(name,)) for name in ("wide", "narrow", None)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_error_while_storing_leaves_no_mode_behind(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ArgumentError("full")

    monkeypatch.setattr(fastgenome.models.model, "store", fail)
    model.network.train()
    with pytest.raises(ArgumentError, match="full") as kept:
        model.embed(random_sequences(3), adapter=["wide"] * 3)
    assert kept.value.__traceback__ is not None
    assert not torch.is_inference_mode_enabled()
    assert MIXTURE.get() is None
    assert model.network.training
