"""The methods of fine-tuning by name: what of a model each trains, and how fast."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fastgenome.adapters import IA3, DoRA, LoRA
from fastgenome.errors import ArgumentError
from fastgenome.training.probe import Probe

if TYPE_CHECKING:
    from fastgenome.adapters import AdapterConfig
    from fastgenome.models.model import Model


@dataclass(frozen=True)
class Full:
    """Train every weight of the encoder."""


METHODS: dict[str, type[Any]] = {
    "probe": Probe,
    "lora": LoRA,
    "dora": DoRA,
    "ia3": IA3,
    "full": Full,
}

# Highest learning rates where Training names none.
LEARNING_RATES = {"lora": 1e-3, "dora": 1e-3, "ia3": 1e-2, "full": 3e-5}


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
