"""Settings of the linear probe: a head on frozen embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Probe:
    """Train a light head on frozen embeddings and leave the model as it is.

    Attributes:
        pooling: how token states become one vector, see ``Model.embed``; None is the model's own way.
        layer: a layer or several, see ``Model.embed``; None is the model's own choice.
        head: "linear" (logistic or ridge regression, its penalty chosen on validation data), or any
            scikit-learn estimator, which is cloned and fitted.
        seed: of the folds that choose the penalty where there are no validation data.
    """

    pooling: str | None = None
    layer: int | Sequence[int] | None = None
    head: Any = "linear"
    seed: int = 0
