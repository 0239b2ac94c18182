"""Adapted layers and adapters on a model: the general form, each method, attaching and merging."""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_checkpoints import SEQUENCES, SHAPE, write_tiny
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fastgenome as fg
from fastgenome import ops
from fastgenome.adapters import AdapterLinear, Branch
from fastgenome.adapters.attach import adapted_layers
from fastgenome.errors import ArgumentError
from fastgenome.models.model import Model
from fastgenome.models.tiny import TinyConfig, create
from fastgenome.models.transformer import gated_linear, linear
from fastgenome.training.tuning_config import Training

ALL = ("query", "key", "value", "output", "ffn_in", "ffn_out")
CONFIGS = {
    "lora": fg.LoRA(rank=3, targets=ALL),
    "rslora": fg.LoRA(rank=3, use_rslora=True),
    "dora": fg.DoRA(rank=3, targets=ALL),
    "dora, some": fg.DoRA(rank=3, targets=("query", "value", "ffn_in")),
    "ia3": fg.IA3(),
    "ia3, all": fg.IA3(targets=ALL),
}
METHODS = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return create(TinyConfig(SHAPE, max_length=400, default_layers=(-1,)))


def vary(model: Model, *, seed: int = 1) -> None:
    """Numbers that are not those of the start."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.adapter_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)


def random_layer(width: int, rows: int, *, bias: bool = True, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(width, rows, bias=bias)


def adapted(layer: nn.Linear, *branches: Branch, dropout: float = 0.0) -> AdapterLinear:
    made = AdapterLinear(layer)
    made.add("a", branches, dropout=dropout)
    made.active = "a"
    return made


def defined(layer: AdapterLinear, x: Tensor) -> Tensor:
    """The general form in float64, row by row of the weight."""
    w, x = layer.weight.detach().double(), x.double()
    bias = torch.zeros(len(w)) if layer.bias is None else layer.bias.detach()
    y = torch.empty(len(x), len(w), dtype=torch.float64)
    for row in range(len(w)):
        weight, gain, offset, inputs = w[row].clone(), 1.0, float(bias[row]), x
        for branch in layer.branches("a"):
            if branch.input_gain is not None:
                inputs = inputs * branch.input_gain.detach().double()
            if not branch.start <= row < branch.stop:
                continue
            place = row - branch.start
            if branch.down is not None:
                rank = len(branch.down)
                values = torch.ones(rank) if branch.values is None else branch.values.detach()
                for i in range(rank):
                    kept = branch.mask is None or bool(branch.mask[i])
                    share = branch.scale * float(branch.up[place, i]) * float(values[i]) * kept
                    weight += share * branch.down[i].detach().double()
            if branch.magnitude is not None:
                gain = float(branch.magnitude[place]) / float(weight.norm())
            if branch.gain is not None:
                gain = float(branch.gain[place])
                offset *= gain
        y[:, row] = gain * (inputs @ weight) + offset
    return y


def branch_of(kind: str, rows: range, width: int) -> Branch:
    count, rank = len(rows), 3
    match kind:
        case "gain":
            return Branch(rows, gain=torch.randn(count))
        case "input_gain":
            return Branch(rows, input_gain=torch.randn(width))
    low = {"down": torch.randn(rank, width), "up": torch.randn(count, rank), "scale": 0.7}
    if kind == "magnitude":
        low["magnitude"] = torch.rand(count) + 0.5
    if kind == "values":
        low["values"] = torch.randn(rank)
    branch = Branch(rows, **low)  # type: ignore[arg-type]
    if branch.mask is not None:
        branch.mask[1] = False
    return branch


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", ["low rank", "values", "magnitude", "gain", "input_gain"])
def test_layer_is_the_general_form(kind: str, bias: bool) -> None:
    layer = random_layer(7, 12, bias=bias)
    spans = [range(12)] if kind == "input_gain" else [range(8, 12), range(1, 4)]
    made = adapted(layer, *(branch_of(kind, span, 7) for span in spans))
    x = torch.randn(2, 5, 7)
    with torch.no_grad():
        expected = defined(made, x.flatten(0, 1)).float().view(2, 5, 12)
        torch.testing.assert_close(made(x), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(made(x[:0]), expected[:0])
        made.merge()
        assert made.idle
        torch.testing.assert_close(made(x), expected, rtol=1e-5, atol=1e-5)
        made.unmerge()
    assert made.weight is layer.weight
    assert made.bias is layer.bias


def test_idle_layer_takes_the_fused_path(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("linear", "gated_linear"):
        original = getattr(ops, name)
        monkeypatch.setattr(ops, name, lambda *a, f=original, n=name: (calls.append(f"{n} {a[3]}"), f(*a))[1])
    layer = random_layer(4, 6)
    made = adapted(layer, branch_of("low rank", range(6), 4))
    x = torch.randn(3, 4)
    made.active = None
    assert torch.equal(linear(made, x, "gelu"), linear(layer, x, "gelu"))
    assert torch.equal(gated_linear(made, x, "silu"), gated_linear(layer, x, "silu"))
    made.active = "a"
    made.merge()
    linear(made, x, "relu")
    assert calls == ["linear gelu"] * 2 + ["gated_linear silu"] * 2 + ["linear relu"]


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_gated_layer_with_an_adapter(activation: Any) -> None:
    made = adapted(random_layer(4, 6), branch_of("low rank", range(6), 4))
    x = torch.randn(3, 4)
    with torch.no_grad():
        gate, value = defined(made, x).chunk(2, 1)
        function: Callable[[Tensor], Tensor] = {"gelu": nn.GELU(), "silu": nn.SiLU()}[activation]
        expected = (function(gate) * value).float()
        torch.testing.assert_close(gated_linear(made, x, activation), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 8, 64])
def test_norm_of_dora_is_that_of_the_adapted_weight(rank: int) -> None:
    layer = random_layer(31, 17)
    branch = Branch(range(2, 15), scale=1.7, down=torch.randn(rank, 31), up=torch.randn(13, rank))
    rows = layer.weight.detach()[2:15].double()
    for _ in range(3):
        product = branch.up.detach().double() @ branch.down.detach().double()  # type: ignore[union-attr]
        expected = (rows + 1.7 * product).norm(dim=1).float()
        torch.testing.assert_close(branch.norm(layer.weight), expected, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            branch.up.mul_(-0.5)  # type: ignore[union-attr]
            branch.down.add_(0.1)  # type: ignore[union-attr]


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_norm_of_dora_is_computed_once_for_each_step(monkeypatch: pytest.MonkeyPatch, fused: bool) -> None:
    made = adapted(random_layer(5, 6), branch_of("magnitude", range(6), 5))
    counted: list[int] = []
    original = Branch._row_norms
    monkeypatch.setattr(Branch, "_row_norms", lambda *a: (counted.append(1), original(*a))[1])
    optimizer = torch.optim.AdamW(made.adapters.parameters(), fused=fused)
    for step in range(3):
        with torch.inference_mode():
            made(torch.randn(4, 5))
        for _ in range(2):
            made(torch.randn(4, 5)).square().sum().backward()
        assert len(counted) == step + 1
        optimizer.step()
    with torch.no_grad():
        layer_weight = made.weight
        layer_weight.add_(0.1)
    made(torch.randn(4, 5))
    assert len(counted) == 4


def test_norm_of_dora_is_never_nan() -> None:
    layer = random_layer(8, 4)
    with torch.no_grad():
        layer.weight[0] = 0
        # B A cancels W but for rounding.
        down = layer.weight[1:2] / 3 + 0
        branch = Branch(range(4), down=down, up=torch.tensor([[0.0], [-3.0], [0], [0]]))
        branch.magnitude = nn.Parameter(layer.weight.norm(dim=1))
        gain = branch.output_gain(layer.weight)
    assert gain is not None
    assert torch.isfinite(gain).all()
    assert float(gain[0]) == 0
    assert gain.max() < 1e5
    torch.testing.assert_close(gain[2:], torch.ones(2))


def test_gradient_of_dora_stops_at_the_norm() -> None:
    made = adapted(random_layer(5, 4), branch_of("magnitude", range(4), 5))
    branch, x = made.branches("a")[0], torch.randn(6, 5)
    made(x).square().sum().backward()
    down, up, m = (p.detach().clone().requires_grad_() for p in (branch.down, branch.up, branch.magnitude))  # type: ignore[union-attr]
    norm = (made.weight + branch.scale * up @ down).norm(dim=1).detach()
    y = m / norm * (x @ (made.weight.detach() + branch.scale * up @ down).T) + made.bias.detach()
    y.square().sum().backward()
    for found, expected in ((branch.down, down), (branch.up, up), (branch.magnitude, m)):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-4)  # type: ignore[union-attr]


def test_dropout_is_in_training_alone_and_follows_the_default_generator() -> None:
    made = adapted(random_layer(50, 6), branch_of("low rank", range(6), 50), dropout=0.5)
    x = torch.randn(40, 50)
    made.eval()
    still = made(x)
    assert torch.equal(made(x), still)
    made.train()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = made(x), made(x)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(made(x), first)
    # What is kept is scaled up: the mean over many masks is the output without dropout.
    with torch.no_grad():
        mean = torch.stack([made(x) for _ in range(600)]).mean(0)
    deviation, added = mean - still.detach(), (still - random_base(made, x)).detach()
    assert float(deviation.abs().mean()) < 0.1 * float(added.abs().mean())


def random_base(layer: AdapterLinear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.weight, layer.bias)


def test_dropout_is_the_same_when_activations_are_computed_again() -> None:
    made = adapted(random_layer(9, 6), branch_of("low rank", range(6), 9), dropout=0.4).train()
    x = torch.randn(20, 9)
    gradients = []
    for again in (False, True):
        made.zero_grad()
        torch.manual_seed(2)
        y = checkpoint(made, x, use_reentrant=False) if again else made(x)
        y.square().sum().backward()  # type: ignore[union-attr]
        gradients.append([p.grad.clone() for p in made.adapters.parameters() if p.grad is not None])
    assert len(gradients[0]) == 2
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_bfloat16_layer_keeps_float32_parameters() -> None:
    layer = random_layer(16, 8).bfloat16()
    made = adapted(layer, branch_of("low rank", range(8), 16))
    x = torch.randn(5, 16)
    y = linear(made, x)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in made.adapters.parameters())  # type: ignore[union-attr]
    torch.testing.assert_close(y.float().detach(), defined(made, x).float(), rtol=0.05, atol=0.3)


@METHODS
def test_new_adapter_changes_nothing_and_learns_alone(config: Any, model: Model) -> None:
    before = model.embed(SEQUENCES)
    weights = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    model.add_adapter(config)
    np.testing.assert_allclose(model.embed(SEQUENCES), before, rtol=0, atol=2e-6)
    own = model.adapter_parameters()
    assert {id(p) for p in model.network.parameters() if p.requires_grad} == {id(p) for p in own}
    optimizer = torch.optim.AdamW(own, lr=0.01)
    tokens = model.tokenizer(SEQUENCES)
    for _ in range(2):
        states = model.hidden_states(tokens)
        assert isinstance(states, Tensor)
        optimizer.zero_grad()
        states.square().sum().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in own)
    assert np.abs(model.embed(SEQUENCES) - before).max() > 1e-3
    model.remove_adapter()
    for name, parameter in model.network.named_parameters():
        assert torch.equal(parameter, weights[name])
        assert parameter.requires_grad
    assert not adapted_layers(model.network)
    assert np.array_equal(model.embed(SEQUENCES), before)


@METHODS
def test_merged_model_is_the_adapted_one_and_unmerging_is_exact(config: Any, model: Model) -> None:
    model.add_adapter(config)
    vary(model)
    weights = [p.detach().clone() for p in model.network.parameters()]
    before = model.embed(SEQUENCES)
    model.merge_adapter()
    merged = model.embed(SEQUENCES)
    np.testing.assert_allclose(merged, before, rtol=1e-4, atol=1e-4 * np.abs(before).max())
    assert any(layer.merged for layer in adapted_layers(model.network).values())
    model.unmerge_adapter()
    assert np.array_equal(model.embed(SEQUENCES), before)
    assert all(torch.equal(*pair) for pair in zip(weights, model.network.parameters(), strict=True))


def test_what_cannot_be_done_while_merged(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no active adapter to merge"):
        model.merge_adapter()
    with pytest.raises(ArgumentError, match="no adapter of model 'tiny' is merged"):
        model.unmerge_adapter()
    model.add_adapter(fg.LoRA(rank=2))
    model.save_adapter(tmp_path / "adapter")
    model.merge_adapter()
    for act in (
        model.merge_adapter,
        model.remove_adapter,
        lambda: model.add_adapter(fg.IA3(), name="other"),
        lambda: model.load_adapter(tmp_path / "adapter", name="other"),
        lambda: model.set_adapter(None),
        lambda: model.save_adapter(tmp_path / "again"),
    ):
        with pytest.raises(ArgumentError, match=r"'default' is merged; call unmerge_adapter\(\) first"):
            act()
    model.unmerge_adapter()
    model.remove_adapter()


def test_several_adapters_take_turns(model: Model) -> None:
    alone = model.embed(SEQUENCES)
    model.add_adapter(fg.LoRA(rank=2), name="first")
    vary(model, seed=1)
    first = model.embed(SEQUENCES)
    model.add_adapter(fg.IA3(), name="second")
    vary(model, seed=2)
    second = model.embed(SEQUENCES)
    assert np.abs(first - second).max() > 1e-2
    model.set_adapter("first")
    assert np.array_equal(model.embed(SEQUENCES), first)
    assert all(p.requires_grad for p in model.adapter_parameters())
    assert not any(p.requires_grad for p in model.adapter_parameters(name="second"))
    model.set_adapter(None)
    assert model.adapter_parameters() == []
    assert np.array_equal(model.embed(SEQUENCES), alone)
    model.remove_adapter(name="first")
    model.set_adapter("second")
    assert np.array_equal(model.embed(SEQUENCES), second)
    with pytest.raises(ArgumentError, match="no adapter 'first'; it has: second"):
        model.set_adapter("first")
    with pytest.raises(ArgumentError, match="already has an adapter named 'second'"):
        model.add_adapter(fg.LoRA(), name="second")
    with pytest.raises(ArgumentError, match=r"one word .* got 'a\.b'"):
        model.add_adapter(fg.LoRA(), name="a.b")


def test_frozen_parameters_stay_frozen_after_the_last_adapter(model: Model) -> None:
    frozen = next(model.network.parameters())
    frozen.requires_grad_(False)
    model.add_adapter(fg.LoRA())
    model.add_adapter(fg.LoRA(), name="other")
    model.remove_adapter()
    assert not any(p.requires_grad for p in model.encoder.layers[0].attention_norm.parameters())  # type: ignore[attr-defined]
    model.remove_adapter(name="other")
    assert [p.requires_grad for p in model.network.parameters()].count(False) == 1
    assert not frozen.requires_grad


def test_seed_gives_the_initial_numbers(model: Model) -> None:
    numbers = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(hash(name) % 100)
        model.add_adapter(fg.LoRA(rank=4, targets=("output", "query"), seed=seed), name=name)
        numbers.append(torch.cat([p.flatten() for p in model.adapter_parameters()]))
    assert torch.equal(numbers[0], numbers[1])
    assert not torch.equal(numbers[0], numbers[2])
    layer = adapted_layers(model.network)["encoder.layers.0.output"]
    (branch,) = layer.branches("a")
    assert branch.down is not None
    bound = 1 / math.sqrt(layer.in_features)
    assert 0.8 * bound < float(branch.down.abs().max()) <= bound
    assert not branch.up.any()  # type: ignore[union-attr]


def test_saved_model_is_its_base_or_what_is_merged(model: Model, tmp_path: Path) -> None:
    write_tiny(tmp_path / "base")
    model = fg.load(tmp_path / "base", device="cpu", dtype="float32")
    digest, before = model.sha256, model.embed(SEQUENCES)
    model.add_adapter(fg.DoRA(rank=2))
    vary(model)
    adapted_states = model.embed(SEQUENCES)
    model.save(tmp_path / "copy")
    base, copied = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "copy"))
    assert base.keys() == copied.keys()
    assert all(torch.equal(base[name], copied[name]) for name in base)
    assert model.sha256 == digest
    model.merge_adapter()
    model.save(tmp_path / "merged")
    merged = fg.load(tmp_path / "merged", device="cpu", dtype="float32").embed(SEQUENCES)
    assert np.array_equal(merged, model.embed(SEQUENCES))
    np.testing.assert_allclose(merged, adapted_states, rtol=0, atol=1e-4)
    assert np.abs(merged - before).max() > 1e-2
    assert model.dtype == torch.float32


@pytest.mark.parametrize("config", [fg.LoRA, fg.LoRA(rank=2).scale, "lora", None, Training()], ids=repr)
def test_what_is_no_adapter_is_refused(model: Model, config: Any) -> None:
    with pytest.raises(ArgumentError, match="config must be an adapter's settings"):
        model.add_adapter(config)
    assert not model.adapters.configs


def test_hooks_that_would_be_lost_are_refused(model: Model) -> None:
    model.encoder.layers[0].qkv.register_forward_hook(lambda *_: None)
    with pytest.raises(ArgumentError, match=r"encoder\.layers\.0\.qkv has hooks"):
        model.add_adapter(fg.LoRA())


@pytest.mark.parametrize("kind", ["gain", "input_gain"])
def test_factors_near_1_act_on_bfloat16_layers(kind: str) -> None:
    layer = random_layer(64, 48).bfloat16()
    made = adapted(layer, Branch(range(48), **{kind: torch.full((48 if kind == "gain" else 64,), 1.0035)}))
    x = torch.randn(200, 64).bfloat16()
    plain, found = layer(x).double(), made(x).double()
    bias = layer.bias.double() if kind == "input_gain" else 0.0
    assert 1.002 < float(((found - bias) * (plain - bias)).sum() / (plain - bias).square().sum()) < 1.005


@pytest.mark.parametrize("grad", [False, True])
def test_autocast_leaves_adapted_layers_to_the_type_of_their_weights(model: Model, grad: bool) -> None:
    model.add_adapter(fg.LoRA(rank=2))
    vary(model)
    tokens = model.tokenizer(SEQUENCES)
    with torch.set_grad_enabled(grad):
        expected = model.hidden_states(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            found = model.hidden_states(tokens)
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1)


def test_copy_of_an_adapted_network_is_its_own(model: Model) -> None:
    model.add_adapter(fg.DoRA(rank=2))
    vary(model)
    before = model.embed(SEQUENCES)
    other = copy.deepcopy(model)
    vary(other, seed=4)
    assert np.array_equal(model.embed(SEQUENCES), before)
    assert not np.array_equal(other.embed(SEQUENCES), before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fg.LoRA(rank=0), "rank must be a whole number from 1 .* got 0"),
        (lambda: fg.LoRA(rank=True), "rank"),
        (lambda: fg.LoRA(rank=2.5), "rank"),  # type: ignore[arg-type]
        (lambda: fg.DoRA(alpha=0), "alpha must be a number above 0; got 0"),
        (lambda: fg.LoRA(alpha=math.inf), "alpha"),
        (lambda: fg.LoRA(dropout=1.0), "dropout must be a number from 0 to below 1; got 1.0"),
        (lambda: fg.LoRA(targets=("query", "keys")), "one or more of query, key, .* got .*keys"),
        (lambda: fg.LoRA(targets="query"), "tuple of roles .* got 'query'"),  # type: ignore[arg-type]
        (lambda: fg.LoRA(use_rslora="no"), "use_rslora must be a bool, got 'no'"),  # type: ignore[arg-type]
        (lambda: fg.LoRA(seed="x"), "seed must be a whole number"),  # type: ignore[arg-type]
        (lambda: fg.IA3(targets=()), "one or more of"),
        (lambda: fg.IA3(targets=("key", "key")), "each once"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (
            fg.LoRA(rank=np.int64(4), alpha=np.int32(16), dropout=np.float64(0.5), seed=np.uint8(3)),
            fg.LoRA(rank=4, alpha=16.0, dropout=0.5, seed=3),
        ),
        (fg.DoRA(rank=np.int16(4), alpha=8, dropout=0), fg.DoRA(rank=4, alpha=8.0, dropout=0.0)),
        (
            fg.AdaLoRA(
                initial_rank=np.int64(6), target_rank=np.uint8(3), alpha=16, orthogonality=1,
                seed=np.int64(1), beta1=np.float32(0.5), allocation_warmup=np.int64(2),
                allocation_final=np.float32(0.25),
            ),
            fg.AdaLoRA(
                initial_rank=6, target_rank=3, alpha=16.0, orthogonality=1.0, seed=1,
                beta1=0.5, allocation_warmup=2, allocation_final=0.25,
            ),
        ),
        (fg.ARS(resample_probability=1, alpha=4), fg.ARS(resample_probability=1.0, alpha=4.0)),
        (fg.ARS(resample_probability=np.float32(0.5)), fg.ARS(resample_probability=0.5)),
        (
            fg.AdaLoRA(allocation_warmup=0.0, allocation_final=-0.0, dropout=-0.0),
            fg.AdaLoRA(allocation_warmup=0, allocation_final=0, dropout=0.0),
        ),
    ],
    ids=["lora", "dora", "adalora", "ars", "ars, float32", "spans of 0"],
)  # fmt: skip
def test_equal_numbers_are_stored_alike(given: Any, plain: Any) -> None:
    assert repr(given) == repr(plain)
    assert json.dumps(asdict(given)) == json.dumps(asdict(plain))


@pytest.mark.parametrize(
    "value", [True, np.True_, "4", None, 10**400, 4 + 0j, np.nan, [4]], ids=lambda v: repr(v)[:9]
)
@pytest.mark.parametrize(
    ("config", "name"),
    [(fg.LoRA, "rank"), (fg.DoRA, "alpha"), (fg.AdaLoRA, "initial_rank"), (fg.AdaLoRA, "orthogonality"),
     (fg.AdaLoRA, "allocation_warmup"), (fg.Training, "epochs"),
     (fg.Training, "clip")],
)  # fmt: skip
def test_what_is_no_number_is_refused(config: Any, name: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=f"{name} must be "):
        config(**{name: value})


@pytest.mark.parametrize("value", [True, "0.1", 1.5, np.nan])
def test_what_is_no_probability_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match="resample_probability must be "):
        fg.ARS(resample_probability=value)


def test_whole_alpha_is_one_in_files() -> None:
    assert json.dumps(fg.LoRA(alpha=16.0).peft_fields()["lora_alpha"]) == "16"
    assert json.dumps(fg.LoRA(alpha=2.5).peft_fields()["lora_alpha"]) == "2.5"


def test_settings_can_come_as_a_list() -> None:
    assert fg.LoRA(targets=["key", "query"]).targets == ("key", "query")  # type: ignore[arg-type]
    assert fg.LoRA(rank=16, alpha=8, use_rslora=True).scale == 2
    assert fg.LoRA(rank=16, alpha=8).scale == 0.5
