"""LoRA (Hu et al. 2021): a product of low rank is learned beside a frozen weight."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from fastgenome.adapters.branch import ROLES, Branch
from fastgenome.errors import ArgumentError


@dataclass(frozen=True)
class LoRA:
    """y = x Wᵀ + s · drop(x) Aᵀ Bᵀ + b with s = alpha / rank, or alpha / √rank with `use_rslora`.

    `targets` are roles of "query", "key", "value", "output", "ffn_in" and "ffn_out"; `dropout` is the share
    of x that is dropped in training. A starts as in PEFT, from `seed`, and B as zeros.
    """

    rank: int = 8
    alpha: float = 16
    targets: tuple[str, ...] = ("query", "value")
    dropout: float = 0.0
    use_rslora: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_low_rank(self.rank, self.alpha, self.dropout)
        check_seed(self.seed)
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
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "use_rslora": self.use_rslora,
            "use_dora": False,
            "init_lora_weights": True,
        }


def check_low_rank(rank: int, alpha: float, dropout: float) -> None:
    """ArgumentError for values that no method of low rank accepts."""
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise ArgumentError(f"rank must be a whole number of at least 1, got {rank!r}")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < math.inf:
        raise ArgumentError(f"alpha must be a number above 0, got {alpha!r}")
    if not isinstance(dropout, int | float) or isinstance(dropout, bool) or not 0 <= dropout < 1:
        raise ArgumentError(f"dropout must be a share from 0 to below 1, got {dropout!r}")


def check_seed(seed: int) -> None:
    """ArgumentError unless it is a whole number from 0 to 2**63 - 1."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise ArgumentError(f"seed must be a whole number from 0 to 2**63 - 1, got {seed!r}")


def checked_targets(targets: Sequence[str]) -> tuple[str, ...]:
    """The roles as a tuple; ArgumentError unless they are known ones, each once."""
    known = ", ".join(ROLES)
    if isinstance(targets, str) or not all(isinstance(role, str) for role in targets):
        raise ArgumentError(f"targets must be a tuple of roles ({known}), got {targets!r}")
    if not targets or len(set(targets)) < len(targets) or not set(targets) <= set(ROLES):
        raise ArgumentError(f"targets must be one or more of {known}, each once, got {tuple(targets)}")
    return tuple(targets)
