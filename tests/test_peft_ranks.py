"""Adapters with allocated ranks against PEFT's AdaLoRA: numbers and files, with and without pruned ranks."""

import copy
import json
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from published_networks import KINDS, load, module_pattern, write_network
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_peft_format import IDS, assert_near, change_fields, loss_of, our_states, their_states
from torch import nn

from fastgenome.adapters import ARS, IA3, DoRA, LoRA
from fastgenome.adapters.adalora import AdaLoRA
from fastgenome.adapters.attach import adapted_layers
from fastgenome.adapters.branch import Branch
from fastgenome.adapters.linear import AdapterLinear
from fastgenome.adapters.peft_format import CONFIG, WEIGHTS, _digest_of_fields
from fastgenome.adapters.sites import adapter_sites
from fastgenome.errors import CheckpointError
from fastgenome.models.model import Model
from fastgenome.training.methods import rank_allocator

peft = pytest.importorskip("peft")

STEPS = 8
INPUTS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "output_hidden_states": True}


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    directory = tmp_path_factory.mktemp("opt")
    return write_network("opt", directory), directory


def trained_by_peft(network: nn.Module, *, masked: bool) -> Any:
    """PEFT's AdaLoRA after some steps, with `masked` up to its final ranks."""
    settings = peft.AdaLoraConfig(
        target_modules=["q_proj", "v_proj", "fc2"], init_r=5, target_r=2, lora_alpha=7, tinit=1, tfinal=2,
        deltaT=1, total_step=STEPS,
    )  # fmt: skip
    adapted = peft.get_peft_model(copy.deepcopy(network), settings)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.02)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(their_states(adapted)).backward()
        optimizer.step()
        if masked:
            adapted.base_model.update_and_allocate(step)
    # After a short training, with values that count.
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_E" in name:
                parameter.mul_(1000)
    adapted.zero_grad()
    return adapted.eval()


def with_loss(network: nn.Module) -> None:
    """Let a network's outputs have our loss, of its last hidden states."""
    forward = network.forward

    def forward_with_loss(**inputs: Any) -> Any:
        outputs = forward(**inputs)
        return SimpleNamespace(**(dict(outputs) | {"loss": loss_of(outputs.hidden_states[-1].flatten(0, 1))}))

    network.forward = forward_with_loss


def parameters_of(model: Model, *, gradients: bool = False) -> dict[str, torch.Tensor]:
    """A, λ and B of every adapted module, or their gradients, as published, by PEFT's names."""
    found = {}
    for site in adapter_sites(model):
        layer = model.network.get_submodule(site.layer)
        for branch in layer.branches("default") if isinstance(layer, AdapterLinear) else ():
            if branch.start == site.rows.start:
                learned = (branch.down, branch.values, branch.up)
                down, values, up = (p.grad if gradients else p for p in learned)  # type: ignore[union-attr]
                published = {"A": down, "E": values[:, None], "B": site.to_published(up)}
                found |= {f"{site.module}.lora_{name}": tensor for name, tensor in published.items()}
    return found


@pytest.mark.parametrize("orthogonality", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_ten_steps_with_allocation_are_those_of_peft(kind: str, orthogonality: float, tmp_path: Path) -> None:
    network = write_network(kind, tmp_path)
    settings = peft.AdaLoraConfig(
        target_modules=module_pattern(kind, ("query", "value", "ffn_out")), init_r=5, target_r=2,
        lora_alpha=7, tinit=2, tfinal=3, deltaT=2, total_step=10, orth_reg_weight=orthogonality,
    )  # fmt: skip
    adapted = peft.get_peft_model(network, settings).eval()
    theirs = {
        name.removeprefix("base_model.model.").removesuffix(".default"): parameter
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad
    }
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in theirs.values():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    adapted.save_pretrained(tmp_path / "adapter")
    model = load(tmp_path)
    model.load_adapter(tmp_path / "adapter")
    config = model.adapters.configs["default"]
    assert isinstance(config, AdaLoRA)
    schedule = replace(config, allocation_warmup=2, allocation_final=3, allocation_interval=2)
    allocator = rank_allocator(model, schedule, total_steps=10)
    assert allocator is not None
    assert parameters_of(model).keys() == theirs.keys()
    assert_near(our_states(model), their_states(adapted))
    with_loss(adapted.base_model.model)
    of_peft = torch.optim.AdamW(theirs.values(), lr=1e-3, weight_decay=0.1)
    optimizer = torch.optim.AdamW(model.adapter_parameters(), lr=1e-3, weight_decay=0.1)
    budgets = set()
    for step in range(1, 11):
        # The outermost module of PEFT leaves the regulariser out of the loss.
        adapted.base_model(**INPUTS).loss.backward()
        loss_of(our_states(model)).backward()
        allocator.add_orthogonality_gradient()
        if step == 1:
            for name, found in parameters_of(model, gradients=True).items():
                assert_near(found, theirs[name].grad)
        of_peft.step()
        adapted.base_model.update_and_allocate(step)
        of_peft.zero_grad()
        allocator.after_backward(step)
        optimizer.step()
        allocator.after_step(step)
        optimizer.zero_grad()
        if (pattern := adapted.peft_config["default"].rank_pattern) is not None:
            named = {name.removesuffix(".lora_E.default"): kept for name, kept in pattern.items()}
            assert named == allocator.pattern
        budgets.add(sum(map(sum, allocator.pattern.values())))
    # 12 + 18 · (3/5)³ = 15.9 after step 4, and 12 + 18 · (1/5)³ = 12.1 after step 6.
    assert budgets == {30, 15, 12}
    for name, found in parameters_of(model).items():
        assert_near(found, theirs[name])
    assert_near(our_states(model), their_states(adapted))


def branches(model: Model) -> list[Branch]:
    return [b for layer in adapted_layers(model.network).values() for b in layer.branches("default")]


@pytest.mark.parametrize("masked", [True, False], ids=["pruned", "all ranks"])
def test_adapter_of_peft_gives_the_same_numbers_and_gradients(
    masked: bool, opt: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    network, directory = opt
    adapted = trained_by_peft(network, masked=masked)
    adapted.save_pretrained(tmp_path / "theirs")
    pattern = json.loads((tmp_path / "theirs" / CONFIG).read_text())["rank_pattern"]
    model = load(directory)
    plain = our_states(model)
    model.load_adapter(tmp_path / "theirs")
    expected, found = their_states(adapted), our_states(model)
    assert float((found - plain).detach().abs().max()) > 0.005
    assert_near(found, expected)
    ranks = [int(branch.mask.sum()) for branch in branches(model) if branch.mask is not None]
    assert sorted(ranks) == (sorted(map(sum, pattern.values())) if masked else [5] * 6)
    assert not masked or min(ranks) < 5
    model.save_adapter(tmp_path / "ours")
    first, second = (load_file(tmp_path / who / WEIGHTS) for who in ("ours", "theirs"))
    ours = {name.replace("base_model.model.", ""): tensor for name, tensor in first.items()}
    assert ours.keys() == {name.replace("base_model.model.", "") for name in second}
    assert all(torch.equal(first[name], second[name]) for name in first)
    loss_of(expected).backward()
    loss_of(found).backward()
    theirs = {name: p.grad for name, p in adapted.named_parameters() if "lora_E" in name}
    ours_of_values, theirs_of_values = [], []
    for index in range(2):
        pruned = model.network.get_submodule(f"encoder.layers.{index}.down").branches("default")[0]
        gradient = next(g for name, g in theirs.items() if f"layers.{index}.fc2" in name)
        ours_of_values.append(pruned.values.grad[pruned.mask])
        theirs_of_values.append(gradient.flatten()[pruned.mask])
        assert not pruned.values.grad[~pruned.mask].any()
    assert_near(torch.cat(ours_of_values), torch.cat(theirs_of_values))


def test_pruned_ranks_are_left_out_of_files(opt: tuple[nn.Module, Path], tmp_path: Path) -> None:
    network, directory = opt
    model = load(directory)
    model.add_adapter(AdaLoRA(initial_rank=4, target_rank=2, alpha=6, targets=("query", "value", "ffn_out")))
    torch.manual_seed(3)
    masks = [[True, False, True, True], [False] * 4, [True] * 4, [False, True, False, False]] * 2
    with torch.no_grad():
        for branch, mask in zip(branches(model), masks, strict=False):
            assert branch.values is not None
            assert branch.mask is not None
            branch.values.normal_()
            branch.up.normal_()  # type: ignore[union-attr]
            branch.mask.copy_(torch.tensor(mask))
        expected = our_states(model)
        model.save_adapter(tmp_path / "adapter")
        again = load(directory)
        again.load_adapter(tmp_path / "adapter")
        assert torch.equal(our_states(again), expected)
        assert again.adapters.configs["default"].initial_rank == 4  # type: ignore[attr-defined]
        adapted = peft.PeftModel.from_pretrained(copy.deepcopy(network), tmp_path / "adapter").eval()
        assert_near(their_states(adapted), expected)
        model.merge_adapter()
        assert_near(our_states(model), expected)
    shapes = {tuple(t.shape) for name, t in load_file(tmp_path / "adapter" / WEIGHTS).items() if "_E" in name}
    assert shapes == {(3, 1), (0, 1), (4, 1), (1, 1)}


@pytest.mark.parametrize(
    "config",
    [
        ARS(
            initial_rank=4,
            target_rank=2,
            alpha=6,
            mode="lingo",
            resample_probability=0.25,
            targets=("query",),
        ),
        ARS(initial_rank=4, target_rank=2, allocation_warmup=3, allocation_interval=7, seed=5),
        AdaLoRA(initial_rank=4, target_rank=3, allocation_final=0.125, orthogonality=0.25),
        LoRA(rank=2, alpha=3, seed=7),
        DoRA(rank=2, seed=8, use_rslora=True),
        IA3(),
    ],
    ids=["ars, lingo", "ars, eq4", "adalora", "lora", "dora", "ia3"],
)
def test_settings_that_peft_has_no_fields_for_come_back(
    config: Any, opt: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    network, directory = opt
    model, again = load(directory), load(directory)
    model.add_adapter(config)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.adapter_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
        expected = our_states(model)
        model.save_adapter(tmp_path / "adapter")
        again.load_adapter(tmp_path / "adapter")
        assert again.adapters.configs["default"] == config
        assert torch.equal(our_states(again), expected)
        with warnings.catch_warnings():
            # PEFT warns of fields that it does not know.
            warnings.filterwarnings("error", message="Unexpected keyword")
            adapted = peft.PeftModel.from_pretrained(copy.deepcopy(network), tmp_path / "adapter").eval()
        assert_near(their_states(adapted), expected)


def test_pruned_ars_comes_back_with_the_ranks_that_are_left(
    opt: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    model, again = load(opt[1]), load(opt[1])
    model.add_adapter(ARS(initial_rank=4, target_rank=3, alpha=6, mode="lingo", targets=("query",)))
    for branch in branches(model):
        branch.mask.copy_(torch.tensor([True, False, True, False]))  # type: ignore[union-attr]
    model.save_adapter(tmp_path / "adapter")
    again.load_adapter(tmp_path / "adapter")
    config = again.adapters.configs["default"]
    assert isinstance(config, ARS)
    assert (config.initial_rank, config.target_rank, config.mode) == (4, 3, "lingo")


@pytest.mark.parametrize(
    "settings",
    [
        None,
        '{"method": "LoRA"}',
        '{"method": "ARS", "alpha": 3}',
        '{"method": "ARS", "mode": "eq5"}',
        '{"method": "ARS"',
        '["ARS"]',
        '{"seed": 1}',
    ],
    ids=str,
)
def test_own_settings_that_were_changed_are_refused(
    settings: str | None, opt: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    """With the digest of the changed ones, too."""
    model = load(opt[1])
    model.add_adapter(ARS(targets=("query",)))
    model.save_adapter(tmp_path)
    with safe_open(tmp_path / WEIGHTS, framework="pt") as file:
        metadata = file.metadata()
    fields = json.loads((tmp_path / CONFIG).read_text())
    for sealed in (False, True) if settings is not None else (False,):
        changed = {name: text for name, text in metadata.items() if name != "settings"}
        changed |= {} if settings is None else {"settings": settings}
        if sealed:
            changed["config_sha256"] = _digest_of_fields(fields, settings or "")
        save_file(load_file(tmp_path / WEIGHTS), tmp_path / WEIGHTS, metadata=changed)
        with pytest.raises(CheckpointError, match="own settings" if sealed else "damaged or was changed"):
            load(opt[1]).load_adapter(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank_pattern": {"model.decoder.layers.0.fc2.lora_E": [True]}}, "list of 4 truths"),
        ({"rank_pattern": {"model.decoder.layers.0.fc2.lora_E": [True, True, True, False]}}, "shape"),
        ({"init_r": None}, "initial_rank"),
        ({"init_r": 5}, "rank_pattern|shape"),
        ({"lora_alpha": -1}, "alpha"),
        ({"use_dora": True}, "use_dora=True"),
        ({"rank_pattern": [True]}, "rank_pattern"),
    ],
    ids=str,
)
def test_patterns_that_do_not_fit_are_refused(
    changes: dict[str, Any], message: str, opt: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    model = load(opt[1])
    model.add_adapter(AdaLoRA(initial_rank=4, target_rank=2, targets=("ffn_out",)))
    model.save_adapter(tmp_path / "adapter")
    change_fields(tmp_path / "adapter", **changes)
    with pytest.raises(CheckpointError, match=message):
        model.load_adapter(tmp_path / "adapter", name="again")
