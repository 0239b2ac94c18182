"""A small network with triplets beside its layers, and the same under PEFT's AdaLoRA."""

from types import SimpleNamespace

import peft
import torch
from torch import Tensor, nn

# (in, out) of each layer, one after the other: equal and different shapes.
SHAPES = ((10, 10), (10, 10), (10, 7), (7, 10), (10, 10))
RANK = 4


class Triplet(nn.Module):
    """ΔW ∝ up · diag(values ⊙ mask) · down."""

    def __init__(self, inputs: int, outputs: int, rank: int = RANK) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, inputs))
        self.values = nn.Parameter(torch.randn(rank))
        self.up = nn.Parameter(torch.randn(outputs, rank))
        self.register_buffer("mask", torch.ones(rank, dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.down.T * (self.values * self.mask)) @ self.up.T


class Adapted(nn.Module):
    """Frozen linear layers with a triplet set beside each; the loss is a mean of squares."""

    def __init__(self, seed: int = 0, shapes: tuple[tuple[int, int], ...] = SHAPES) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.ModuleList(nn.Linear(*shape) for shape in shapes)
        self.layers.requires_grad_(False)
        self.triplets = nn.ModuleDict({f"layer{i}": Triplet(*shape) for i, shape in enumerate(shapes)})

    def forward(self, x: Tensor) -> Tensor:
        for layer, triplet in zip(self.layers, self.triplets.values(), strict=True):
            x = torch.tanh(layer(x) + triplet(x) / 4)
        return x.square().mean()

    def named(self) -> dict[str, Triplet]:
        """The triplet sets by name."""
        return dict(self.triplets.items())

    def parameters_of_adapter(self) -> list[nn.Parameter]:
        return list(self.triplets.parameters())


class Plain(nn.Module):
    """The same layers without triplets, for PEFT to adapt; returns what has a loss."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(layer.in_features, layer.out_features) for layer in layers)
        self.layers.load_state_dict(layers.state_dict())

    def forward(self, x: Tensor) -> SimpleNamespace:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return SimpleNamespace(loss=x.square().mean())


def under_peft(adapted: Adapted, **settings: float) -> peft.PeftModel:
    """PEFT's AdaLoRA over the same layers, with the same A, λ and B.

    Call its base_model: the outermost module leaves the regulariser out of the loss.
    """
    # Its scale is lora_alpha / (rank + 1e-5); the network above divides by 4.
    config = peft.AdaLoraConfig(
        init_r=RANK, lora_alpha=(RANK + 1e-5) / 4, target_modules=r"layers\.\d+", **settings
    )
    model = peft.get_peft_model(Plain(adapted.layers), config)
    for layer, triplet in zip(peft_layers(model), adapted.triplets.values(), strict=True):
        with torch.no_grad():
            layer.lora_A["default"].copy_(triplet.down)
            layer.lora_E["default"].copy_(triplet.values[:, None])
            layer.lora_B["default"].copy_(triplet.up)
    return model


def peft_layers(model: peft.PeftModel) -> list[nn.Module]:
    """The layers that PEFT adapted, in order."""
    return list(model.base_model.model.layers)


def batch(step: int) -> Tensor:
    """Inputs (8, 10) of a step."""
    return torch.randn(8, 10, generator=torch.Generator().manual_seed(1000 + step))
