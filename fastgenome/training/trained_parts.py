"""The parts of a predictor that tuning trains, and their parameters and masks by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from fastgenome.errors import ArgumentError
from fastgenome.models.model import Network
from fastgenome.training.tuning_loss import TunedHead

T = TypeVar("T")


class TrainedParts(nn.Module):
    """A model's network and the head on it; its forward is whatever is computed with their weights.

    So what DDP and FSDP do around the forward pass of a module happens around that.
    """

    def __init__(self, network: Network, head: TunedHead) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, compute: Callable[[], T]) -> T:
        """What `compute` gives."""
        return compute()


def trained_parameters(parts: TrainedParts) -> dict[str, nn.Parameter]:
    """The parameters that require a gradient, by name."""
    of_model = {f"model.{name}": p for name, p in parts.network.named_parameters() if p.requires_grad}
    return of_model | {f"head.{name}": p for name, p in parts.head.named_parameters()}


def masks_of(network: nn.Module) -> dict[str, Tensor]:
    """The masks of singular values in a network's adapters, by name."""
    return {f"model.{name}": b for name, b in network.named_buffers() if name.endswith(".mask")}


@contextmanager
def recomputed_layers(network: nn.Module, *, wanted: bool) -> Iterator[None]:
    """For a while keep only the inputs of the encoder's layers, and compute them again in the backward pass.

    Raises:
        ArgumentError: the network has no such layers.
    """
    layers = getattr(network.encoder, "layers", None)
    if wanted and not isinstance(layers, nn.ModuleList):
        raise ArgumentError(
            "gradient_checkpointing: this model's network is no stack of layers; leave it off"
        )
    chosen = list(layers) if wanted and layers is not None else []
    try:
        for layer in chosen:
            layer.forward = partial(recomputed, layer.forward, use_reentrant=False)
        yield
    finally:
        for layer in chosen:
            # Its class's own again.
            layer.__dict__.pop("forward", None)
