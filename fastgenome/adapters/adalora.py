"""AdaLoRA: low-rank adapters whose ranks are allocated while they are trained, and the budget's schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import Generator, nn

from fastgenome.adapters.branch import ROLES, Branch
from fastgenome.adapters.lora import DROPOUT, checked_targets
from fastgenome.adapters.number_fields import (
    NOT_NEGATIVE,
    POSITIVE,
    Range,
    is_whole,
    store_real,
    store_whole,
)
from fastgenome.errors import ArgumentError

_RANGES: dict[str, Range] = {
    "alpha": POSITIVE,
    "dropout": DROPOUT,
    "beta1": (lambda value: 0 < value < 1, "between 0 and 1"),
    "beta2": (lambda value: 0 < value < 1, "between 0 and 1"),
    "orthogonality": NOT_NEGATIVE,
}


@dataclass(frozen=True)
class BudgetSchedule:
    """How many triplets of all matrices together are kept after each optimizer step (AdaLoRA, section 3.3).

    Attributes:
        initial, target: triplets before and after, over all matrices.
        warmup: steps without allocation.
        end: the step of the last allocation; the final phase follows.
        interval: steps between two allocations.
    """

    initial: int
    target: int
    warmup: int
    end: int
    interval: int

    def budget(self, step: int) -> int:
        """b_T + (b_0 − b_T)(1 − (t − t_i)/(T − t_i − t_f))³ of step t, rounded down."""
        if step <= self.warmup:
            return self.initial
        left, span = max(self.end - step, 0), self.end - self.warmup
        # In whole numbers: floating point may fall just short of one that the curve meets exactly.
        return self.target + (self.initial - self.target) * left**3 // span**3

    def allocates(self, step: int) -> bool:
        """Whether ranks are allocated after this step; steps count from 1."""
        return step == self.end or (self.warmup < step < self.end and step % self.interval == 0)


@dataclass(frozen=True)
class AdaLoRA:
    """AdaLoRA: ΔW = s · B diag(λ) A, whose least important triplets (A's row, λ, B's column) are pruned.

    Spans of steps are whole numbers of optimizer steps, or, as floats below 1, shares of all steps.
    The names of these settings in PEFT stand in brackets.

    Attributes:
        initial_rank, target_rank: of a matrix, on average, before and after [init_r, target_r].
        alpha, dropout: s = alpha / (initial_rank + 1e-5); dropout of the low-rank part's input.
        targets: roles of the adapted matrices.
        allocation_warmup: steps before the first pruning [tinit].
        allocation_final: steps after the last one [tfinal].
        allocation_interval: steps between two [deltaT].
        beta1, beta2: of the averages of sensitivity and uncertainty.
        orthogonality: weight of the regulariser of A and B [orth_reg_weight]; 0 is none.
        seed: of the initial numbers, and of what ARS draws.
    """

    initial_rank: int = 12
    target_rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ROLES
    allocation_warmup: int | float = 0.1
    allocation_final: int | float = 0.25
    allocation_interval: int | float = 0.01
    beta1: float = 0.85
    beta2: float = 0.85
    orthogonality: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("initial_rank", 1), ("target_rank", 1), ("seed", 0)):
            store_whole(self, name, least=least)
        if self.target_rank > self.initial_rank:
            raise ArgumentError(
                f"target_rank must be at most initial_rank, {self.initial_rank}; got {self.target_rank}"
            )
        object.__setattr__(self, "targets", checked_targets(self.targets))
        for name, expected in _RANGES.items():
            store_real(self, name, expected)
        for name, least in (("allocation_warmup", 0), ("allocation_final", 0), ("allocation_interval", 1)):
            object.__setattr__(self, name, _checked_span(name, getattr(self, name), least))

    @property
    def scale(self) -> float:
        """s; PEFT adds 1e-5 to the rank, which stays the initial one however many triplets are left."""
        return self.alpha / (self.initial_rank + 1e-5)

    def make_branch(
        self, layer: nn.Linear, rows: range, roles: Sequence[str], generator: Generator
    ) -> Branch:
        """λ = 0, A and B ~ N(0, 0.02²), on the device of the layer."""
        down = torch.empty(self.initial_rank, layer.in_features).normal_(0, 0.02, generator=generator)
        up = torch.empty(len(rows), self.initial_rank).normal_(0, 0.02, generator=generator)
        values = torch.zeros(self.initial_rank)
        device = layer.weight.device
        return Branch(
            rows, scale=self.scale, down=down.to(device), up=up.to(device), values=values.to(device)
        )

    def peft_fields(self) -> dict[str, Any]:
        """The method's own fields of adapter_config.json, except rank_pattern.

        The schedule is that of a run of one step: the rank of a saved adapter changes no more.
        """
        return {
            "peft_type": "ADALORA",
            "init_r": self.initial_rank,
            "target_r": self.target_rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "orth_reg_weight": self.orthogonality,
            "tinit": 0,
            "tfinal": 0,
            "deltaT": 1,
            "total_step": 1,
        }

    def schedule(self, total_steps: int, *, matrices: int, triplets: int | None = None) -> BudgetSchedule:
        """The budget's schedule over a run.

        Args:
            total_steps: optimizer steps of the run.
            matrices: number of adapted matrices.
            triplets: that they have in total, by default ``matrices * initial_rank``.

        Raises:
            ArgumentError: warm-up and final phase leave no step between them.
        """
        if not is_whole(total_steps) or total_steps < 1:
            raise ArgumentError(f"total_steps must be a whole number of at least 1; got {total_steps!r}")
        total_steps = int(total_steps)
        warmup, final = (_steps(n, total_steps) for n in (self.allocation_warmup, self.allocation_final))
        if warmup >= total_steps - final:
            raise ArgumentError(
                f"allocation_warmup ({warmup} steps) and allocation_final ({final} steps) leave none of the "
                f"{total_steps} steps to allocate ranks in; lower them or train longer"
            )
        return BudgetSchedule(
            initial=matrices * self.initial_rank if triplets is None else triplets,
            target=matrices * self.target_rank,
            warmup=warmup,
            end=total_steps - final,
            interval=max(1, _steps(self.allocation_interval, total_steps)),
        )


def _checked_span(name: str, value: Any, least: int) -> int | float:
    """Steps as an int or a share as a float; ArgumentError for neither."""
    if is_whole(value) and least <= int(value) < 2**63:
        return int(value)
    if isinstance(value, Real) and not isinstance(value, Integral) and 0 <= float(value) < 1:
        # A share of 0 is stored as 0 steps: both are one setting.
        return float(value) if value or least else 0
    raise ArgumentError(
        f"{name} must be steps, a whole number of at least {least}, or a share of all steps, "
        f"a float from 0 to below 1; got {value!r}"
    )


def _steps(span: int | float, total_steps: int) -> int:
    """Steps of a span that is given in steps or as a share of all."""
    return int(span * total_steps) if isinstance(span, float) else span
