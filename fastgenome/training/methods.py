"""The methods of fine-tuning by name: what of a model each trains, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from fastgenome.adapters import IA3, DoRA, LoRA
from fastgenome.adapters.adalora import AdaLoRA
from fastgenome.adapters.rank_allocation import RankAllocator
from fastgenome.adapters.rank_sampling import ARS
from fastgenome.errors import ArgumentError
from fastgenome.training.probe import Probe

if TYPE_CHECKING:
    from fastgenome.adapters import AdapterConfig
    from fastgenome.adapters.triplet_stacks import Triplets
    from fastgenome.models.model import Model


@dataclass(frozen=True)
class Full:
    """Train every weight of the encoder."""


METHODS: dict[str, type[Any]] = {
    "probe": Probe,
    "lora": LoRA,
    "dora": DoRA,
    "ia3": IA3,
    "adalora": AdaLoRA,
    "ars": ARS,
    "full": Full,
}

# Highest learning rates where Training names none.
LEARNING_RATES = {"lora": 1e-3, "dora": 1e-3, "ia3": 1e-2, "adalora": 1e-3, "ars": 1e-3, "full": 3e-5}


def chosen_method(method: str | Probe | Full | AdapterConfig) -> Probe | Full | AdapterConfig:
    """The config of a method; ArgumentError for anything else than a known name or a config."""
    if isinstance(method, str) and method in METHODS:
        config: Probe | Full | AdapterConfig = METHODS[method]()
        return config
    if isinstance(method, str) or not isinstance(method, tuple(METHODS.values())):
        raise ArgumentError(f"method must be one of {', '.join(METHODS)} or a config; got {method!r}")
    return method


def method_name(method: Probe | Full | AdapterConfig) -> str:
    """The name of a config's method."""
    return next(name for name, kind in METHODS.items() if type(method) is kind)


def method_settings(method: Probe | Full | AdapterConfig) -> dict[str, Any]:
    """The fields of a config."""
    settings: dict[str, Any] = asdict(method)  # type: ignore[arg-type]
    return settings


def check_method(
    model: Model, method: Full | AdapterConfig, *, layers: Sequence[int] | None, total_steps: int
) -> None:
    """ArgumentError where an adapter does not fit the model, the layers that are read, or the steps."""
    if isinstance(method, Full):
        return
    # What attaching refuses, and no trace of it.
    model.add_adapter(method)
    model.remove_adapter()
    last = len(model.encoder.widths) - 1
    highest = max(index % (last + 1) for index in layers or (-1,))
    if highest < last:
        raise ArgumentError(
            f"layer must hold the last one, {last} or -1, to tune an adapter: what adapts the layers above "
            f"{highest} would learn nothing"
        )
    if isinstance(method, AdaLoRA):
        method.schedule(total_steps, matrices=1)


def prepare(model: Model, method: Full | AdapterConfig, *, pooler: bool) -> None:
    """Make trainable what the method trains, with the parts that behave otherwise in training in that mode.

    `pooler`: whether the checkpoint's own pooler takes part.
    """
    network = model.network
    network.requires_grad_(False)
    if isinstance(method, Full):
        trained = [
            model.network.encoder,
            *([network.pooler] if pooler and network.pooler is not None else []),
        ]
        for part in trained:
            part.requires_grad_(True)
            part.train()
        return
    from fastgenome.adapters.attach import adapted_layers

    # A frozen network stays as it predicts; of the adapter, dropout is active.
    network.eval()
    model.add_adapter(method)
    for layer in adapted_layers(network).values():
        layer.train()


def rank_allocator(model: Model, method: Full | AdapterConfig, *, total_steps: int) -> RankAllocator | None:
    """What allocates the ranks of the model's adapter; None for methods whose ranks are fixed.

    A matrix is named by its published module and, where that holds several, its role.
    """
    if not isinstance(method, AdaLoRA):
        return None
    from fastgenome.adapters.attach import adapted_layers
    from fastgenome.adapters.sites import adapter_sites

    layers = adapted_layers(model.network)
    branches = {
        site.module if len(roles) == len(site.roles) else f"{site.module}.{roles[0]}": branch
        for site in adapter_sites(model)
        if site.layer in layers
        for rows, roles in site.chosen(method.targets)
        for branch in layers[site.layer].branches("default")
        if branch.start == rows.start
    }
    return RankAllocator(cast("dict[str, Triplets]", branches), method, total_steps=total_steps)
