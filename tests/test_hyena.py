"""HyenaDNA against its definition written out in NumPy, in both published layouts, and against itself."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

import fastgenome as fg
from fastgenome.errors import ArgumentError, CheckpointError, SequenceTooLongError
from fastgenome.models import hyena, hyenadna, long_convolution
from fastgenome.models.long_convolution import FilterForms, transform_size
from fastgenome.models.model import Model
from fastgenome.models.transformer import cast_products

CONFIG: dict[str, Any] = {
    "model_type": "hyenadna", "d_model": 24, "d_inner": 40, "n_layer": 2, "vocab_size": 12,
    "pad_vocab_size_multiple": 8, "max_seq_len": 300, "emb_dim": 5, "filter_order": 8, "num_inner_mlps": 2,
    "layer_norm_epsilon": 1e-3, "hyena_order": 2, "short_filter_order": 3, "activation_freq": 10,
}  # fmt: skip
LENGTHS = (7, 1, 23, 23, 2, 3, 64, 65, 65, 65, 130, 1, 300)


def random_tensors(
    config: dict[str, Any], *, prefix: str = "hyena.backbone.", seed: int = 0
) -> dict[str, Tensor]:
    """Weights under their published names; every layer has the same positions."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 0.3) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    dim, wide, order = config["d_model"], config["d_inner"], config["filter_order"]
    longest, features = config["max_seq_len"], config["emb_dim"]
    z, t = normal(1, longest, features), torch.linspace(0, 1, longest)[None, :, None]
    shapes: dict[str, tuple[int, ...]] = {}
    for norm in ("norm1", "norm2"):
        shapes |= {f"{norm}.weight": (dim,), f"{norm}.bias": (dim,)}
    shapes |= {"mlp.fc1.weight": (wide, dim), "mlp.fc1.bias": (wide,)}
    shapes |= {"mlp.fc2.weight": (dim, wide), "mlp.fc2.bias": (dim,)}
    shapes |= {"mixer.in_proj.weight": (3 * dim, dim), "mixer.in_proj.bias": (3 * dim,)}
    shapes |= {"mixer.out_proj.weight": (dim, dim), "mixer.out_proj.bias": (dim,)}
    shapes |= {"mixer.short_filter.weight": (3 * dim, 1, 3), "mixer.short_filter.bias": (3 * dim,)}
    filters = "mixer.filter_fn"
    inner = config["num_inner_mlps"]
    for place in range(inner + 1):
        name = f"{filters}.implicit_filter.{2 * place}"
        shapes |= {f"{name}.weight": (order, order if place else features), f"{name}.bias": (order,)}
    shapes |= {f"{filters}.implicit_filter.{2 * inner + 2}.weight": (dim, order), f"{filters}.bias": (dim,)}
    tensors = {f"{prefix}embeddings.word_embeddings.weight": normal(16, dim, scale=1)}
    for index in range(config["n_layer"]):
        layer = f"{prefix}layers.{index}"
        tensors |= {f"{layer}.{name}": normal(*shape) for name, shape in shapes.items()}
        tensors[f"{layer}.{filters}.implicit_filter.1.freq"] = 3 + normal(1, order)
        tensors[f"{layer}.{filters}.modulation.deltas"] = -10 * normal(1, 1, dim).abs()
        tensors |= {f"{layer}.{filters}.pos_emb.z": z.clone(), f"{layer}.{filters}.pos_emb.t": t.clone()}
    tensors |= {f"{prefix}ln_f.weight": 1 + normal(dim), f"{prefix}ln_f.bias": normal(dim)}
    return tensors


def write(directory: Path, tensors: dict[str, Tensor], config: dict[str, Any] = CONFIG) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, directory / "model.safetensors"
    )
    return directory


def load(directory: Path) -> Model:
    return fg.load(directory, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return random_tensors(CONFIG) | {"lm_head.weight": torch.randn(16, 24)}


@pytest.fixture
def model(tmp_path: Path, tensors: dict[str, Tensor]) -> Model:
    return load(write(tmp_path / "model", tensors))


def packed(lengths: tuple[int, ...] | list[int], seed: int = 0) -> fg.Tokens:
    ids = np.random.default_rng(seed).integers(0, 12, sum(lengths), dtype=np.int32)
    return fg.Tokens(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


class Definition:
    """The published definition in float64, its convolutions as double sums."""

    def __init__(self, tensors: dict[str, Tensor], config: dict[str, Any] = CONFIG) -> None:
        self.weights = {
            name.removeprefix("hyena.backbone."): tensor.double().numpy() for name, tensor in tensors.items()
        }
        self.config = config

    def states(self, ids: NDArray[np.int32]) -> list[NDArray[np.float64]]:
        """Hidden states of one sequence: embeddings, each layer, after the last norm."""
        x = self.weights["embeddings.word_embeddings.weight"][ids]
        states = [x]
        for index in range(self.config["n_layer"]):
            layer = f"layers.{index}"
            x = x + self._mixer(f"{layer}.mixer", self._norm(f"{layer}.norm1", x, 1e-5))
            wide = self._linear(f"{layer}.mlp.fc1", self._norm(f"{layer}.norm2", x, 1e-5))
            wide = 0.5 * wide * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
            x = x + self._linear(f"{layer}.mlp.fc2", wide)
            states.append(x)
        return [*states, self._norm("ln_f", x, self.config["layer_norm_epsilon"])]

    def _mixer(self, name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        u, short = self._linear(f"{name}.in_proj", x), np.zeros((len(x), 3 * x.shape[1]))
        taps = self.weights[f"{name}.short_filter.weight"][:, 0]
        for n in range(len(x)):
            short[n] = self.weights[f"{name}.short_filter.bias"]
            for back in range(min(n, 2) + 1):
                short[n] += taps[:, 2 - back] * u[n - back]
        x0, x1, v = np.split(short, 3, axis=1)
        v = v * x1
        k = self._filter(f"{name}.filter_fn", len(x))
        y = v * self.weights[f"{name}.filter_fn.bias"]
        for n in range(len(x)):
            y[n] += (k[n::-1] * v[: n + 1]).sum(0)
        return self._linear(f"{name}.out_proj", y * x0)

    def _filter(self, name: str, length: int) -> NDArray[np.float64]:
        h = self.weights[f"{name}.pos_emb.z"][0, :length]
        inner = self.config["num_inner_mlps"]
        for place in range(inner + 1):
            h = self._linear(f"{name}.implicit_filter.{2 * place}", h)
            h = np.sin(self.weights[f"{name}.implicit_filter.1.freq"] * h)
        h = h @ self.weights[f"{name}.implicit_filter.{2 * inner + 2}.weight"].T
        time, deltas = (
            self.weights[f"{name}.pos_emb.t"][0, :length],
            self.weights[f"{name}.modulation.deltas"][0],
        )
        return h * (np.exp(-time * np.abs(deltas)) + 0.05)

    def _norm(self, name: str, x: NDArray[np.float64], eps: float) -> NDArray[np.float64]:
        centred = x - x.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + eps)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _linear(self, name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]


def assert_as_defined(model: Model, definition: Definition, tokens: fg.Tokens) -> None:
    states = model.hidden_states(tokens, layers="all")
    assert len(states) == len(model.encoder.widths) == definition.config["n_layer"] + 2
    rows = np.split(tokens.ids, tokens.offsets[1:-1])
    expected = [np.concatenate(layer) for layer in zip(*map(definition.states, rows), strict=True)]
    for found, defined in zip(states, expected, strict=True):
        scale = np.abs(defined).max()
        np.testing.assert_allclose(found.detach().numpy(), defined, rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("limits", ["usual", "small", "nothing kept"])
@pytest.mark.parametrize("gradients", [False, True])
def test_hidden_states_equal_the_definition(
    model: Model,
    tensors: dict[str, Tensor],
    gradients: bool,
    limits: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if limits != "usual":
        # Sequences in several blocks of rows, channels in several chunks.
        monkeypatch.setattr(hyena, "_CPU_ROWS", 16)
        monkeypatch.setattr(long_convolution, "_CPU_CHUNK", 64)
    if limits == "nothing kept":
        monkeypatch.setattr(long_convolution, "KEPT_BYTES", 0)
    with torch.set_grad_enabled(gradients):
        assert_as_defined(model, Definition(tensors), packed(LENGTHS))


def test_hidden_states_of_other_shapes_equal_the_definition(tmp_path: Path) -> None:
    config = CONFIG | {"num_inner_mlps": 1, "emb_dim": 3, "n_layer": 3, "filter_order": 6, "max_seq_len": 70}
    tensors = random_tensors(config, seed=1)
    model = load(write(tmp_path / "model", tensors, config))
    assert_as_defined(model, Definition(tensors, config), packed((70, 5, 66, 1)))
    assert model.network.head is None


@pytest.mark.parametrize("table", ["z", "t"])
def test_layers_with_different_positions_keep_their_own(
    tmp_path: Path, tensors: dict[str, Tensor], table: str
) -> None:
    name = f"hyena.backbone.layers.1.mixer.filter_fn.pos_emb.{table}"
    changed = tensors | {name: tensors[name] ** 2}
    model = load(write(tmp_path / "model", changed))
    assert_as_defined(model, Definition(changed), packed((90, 4)))


def test_layers_with_equal_positions_share_them(model: Model) -> None:
    first, second = (layer.mixer.long.positions for layer in model.encoder.layers)
    assert first is second
    assert not {"z", "t", "deltas"} & {
        name.rpartition(".")[2] for name, _ in model.network.named_parameters()
    }


def test_embedding_does_not_depend_on_the_batch(model: Model) -> None:
    rng = np.random.default_rng(3)
    # Two of each length, so that different sequences share a run.
    lengths = [*range(1, 9), *rng.integers(9, 300, 12).tolist()] * 2
    names = ["".join(rng.choice(list("ACGTN"), n)) for n in lengths]
    alone = np.concatenate([model.embed([name], pooling="mean+last") for name in names])
    norms = np.linalg.norm(alone, axis=1)
    for _ in range(30):
        chosen = rng.choice(len(names), rng.integers(1, 24))
        found = model.embed(
            [names[i] for i in chosen], pooling="mean+last", batch_tokens=int(rng.integers(300, 4000))
        )
        assert (np.linalg.norm(found - alone[chosen], axis=1) <= 1e-5 * norms[chosen]).all()


def test_neighbours_have_no_way_in(model: Model) -> None:
    tokens = packed((80, 66, 66, 3, 3))
    with torch.inference_mode():
        clean = model.hidden_states(tokens)
        # No id of the other sequences occurs in these.
        ids = tokens.ids.copy()
        ids[80:146], ids[212:215] = 13, 13
        before = model.hidden_states(fg.Tokens(ids, tokens.offsets))
        model.encoder.embedding.weight[13] = torch.nan
        after = model.hidden_states(fg.Tokens(ids, tokens.offsets))
    kept = np.r_[0:80, 146:212, 215:218]
    assert torch.equal(before[kept], clean[kept])
    assert torch.equal(before[kept], after[kept])
    assert after[80:146].isnan().all()


@pytest.mark.parametrize("length", [5, 90])
def test_gradients_equal_differences_of_the_definition(
    tmp_path: Path, tensors: dict[str, Tensor], length: int
) -> None:
    model, tokens = load(write(tmp_path / "model", tensors)), packed((length, 9, length))
    with torch.inference_mode():
        model.hidden_states(tokens)  # what is kept from here must not disturb training
    weight = np.random.default_rng(0).normal(size=(tokens.offsets[-1], model.dim))
    (model.hidden_states(tokens) * torch.from_numpy(weight).float()).sum().backward()
    rows = np.split(tokens.ids, tokens.offsets[1:-1])

    def loss(changed: dict[str, Tensor]) -> float:
        definition = Definition(changed)
        return float((np.concatenate([definition.states(row)[-1] for row in rows]) * weight).sum())

    generator = torch.Generator().manual_seed(0)
    exact = {name: tensor.double() for name, tensor in tensors.items()}
    assert model.key_map is not None
    checked = 0
    for ours, parameter in model.network.named_parameters():
        (part,) = model.key_map[ours]
        if part.name == "lm_head.weight":
            continue
        way = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        assert parameter.grad is not None, ours
        found = float((parameter.grad.double() * way).sum())
        ahead, behind = (loss(exact | {part.name: exact[part.name] + s * way}) for s in (1e-6, -1e-6))
        expected = (ahead - behind) / 2e-6
        bound = 1e-4 * float(parameter.grad.norm() * way.norm())
        assert abs(found - expected) <= bound, (ours, found, expected)
        checked += 1
    assert checked > 30


def test_gradients_flow_through_a_frozen_filter(model: Model) -> None:
    tokens = packed((90, 9))
    model.hidden_states(tokens).square().sum().backward()
    projection = model.encoder.layers[0].mixer.in_proj.weight
    expected, projection.grad = projection.grad, None
    for layer in model.encoder.layers:
        layer.mixer.long.requires_grad_(False)
    with torch.inference_mode():
        model.hidden_states(tokens)
    model.hidden_states(tokens).square().sum().backward()
    torch.testing.assert_close(projection.grad, expected)


@pytest.mark.parametrize("name", ["bias", "freq", "last.weight", "layers.1.bias", "positions.t", "deltas"])
def test_kept_filters_follow_their_weights(tmp_path: Path, tensors: dict[str, Tensor], name: str) -> None:
    model, tokens = load(write(tmp_path / "model", tensors)), packed((90, 9))
    with torch.inference_mode():
        before = model.hidden_states(tokens)
        assert torch.equal(model.hidden_states(tokens), before)
    long = model.encoder.layers[1].mixer.long
    owner = long.get_submodule(name.rpartition(".")[0])
    with torch.no_grad():
        getattr(owner, name.rpartition(".")[2]).mul_(1.5)
    model.save(tmp_path / "changed")
    with torch.inference_mode():
        after = model.hidden_states(tokens)
        assert not torch.allclose(after, before, atol=1e-3)
        assert torch.equal(after, load(tmp_path / "changed").hidden_states(tokens))


def test_kept_filters_follow_replaced_weights(
    tmp_path: Path, model: Model, tensors: dict[str, Tensor]
) -> None:
    tokens = packed((90, 9))
    other = load(
        write(tmp_path / "other", random_tensors(CONFIG, seed=9) | {"lm_head.weight": torch.ones(16, 24)})
    )
    with torch.inference_mode():
        model.hidden_states(tokens)
    model.network.load_state_dict(other.network.state_dict(), assign=True)
    with torch.inference_mode():
        assert torch.equal(model.hidden_states(tokens), other.hidden_states(tokens))


def test_forms_forget_the_least_recently_used() -> None:
    forms, made = FilterForms(limit=100), []

    def kernel(key: int, size: int = 10) -> Tensor:
        def make() -> Tensor:
            made.append(key)
            return torch.full((size,), float(key))

        return forms.get(key, make)

    for key in (1, 2, 1, 3, 1, 2):  # 40 bytes each: there is room for two
        assert kernel(key)[0] == key
    assert made == [1, 2, 3, 2]
    assert len(kernel(4, size=1000)) == 1000
    kernel(4), kernel(5)
    assert made == [1, 2, 3, 2, 4, 5]


def test_filters_are_kept_between_calls(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = torch.sin
    monkeypatch.setattr(torch, "sin", lambda x: calls.append(x) or real(x))
    with torch.inference_mode():
        model.hidden_states(packed((90, 91, 9)))
        first = len(calls)
        model.hidden_states(packed((95, 9, 8)))
    assert first == len(calls) > 0


def test_transform_sizes_are_large_enough_and_fast() -> None:
    for length in (*range(1, 3000), 32770, 160002, 450002, 1000002):
        size = transform_size(length)
        assert 2 * length <= size < 2.5 * length + 16
        for factor in (2, 3, 5):
            while size % factor == 0:
                size //= factor
        assert size == 1


@pytest.mark.parametrize("fixture", ["hyenadna_old_1", "hyenadna_old_2"])
def test_early_layout_equals_its_reference(fixture: str, parity_dir: Path, tmp_path: Path) -> None:
    source = parity_dir / fixture
    state = torch.load(source / "weights.ckpt", weights_only=True)["state_dict"]
    # Safetensors refuses tensors that share memory, as tied ones do.
    config = json.loads((source / "config.json").read_text())
    model = load(write(tmp_path / "model", {name: tensor.clone() for name, tensor in state.items()}, config))
    expected = load_file(source / "expected.safetensors")
    tolerance = json.loads((source / "meta.json").read_text())["tolerance"]
    entries = json.loads((source / "inputs.json").read_text())["inputs"]
    for entry in entries:
        ids = np.array(entry["input_ids"], dtype=np.int32)
        mask = torch.tensor(entry["attention_mask"] or np.ones_like(ids))[..., None]
        # To the reference padding is a token like any other.
        tokens = fg.Tokens(ids.ravel(), np.arange(len(ids) + 1) * ids.shape[1])
        last = model.hidden_states(tokens).detach().view(*ids.shape, -1)
        mean = (last * mask).sum(1) / mask.sum(1)
        for name, found in (("last_hidden_state", last), ("mean_pool", mean)):
            bound = tolerance[name]["recommended_atol"]
            torch.testing.assert_close(found, expected[f"{entry['name']}.{name}"], rtol=0, atol=bound)
    assert len(entries) >= 3
    assert model.network.head.decoder.weight is model.encoder.embedding.weight
    model.save(tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert all(torch.equal(saved[name], state[name]) for name in saved)
    assert {
        name.replace(".3.freq", ".1.freq").replace(".5.freq", ".1.freq") for name in state
    } == saved.keys() | {"model.lm_head.weight"}


@pytest.mark.parametrize("fixture", ["hyenadna_1", "hyenadna_2"])
def test_saved_checkpoint_is_the_published_one(fixture: str, parity_dir: Path, tmp_path: Path) -> None:
    load(parity_dir / fixture).save(tmp_path / "saved")
    published = load_file(parity_dir / fixture / "model.safetensors")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert saved.keys() == published.keys()
    assert all(torch.equal(saved[name], published[name]) for name in saved)


def test_repeated_frequencies_must_agree(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    sine = "hyena.backbone.layers.1.mixer.filter_fn.implicit_filter.{}.freq"
    same = tensors | {sine.format(place): tensors[sine.format(1)].clone() for place in (3, 5)}
    assert_as_defined(load(write(tmp_path / "same", same)), Definition(tensors), packed((70,)))
    with pytest.raises(CheckpointError, match=r"5\.freq must be the same"):
        load(write(tmp_path / "other", same | {sine.format(5): tensors[sine.format(1)] + 1}))
    with pytest.raises(CheckpointError, match=r"unexpected .*7\.freq"):
        load(write(tmp_path / "more", same | {sine.format(7): tensors[sine.format(1)].clone()}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hyena_order": 3}, "hyena_order is 3"),
        ({"short_filter_order": 5}, "short_filter_order is 5"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ({"train_freq": False}, "train_freq is False"),
        ({"bidirectional": True}, "bidirectional"),
        ({"d_inner": 41}, "shape"),
        ({"max_seq_len": 299}, "shape"),
        ({"num_inner_mlps": 3}, "missing"),
        ({"n_layer": 1}, "unexpected"),
    ],
)
def test_config_that_is_not_supported_is_an_error(
    tmp_path: Path, tensors: dict[str, Tensor], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(write(tmp_path / "model", tensors, CONFIG | change))


EARLY: dict[str, Any] = {
    "d_model": 24, "d_inner": 40, "n_layer": 2, "vocab_size": 12, "pad_vocab_size_multiple": 8,
    "resid_dropout": 0.0, "embed_dropout": 0.1, "residual_in_fp32": True, "layer_norm_epsilon": 1e-3,
}  # fmt: skip
EARLY_LAYER = {
    "_name_": "hyena",
    "l_max": 300,
    "emb_dim": 5,
    "filter_order": 8,
    "local_order": 3,
    "modulate": True,
}


@pytest.mark.parametrize(
    ("change", "layer", "message"),
    [
        ({"layer_norm": 1}, {}, "layer_norm"),
        ({"residual_in_fp32": False}, {}, "residual_in_fp32"),
        ({}, {"modulate": False}, "modulate is False"),
        ({}, {"local_order": 4}, "local_order is 4"),
        ({}, {"short_filter_order": 2}, "short_filter_order is 2"),
        ({}, {"order": 3}, "order is 3"),
        ({}, {"num_heads": 2}, "num_heads"),
        ({}, {"l_max": 200}, "shape"),
    ],
)
def test_early_config_that_is_not_supported_is_an_error(
    tmp_path: Path, change: dict[str, Any], layer: dict[str, Any], message: str
) -> None:
    tensors = random_tensors(CONFIG, prefix="model.backbone.")
    with pytest.raises(CheckpointError, match=message):
        load(write(tmp_path / "model", tensors, EARLY | change | {"layer": EARLY_LAYER | layer}))


def test_early_layout_has_one_epsilon_and_a_tied_head(tmp_path: Path) -> None:
    tensors = random_tensors(CONFIG, prefix="model.backbone.")
    model = load(write(tmp_path / "model", tensors, EARLY | {"layer": EARLY_LAYER}))
    norms = [part.eps for part in model.network.modules() if isinstance(part, torch.nn.LayerNorm)]
    assert norms == [1e-3] * 5
    tokens = packed((7,))
    expected = model.hidden_states(tokens) @ tensors["model.backbone.embeddings.word_embeddings.weight"].T
    torch.testing.assert_close(model.logits(tokens), expected)
    untied = tensors | {"model.lm_head.weight": torch.zeros(16, 24)}
    with pytest.raises(CheckpointError, match="must be the same"):
        load(write(tmp_path / "untied", untied, EARLY | {"layer": EARLY_LAYER}))


def test_head_of_the_published_layout_is_its_own(model: Model, tensors: dict[str, Tensor]) -> None:
    tokens = packed((7, 70))
    expected = model.hidden_states(tokens) @ tensors["lm_head.weight"].T
    torch.testing.assert_close(model.logits(tokens), expected)


def test_embedding_is_the_mean_over_the_bases(model: Model) -> None:
    assert (model.licence, model.max_length, model.name.endswith("model")) == ("BSD-3-Clause", 300, True)
    assert model.tokenizer(["ACGTN"]).ids.tolist() == [7, 8, 9, 10, 11, 1]
    bases = fg.Tokens(np.array([7, 8, 9, 10, 11], dtype=np.int32), np.array([0, 5]))
    expected = model.hidden_states(bases).detach().mean(0).numpy()
    np.testing.assert_allclose(model.embed(["ACGTN"])[0], expected, rtol=0, atol=1e-5)


def test_sequences_longer_than_the_filter_are_refused(model: Model) -> None:
    model.embed(["A" * 299])
    with pytest.raises(SequenceTooLongError, match="window="):
        model.embed(["A" * 300])
    with pytest.raises(ArgumentError, match="filters end at 300"):
        model.encoder(torch.zeros(301, dtype=torch.int64), torch.tensor([0, 301]))
    with pytest.raises(ArgumentError, match="token types"):
        model.hidden_states(packed((4,)), token_types=np.zeros(4, dtype=np.int64))


def test_filter_stays_float32_among_bfloat16_products(model: Model) -> None:
    tokens = packed((90, 9))
    with torch.inference_mode():
        exact = model.hidden_states(tokens)
        cast_products(model.network, torch.bfloat16)
        found = model.hidden_states(tokens)
    long = model.encoder.layers[0].mixer.long
    assert {parameter.dtype for parameter in long.parameters()} == {torch.float32}
    assert model.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert float((found - exact).norm() / exact.norm()) < 0.02


def test_both_layouts_are_recognised(tmp_path: Path) -> None:
    assert hyenadna.recognises(CONFIG, tmp_path)
    assert hyenadna.recognises(EARLY | {"layer": EARLY_LAYER}, tmp_path)
    assert not hyenadna.recognises(EARLY | {"layer": EARLY_LAYER | {"_name_": "mha"}}, tmp_path)
    assert not hyenadna.recognises({"model_type": "bert", "layer": 3}, tmp_path)


def test_copied_filter_follows_its_own_weights(model: Model) -> None:
    tokens = packed((90, 9))
    with torch.inference_mode():
        before = model.hidden_states(tokens)
    twin = copy.copy(model)
    twin.network = copy.deepcopy(model.network)
    with torch.inference_mode():
        torch.testing.assert_close(twin.hidden_states(tokens), before)
        for parameter in twin.encoder.layers[0].mixer.long.parameters():
            parameter.data.mul_(1.5)
        assert float((twin.hidden_states(tokens) - before).abs().max()) > 1e-3
        torch.testing.assert_close(model.hidden_states(tokens), before)
