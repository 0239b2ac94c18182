"""Adaptive rank sampling (ARS): AdaLoRA whose pruning is random, so that pruned triplets come back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastgenome.adapters.adalora import AdaLoRA
from fastgenome.adapters.number_fields import Range, store_real
from fastgenome.errors import ArgumentError

# The chance p of Eq. 4: the paper's for yeast, the published code's, and none.
MODES = {"eq4": 0.05, "lingo": 0.1, "adalora": 0.0}
_PROBABILITY: Range = (lambda value: 0 <= value <= 1, "from 0 to 1, or None")


@dataclass(frozen=True)
class ARS(AdaLoRA):
    """Adaptive rank sampling of Lingo, with the paper's settings for histone marks of yeast.

    Every ``allocation_interval`` steps each triplet of the top b_t is kept with probability 1 − p and each
    other one with probability p (Eq. 4); the final phase has the top b_T and draws nothing.
    The score of a pruned triplet fades, since it gets no gradient: it comes back by that draw alone, and
    stays if one interval in the network brings its score into the top.

    Attributes:
        mode: "eq4", the paper: a pruned λ is kept aside and comes back as it was (its rows of A and B get no
            gradient, but momentum and weight decay go on, as in Algorithm 1). "adalora": pruned
            values are set to 0, nothing is drawn. "lingo", the published code: values below the top are
            set to 0 before the draw, which then only sets values of the top to 0 and changes the reported
            pattern; scores are updated every 50 steps.
        resample_probability: p; None is .05 in mode "eq4" and .1, as published, in mode "lingo".
    """

    target_rank: int = 6
    targets: tuple[str, ...] = ("query", "key", "value", "ffn_in", "ffn_out")
    orthogonality: float = 0.0
    mode: str = "eq4"
    resample_probability: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in MODES:
            raise ArgumentError(f"mode must be one of {', '.join(MODES)}; got {self.mode!r}")
        if self.resample_probability is not None:
            store_real(self, "resample_probability", _PROBABILITY)
        if self.mode == "adalora" and self.resample_probability:
            p = self.resample_probability
            raise ArgumentError(f"mode 'adalora' draws nothing: leave resample_probability out; got {p}")

    @property
    def probability(self) -> float:
        """p, with the mode's default."""
        return MODES[self.mode] if self.resample_probability is None else self.resample_probability


def resampled(top: Tensor, *, probability: float, generator: torch.Generator) -> Tensor:
    """The triplets that Eq. 4 keeps: of the top those with R = 0, of the others those with R = 1.

    Args:
        top: (triplets,) bool, on any device.
        probability: p of R ~ Bernoulli(p).
        generator: of the CPU, so that the same seed draws the same on every rank and device.

    Returns:
        (triplets,) bool, on the device of ``top``.
    """
    drawn = torch.rand(len(top), generator=generator) < probability
    return top ^ drawn.to(top.device, non_blocking=True)
