"""Adapters on a model: attach, take off, choose, merge and unmerge."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fastgenome.adapters.branch import AdapterConfig, Branch
from fastgenome.adapters.linear import AdapterLinear
from fastgenome.adapters.sites import Site, adapter_sites
from fastgenome.errors import ArgumentError

if TYPE_CHECKING:
    from fastgenome.models.model import Model

# Name of a layer in the network -> the branches that it gets.
Branches = dict[str, list[Branch]]


def add_adapter(model: "Model", config: AdapterConfig, *, name: str = "default") -> None:
    """Attach a new adapter, activate it and freeze the network itself.

    Raises ArgumentError for a role that the model does not have, a name that is taken or not a plain word, or
    while an adapter is merged.
    """
    check_new(model, name)
    if isinstance(config, type) or not hasattr(config, "make_branch"):
        raise ArgumentError(f"config must be an adapter's settings such as LoRA(rank=8), got {config!r}")
    generator = torch.Generator().manual_seed(config.seed)
    branches: Branches = {}
    with torch.inference_mode(False):
        for site in _targeted(model, config.targets):
            layer = model.network.get_submodule(site.layer)
            assert isinstance(layer, nn.Linear)
            for rows, roles in site.chosen(config.targets):
                branch = config.make_branch(layer, rows, roles, generator)
                branches.setdefault(site.layer, []).append(branch)
    attach_branches(model, config, branches, name=name)


def _targeted(model: "Model", targets: Sequence[str]) -> list[Site]:
    sites = adapter_sites(model)
    there = {role: None for site in sites for role in site.roles}
    if missing := [role for role in targets if role not in there]:
        raise ArgumentError(
            f"targets {', '.join(missing)} are not in model {model.name!r}, which has {', '.join(there)}"
        )
    return [site for site in sites if set(site.roles) & set(targets)]


def attach_branches(model: "Model", config: AdapterConfig, branches: Branches, *, name: str) -> None:
    """Put branches that are made already under their name; see `add_adapter`."""
    check_new(model, name)
    if not model.adapters.configs:
        model.adapters.frozen = [p for p in model.network.parameters() if p.requires_grad]
        for parameter in model.network.parameters():
            parameter.requires_grad_(False)
    for path, made in branches.items():
        layer = model.network.get_submodule(path)
        if not isinstance(layer, AdapterLinear):
            assert isinstance(layer, nn.Linear)
            if layer._forward_hooks or layer._forward_pre_hooks:
                raise ArgumentError(f"layer {path} has hooks, which would be lost: remove them first")
            layer = AdapterLinear(layer)
            model.network.set_submodule(path, layer)
        layer.add(name, made, dropout=config.dropout)
    model.adapters.configs[name] = config
    set_adapter(model, name)


def remove_adapter(model: "Model", *, name: str = "default") -> None:
    """Take an adapter off; after the last one the network is as it was before the first."""
    check_known(model, name)
    check_not_merged(model, "removing an adapter")
    if model.adapters.active == name:
        set_adapter(model, None)
    del model.adapters.configs[name]
    for path, layer in adapted_layers(model.network).items():
        if name in layer.adapters:
            layer.remove(name)
        if not layer.adapters:
            model.network.set_submodule(path, _plain(layer))
    if not model.adapters.configs:
        for parameter in model.adapters.frozen:
            parameter.requires_grad_(True)
        model.adapters.frozen = []


def set_adapter(model: "Model", name: str | None) -> None:
    """Let one adapter act and learn, or with None the network alone act, without forgetting the others."""
    if name is not None:
        check_known(model, name)
    check_not_merged(model, "another adapter")
    model.adapters.active = name
    for layer in adapted_layers(model.network).values():
        layer.active = name
        for other in layer.adapters:
            layer.adapters[other].requires_grad_(other == name)


def adapter_parameters(model: "Model", *, name: str | None = None) -> list[nn.Parameter]:
    """The parameters of an adapter, by default of the active one; none where none is active."""
    chosen = model.adapters.active if name is None else name
    if chosen is None:
        return []
    check_known(model, chosen)
    layers = adapted_layers(model.network).values()
    return [p for layer in layers for branch in layer.branches(chosen) for p in branch.parameters()]


def merge_adapter(model: "Model") -> None:
    """Write the active adapter into the weights: the same function at the speed of the network alone."""
    if model.adapters.active is None:
        raise ArgumentError(f"model {model.name!r} has no active adapter to merge")
    check_not_merged(model, "merging again")
    for layer in adapted_layers(model.network).values():
        layer.merge()


def unmerge_adapter(model: "Model") -> None:
    """Put back the weights from before `merge_adapter`, bit for bit; the adapter acts beside them again."""
    if not is_merged(model):
        raise ArgumentError(f"no adapter of model {model.name!r} is merged")
    for layer in adapted_layers(model.network).values():
        layer.unmerge()


def adapted_layers(network: nn.Module) -> dict[str, AdapterLinear]:
    """The layers with adapters by their names in the network."""
    return {name: part for name, part in network.named_modules() if isinstance(part, AdapterLinear)}


def is_merged(model: "Model") -> bool:
    """Whether an adapter is merged into the weights."""
    return any(layer.merged for layer in adapted_layers(model.network).values())


def check_not_merged(model: "Model", what: str) -> None:
    """ArgumentError for what cannot be done while an adapter is merged."""
    if is_merged(model):
        raise ArgumentError(
            f"{what}: adapter {model.adapters.active!r} is merged; call unmerge_adapter() first"
        )


def base_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of the network itself, without those of its adapters; merged weights where merged."""
    inside = tuple(f"{name}.adapters." for name in adapted_layers(network))
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(inside)}


def _plain(layer: AdapterLinear) -> nn.Linear:
    plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    plain.weight, plain.bias = layer.weight, layer.bias
    return plain.train(layer.training)


def check_new(model: "Model", name: str) -> None:
    """ArgumentError for a name that is taken or not a plain word, or while an adapter is merged."""
    check_not_merged(model, "a new adapter")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ArgumentError(f"name must be one word of letters, digits, _ and -, got {name!r}")
    if name in model.adapters.configs:
        raise ArgumentError(f"model {model.name!r} already has an adapter named {name!r}; remove it first")


def check_known(model: "Model", name: str) -> None:
    """ArgumentError for the name of no adapter."""
    if name not in model.adapters.configs:
        known = ", ".join(model.adapters.configs) or "none"
        raise ArgumentError(f"model {model.name!r} has no adapter {name!r}; it has: {known}")
