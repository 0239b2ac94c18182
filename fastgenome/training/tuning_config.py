"""How the weights of a model are tuned: the settings that all tuned methods share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

import numpy as np

from fastgenome.adapters.number_fields import NOT_NEGATIVE, POSITIVE, Range, store_real, store_whole
from fastgenome.errors import ArgumentError

Precision = Literal["auto", "float32", "bfloat16"]
HeadInit = Literal["probe", "zero"]
Criterion = Literal[
    "loss", "mcc", "accuracy", "f1", "auc", "pr_auc", "brier", "r2", "pearson", "spearman", "rmse"
]

_CHOICES = {"dtype": Precision, "head_init": HeadInit}

# Least values of whole numbers; those of the second may be None.
_WHOLE = {"epochs": 1, "batch_size": 1, "batch_tokens": 1, "keep": 1, "seed": 0}
_WHOLE_OR_NONE = {"patience": 1, "evaluate_every": 1, "checkpoint_every": 1}
_RANGES: dict[str, Range] = {
    "learning_rate": POSITIVE,
    "warmup": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "weight_decay": NOT_NEGATIVE,
    "clip": (lambda value: value > 0, "above 0 (inf: no clipping)"),
    "held_out": (lambda value: 0 < value <= 0.5, "above 0, to 0.5"),
}


@dataclass(frozen=True)
class Training:
    """How a model is tuned, whatever the method.

    Attributes:
        epochs: passes over the training data.
        learning_rate: highest of AdamW; None is the method's own, see ``LEARNING_RATES``. It rises over the
            share ``warmup`` of the steps and then falls linearly to 0.
        batch_size: sequences of one optimizer step.
        batch_tokens: most rows of one pass through the network; as many passes as a batch needs add up to
            its gradient, exactly without dropout.
        weight_decay: of matrices; vectors (biases, gains, singular values) have none.
        clip: highest norm of the gradient.
        dtype: "auto" is float32 on a CPU and, on a GPU that computes it, bfloat16 for the frozen products;
            what is trained is float32 always.
        gradient_checkpointing: keep only the layers' inputs for the backward pass.
        class_weights: "balanced", one weight for each class, or of a multi-label task for each label's 1.
        head_init: "probe" begins with the linear probe of the frozen embedding (linear probing, then
            fine-tuning: Kumar et al. 2022), "zero" with a head of zeros.
        criterion: figure of the validation data that chooses the best weights; None is mcc, or r2 of a
            regression.
        held_out: share of the training data that is held out for this where there are no validation data.
        patience: evaluations without a better figure after which training ends; None: never.
        evaluate_every, checkpoint_every: optimizer steps; None is once an epoch.
        keep: checkpoints that are kept, the newest.
        pooling, layer: see ``Model.embed``; None is the model's own way.
        seed: of everything random but an adapter's first numbers, which its own seed gives.
    """

    epochs: int = 3
    learning_rate: float | None = None
    batch_size: int = 32
    batch_tokens: int = 16_384
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    dtype: Precision = "auto"
    gradient_checkpointing: bool = False
    class_weights: Literal["balanced"] | tuple[float, ...] | None = None
    head_init: HeadInit = "probe"
    criterion: Criterion | None = None
    held_out: float = 0.1
    patience: int | None = None
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    keep: int = 2
    pooling: str | None = None
    layer: int | Sequence[int] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (_WHOLE | _WHOLE_OR_NONE).items():
            if getattr(self, name) is not None or name in _WHOLE:
                store_whole(self, name, least=least, bits=32)
        for name, expected in _RANGES.items():
            if getattr(self, name) is not None or name != "learning_rate":
                store_real(self, name, expected)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise ArgumentError(
                    f"{name} must be one of {', '.join(get_args(choices))}; got {getattr(self, name)!r}"
                )
        if self.criterion is not None and self.criterion not in get_args(Criterion):
            raise ArgumentError(
                f"criterion must be one of {', '.join(get_args(Criterion))}; got {self.criterion!r}"
            )
        if not isinstance(self.gradient_checkpointing, bool):
            raise ArgumentError(f"gradient_checkpointing must be a bool; got {self.gradient_checkpointing!r}")
        self._check_class_weights()

    def _check_class_weights(self) -> None:
        weights = self.class_weights
        if isinstance(weights, np.ndarray):
            weights = weights.tolist()
        if weights is None or weights == "balanced":
            return
        numbers = isinstance(weights, Sequence) and not isinstance(weights, str)
        if not numbers or not all(isinstance(w, Real) and 0 < float(w) < math.inf for w in weights):
            raise ArgumentError(
                f'class_weights must be None, "balanced" or a sequence of positive numbers; got {weights!r}'
            )
        object.__setattr__(self, "class_weights", tuple(map(float, weights)))
