"""IA3 (Liu et al. 2022): keys, values and the feed-forward's hidden units are scaled by learned factors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, nn

from fastgenome.adapters.branch import Branch
from fastgenome.adapters.lora import checked_targets


@dataclass(frozen=True)
class IA3:
    """y = l ⊙ (x Wᵀ + b); at "ffn_out" y = (l ⊙ x) Wᵀ + b, since x are the feed-forward's hidden units.

    `targets` are roles, see LoRA. l starts as ones.
    """

    targets: tuple[str, ...] = ("key", "value", "ffn_out")

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", checked_targets(self.targets))

    @property
    def dropout(self) -> float:
        """0: the method has none."""
        return 0.0

    @property
    def seed(self) -> int:
        """0: nothing is drawn."""
        return 0

    def make_branch(
        self, layer: nn.Linear, rows: range, roles: Sequence[str], generator: Generator
    ) -> Branch:
        """l = 1, on the device of the layer."""
        device = layer.weight.device
        if "ffn_out" in roles:
            return Branch(rows, input_gain=torch.ones(layer.in_features, device=device))
        return Branch(rows, gain=torch.ones(len(rows), device=device))

    def peft_fields(self) -> dict[str, Any]:
        """The method's own fields of adapter_config.json."""
        return {"peft_type": "IA3"}
