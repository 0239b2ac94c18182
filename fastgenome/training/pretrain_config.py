"""The settings of a pre-training run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fastgenome.errors import ArgumentError

WEIGHT_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Least values of whole numbers.
_WHOLE = {
    "bases": 1,
    "batch_bases": 1,
    "mask_span": 1,
    "shortest": 16,
    "longest": 16,
    "evaluate_bases": 1,
    "checkpoint_steps": 1,
    "seed": 0,
}
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "learning_rate": (lambda value: 0 < value < math.inf, "above 0"),
    "weight_decay": (lambda value: 0 <= value < math.inf, "of at least 0"),
    "warmup": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "mask_rate": (lambda value: 0 < value < 1, "between 0 and 1"),
    "held_out": (lambda value: 0 <= value <= 0.5, "from 0 to 0.5"),
}


@dataclass(frozen=True)
class PretrainConfig:
    """How to pre-train.

    Attributes:
        bases: to read in total, over all passes.
        batch_bases: of one optimizer step.
        learning_rate, weight_decay, warmup: AdamW; the rate rises over the share ``warmup`` of the
            steps and then falls along a cosine to a fiftieth.
        mask_rate, mask_span: share of the bases that is hidden, in spans of this many bases.
        shortest, longest: bases of a crop; each step draws one length, log-uniformly.
        held_out: share of the blocks (50 kb, or a whole record) that is only evaluated on.
        evaluate_bases: of the held-out crops behind each source's final perplexity, at most all it has.
        checkpoint_steps: between two checkpoints.
        seed: of the weights, the split, the crops and the masks.
        weights_dtype: float32, float16 or bfloat16, of the saved weights; the final perplexity is theirs.
    """

    bases: int = 90_000_000
    batch_bases: int = 16_384
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    mask_rate: float = 0.15
    mask_span: int = 2
    shortest: int = 64
    longest: int = 3072
    held_out: float = 0.05
    evaluate_bases: int = 1_000_000
    checkpoint_steps: int = 500
    seed: int = 0
    weights_dtype: str = "float16"

    def __post_init__(self) -> None:
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value < 2**63:
                raise ArgumentError(f"{name} must be a whole number of at least {least}; got {value!r}")
        for name, (within, expected) in _RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not within(value):
                raise ArgumentError(f"{name} must be a number {expected}; got {value!r}")
        if self.longest < self.shortest:
            raise ArgumentError(f"shortest <= longest is needed; got {self.shortest} and {self.longest}")
        if self.weights_dtype not in WEIGHT_TYPES:
            raise ArgumentError(
                f"weights_dtype must be one of {', '.join(WEIGHT_TYPES)}; got {self.weights_dtype!r}"
            )

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return math.ceil(self.bases / self.batch_bases)
