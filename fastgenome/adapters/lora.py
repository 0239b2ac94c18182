"""LoRA (Hu et al. 2021): a product of low rank is learned beside a frozen weight."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from fastgenome.adapters.branch import ROLES, Branch
from fastgenome.adapters.number_fields import POSITIVE, Range, store_real, store_whole
from fastgenome.errors import ArgumentError

DROPOUT: Range = (lambda value: 0 <= value < 1, "from 0 to below 1")


@dataclass(frozen=True)
class LoRA:
    """y = x Wᵀ + s · drop(x) Aᵀ Bᵀ + b with s = alpha / rank, or alpha / √rank with `use_rslora`.

    `targets` are roles of "query", "key", "value", "output", "ffn_in" and "ffn_out"; `dropout` is the share
    of x that is dropped in training. A starts as in PEFT, from `seed`, and B as zeros.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("query", "value")
    dropout: float = 0.0
    use_rslora: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        store_whole(self, "rank", least=1)
        store_real(self, "alpha", POSITIVE)
        store_real(self, "dropout", DROPOUT)
        store_whole(self, "seed")
        if not isinstance(self.use_rslora, bool):
            raise ArgumentError(f"use_rslora must be a bool, got {self.use_rslora!r}")
        object.__setattr__(self, "targets", checked_targets(self.targets))

    @property
    def scale(self) -> float:
        """s, by which the product is multiplied."""
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)

    def make_branch(
        self, layer: nn.Linear, rows: range, roles: Sequence[str], generator: Generator
    ) -> Branch:
        """A ~ uniform within 1 / √in (Kaiming with a = √5) and B = 0, on the device of the layer."""
        down, up = self.initial_factors(layer, rows, generator)
        return Branch(rows, scale=self.scale, down=down, up=up)

    def initial_factors(self, layer: nn.Linear, rows: range, generator: Generator) -> tuple[Tensor, Tensor]:
        """A (rank, in) and B (rows, rank)."""
        down = torch.empty(self.rank, layer.in_features)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
        device = layer.weight.device
        return down.to(device), torch.zeros(len(rows), self.rank, device=device)

    def peft_fields(self) -> dict[str, Any]:
        """The method's own fields of adapter_config.json."""
        return {
            "peft_type": "LORA",
            "r": self.rank,
            # PEFT writes whole numbers as integers.
            "lora_alpha": int(self.alpha) if self.alpha.is_integer() else self.alpha,
            "lora_dropout": self.dropout,
            "use_rslora": self.use_rslora,
            "use_dora": False,
            "init_lora_weights": True,
        }


def checked_targets(targets: Sequence[str]) -> tuple[str, ...]:
    """The roles as a tuple; ArgumentError unless they are known ones, each once."""
    known = ", ".join(ROLES)
    if isinstance(targets, str) or not all(isinstance(role, str) for role in targets):
        raise ArgumentError(f"targets must be a tuple of roles ({known}), got {targets!r}")
    if not targets or len(set(targets)) < len(targets) or not set(targets) <= set(ROLES):
        raise ArgumentError(f"targets must be one or more of {known}, each once, got {tuple(targets)}")
    return tuple(targets)
