"""Where adapters go in every family, and that files name the published modules and mean the same to PEFT."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_checkpoints import SEQUENCES, write_tiny
from torch import Tensor, nn

import fastgenome as fg
from fastgenome.adapters import peft_format
from fastgenome.adapters.adalora import AdaLoRA
from fastgenome.adapters.attach import adapted_layers
from fastgenome.adapters.linear import AdapterLinear
from fastgenome.adapters.peft_format import CONFIG, WEIGHTS
from fastgenome.adapters.sites import adapter_sites
from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.models import convnova, unet
from fastgenome.models.model import Model
from fastgenome.models.transformers_encoder import TransformersEncoder

peft = pytest.importorskip("peft")

ALL = ("query", "key", "value", "output", "ffn_in", "ffn_out")
FFN = ("ffn_in", "ffn_out")

# A fixture of each family, its roles, and the published modules of the first layer in the order of the roles.
FAMILIES = {
    "dnabert_1": (ALL, "query key value attention.output.dense intermediate.dense 0.output.dense"),
    "specieslm_1": (ALL, "query key value attention.output.dense intermediate.dense 0.output.dense"),
    "nt_v1_1": (ALL, "query key value attention.output.dense intermediate.dense 0.output.dense"),
    "nt_v2_1": (ALL, "query key value attention.output.dense intermediate.dense 0.output.dense"),
    "opt_1": (ALL, "q_proj k_proj v_proj out_proj fc1 fc2"),
    "dnabert2_1": (ALL, "attention.self.Wqkv attention.output.dense mlp.gated_layers mlp.wo"),
    "hyenadna_1": (ALL, "mixer.in_proj mixer.out_proj fc1 fc2"),
    "caduceus_1": (FFN, "mamba_fwd.in_proj mamba_fwd.out_proj"),
    "caduceus_2": (FFN, "submodule.mamba_fwd.in_proj submodule.mamba_fwd.out_proj"),
}


def load(fixture: Path) -> Model:
    return fg.load(fixture, device="cpu", dtype="float32")


def vary(model: Model) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.adapter_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)


def skeleton(fixture: Path, model: Model) -> nn.Module:
    """The published linear modules of a fixture's sites with the weights of its file, and nothing else."""
    tensors = load_file(fixture / "model.safetensors")
    root = nn.Module()
    for site in adapter_sites(model):
        weight, bias = tensors[f"{site.module}.weight"], tensors.get(f"{site.module}.bias")
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        linear.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
        *path, name = site.module.split(".")
        parent = root
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = getattr(parent, part)
        parent.add_module(name, linear)
    return root


def assert_same_layers(model: Model, theirs: nn.Module) -> None:
    """Every published module with PEFT's adapter gives what our layer gives in its rows, as published."""
    base = theirs.base_model.model
    torch.manual_seed(2)
    with torch.no_grad():
        for site in adapter_sites(model):
            layer = model.network.get_submodule(site.layer)
            assert isinstance(layer, nn.Linear)
            x = torch.randn(5, layer.in_features)
            ours = layer(x)[:, site.rows.start : site.rows.stop]
            expected = base.get_submodule(site.module)(x)
            assert (type(base.get_submodule(site.module)) is nn.Linear) == _untouched(layer, site.rows)
            difference = float((site.to_published(ours.T).T - expected).abs().max())
            assert difference <= 1e-5 * float(expected.abs().max()), site.module


def _untouched(layer: nn.Module, rows: range) -> bool:
    branches = layer.branches("default") if isinstance(layer, AdapterLinear) else []
    return not any(branch.start in rows for branch in branches)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_its_roles_under_their_published_names(name: str, parity_dir: Path) -> None:
    model, (roles, ends) = load(parity_dir / name), FAMILIES[name]
    sites = adapter_sites(model)
    tensors = load_file(parity_dir / name / "model.safetensors")
    layers = len(model.encoder.layers)  # type: ignore[attr-defined]
    modules = ends.split()
    assert len(sites) == layers * len(modules)
    assert all(f"{site.module}.weight" in tensors for site in sites)
    assert len({site.module for site in sites}) == len(sites)
    first = sites[: len(modules)]
    assert all(site.module.endswith(end) for site, end in zip(first, modules, strict=True))
    assert tuple(role for site in first for role in site.roles) == roles
    for site in sites:
        weight = model.network.get_submodule(site.layer).weight
        assert isinstance(weight, Tensor)
        ours = weight[site.rows.start : site.rows.stop]
        published = tensors[f"{site.module}.weight"]
        assert torch.equal(site.to_published(ours), published)
        assert torch.equal(ours, site.to_ours(published))
        assert sorted(row for rows in site.roles.values() for row in rows) == list(site.rows)


METHODS = {
    "lora": lambda targets: fg.LoRA(rank=3, alpha=5, targets=targets),
    "rslora": lambda targets: fg.LoRA(rank=3, alpha=5, targets=targets, use_rslora=True),
    "dora": lambda targets: fg.DoRA(rank=3, alpha=5, targets=targets),
    "ia3": lambda targets: fg.IA3(targets=targets),
    "adalora": lambda targets: AdaLoRA(initial_rank=3, target_rank=2, alpha=5, targets=targets),
}
# A fused module wholly, in one and in two of its roles, with and without others.
CHOICES = [
    ("dnabert2_1", ("query", "key", "value")),
    ("dnabert2_1", ("value",)),
    ("dnabert2_1", ("query", "value", "output", "ffn_in")),
    ("hyenadna_1", ("key", "query", "ffn_out")),
    ("nt_v2_1", ("query", "value", "ffn_in", "ffn_out")),
    ("nt_v1_1", ("key", "output")),
    ("opt_1", ("query", "key", "value", "ffn_out")),
    ("specieslm_1", ALL),
    ("caduceus_2", FFN),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "targets"), CHOICES, ids=lambda v: v if isinstance(v, str) else "+".join(v))
def test_saved_adapter_means_the_same_to_peft(
    name: str, targets: tuple[str, ...], method: str, parity_dir: Path, tmp_path: Path
) -> None:
    fixture, config = parity_dir / name, METHODS[method](targets)
    model = load(fixture)
    model.add_adapter(config)
    vary(model)
    if method == "adalora":
        for layer in adapted_layers(model.network).values():
            layer.branches("default")[-1].mask[1] = False  # type: ignore[index]
    model.save_adapter(tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(skeleton(fixture, model), tmp_path / "ours").eval()
    assert_same_layers(model, theirs)
    again = load(fixture)
    again.load_adapter(tmp_path / "ours")
    tokens = again.tokenizer(SEQUENCES)
    with torch.no_grad():
        assert torch.equal(again.hidden_states(tokens), model.hidden_states(tokens))  # type: ignore[arg-type]
    found = again.adapters.configs["default"]
    assert type(found) is type(config)
    assert (found.targets, found.dropout) == (config.targets, config.dropout)
    if method != "adalora":
        assert found == config
    assert [p.shape for p in again.adapter_parameters()] == [p.shape for p in model.adapter_parameters()]
    again.save_adapter(tmp_path / "again")
    assert json.loads((tmp_path / "again" / CONFIG).read_text()) == json.loads(
        (tmp_path / "ours" / CONFIG).read_text()
    )


@pytest.mark.parametrize("dora", [False, True])
def test_adapter_of_peft_on_a_fused_module(dora: bool, parity_dir: Path, tmp_path: Path) -> None:
    fixture = parity_dir / "dnabert2_1"
    model = load(fixture)
    settings = peft.LoraConfig(r=5, lora_alpha=4, target_modules=["Wqkv", "wo"], use_dora=dora)
    theirs = peft.get_peft_model(skeleton(fixture, model), settings).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    theirs.save_pretrained(tmp_path)
    model.load_adapter(tmp_path)
    assert_same_layers(model, theirs)
    assert model.adapters.configs["default"].targets == ("query", "key", "value", "ffn_out")


def test_blocks_of_roles_must_be_blocks(parity_dir: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    model = load(parity_dir / "dnabert2_1")
    model.add_adapter(fg.LoRA(rank=2))
    vary(model)
    model.save_adapter(tmp_path)
    with safe_open(tmp_path / WEIGHTS, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(tmp_path / WEIGHTS)
    name = next(name for name in tensors if name.endswith("lora_B.weight"))
    tensors[name] = torch.ones_like(tensors[name])
    metadata["tensors_sha256"] = peft_format._digest(tensors)
    save_file(tensors, tmp_path / WEIGHTS, metadata=metadata)
    with pytest.raises(CheckpointError, match="outside the rows of its roles"):
        model.load_adapter(tmp_path, name="again")


@pytest.mark.parametrize("name", ["dnabert2_1", "hyenadna_1", "caduceus_2", "nt_v2_1"])
@pytest.mark.parametrize("method", ["lora", "dora", "ia3"])
def test_merged_is_the_adapted_model_in_every_family(name: str, method: str, parity_dir: Path) -> None:
    model = load(parity_dir / name)
    model.add_adapter(METHODS[method](FAMILIES[name][0]))
    vary(model)
    before = model.embed(SEQUENCES)
    assert np.abs(before - load(parity_dir / name).embed(SEQUENCES)).max() > 1e-3
    model.merge_adapter()
    np.testing.assert_allclose(model.embed(SEQUENCES), before, rtol=0, atol=2e-5 * np.abs(before).max())
    model.unmerge_adapter()
    assert np.array_equal(model.embed(SEQUENCES), before)


def test_own_names_where_nothing_was_published(tmp_path: Path) -> None:
    model = load(write_tiny(tmp_path / "tiny"))
    model.add_adapter(fg.DoRA(rank=2, targets=("query", "value", "ffn_in")))
    vary(model)
    model.save_adapter(tmp_path / "adapter")
    names = {name.rpartition(".lora")[0] for name in load_file(tmp_path / "adapter" / WEIGHTS)}
    assert names == {f"base_model.model.encoder.layers.0.{part}" for part in ("qkv", "up")}
    again = load(tmp_path / "tiny")
    again.load_adapter(tmp_path / "adapter")
    assert np.array_equal(again.embed(SEQUENCES), model.embed(SEQUENCES))
    branches = adapted_layers(again.network)["encoder.layers.0.qkv"].branches("default")
    assert [(b.start, b.stop) for b in branches] == [(0, 32), (64, 96)]


def test_roles_that_a_family_lacks_are_named(parity_dir: Path) -> None:
    model = load(parity_dir / "caduceus_1")
    with pytest.raises(ArgumentError, match=r"targets query, output .* which has ffn_in, ffn_out"):
        model.add_adapter(fg.LoRA(targets=("query", "ffn_in", "output")))
    assert not model.adapters.configs
    assert all(p.requires_grad for p in model.network.parameters())


@pytest.mark.parametrize(
    "model",
    [
        convnova.create(convnova.ConvNovaConfig(dim=8)),
        unet.create(unet.UNetConfig(level_dims=(8,))),
    ],
    ids=["convnova", "unet"],
)
def test_networks_without_sites_are_refused(model: Model) -> None:
    for act in (lambda: model.add_adapter(fg.LoRA()), lambda: adapter_sites(model)):
        with pytest.raises(ArgumentError, match="cannot take adapters"):
            act()


def test_networks_of_transformers_are_refused(tmp_path: Path) -> None:
    model = load(write_tiny(tmp_path))
    model.network.encoder = TransformersEncoder.__new__(TransformersEncoder)
    nn.Module.__init__(model.network.encoder)
    with pytest.raises(ArgumentError, match="TransformersEncoder"):
        model.add_adapter(fg.LoRA())


def test_file_of_peft_for_one_way_of_caduceus_is_refused(parity_dir: Path, tmp_path: Path) -> None:
    model = load(parity_dir / "caduceus_2")
    model.add_adapter(fg.LoRA(rank=2, targets=("ffn_in",)))
    model.save_adapter(tmp_path)
    model.load_adapter(tmp_path, name="ours")
    save_file(load_file(tmp_path / WEIGHTS), tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="one way of a Caduceus model"):
        model.load_adapter(tmp_path, name="theirs")
