"""Settings of the linear probe: a head on frozen embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from fastgenome.errors import ArgumentError


@dataclass(frozen=True)
class Probe:
    """Train a light head on frozen embeddings and leave the model as it is.

    Attributes:
        pooling: how token states become one vector, see ``Model.embed``; None is the model's own way.
        layer: a layer or several, see ``Model.embed``; None is the model's own choice.
        head: "linear" (logistic or ridge regression, its penalty chosen on validation data), or any
            scikit-learn estimator, which is cloned and fitted.
        seed: of the folds that choose the penalty where there are no validation data; 0 to 2**32 - 1.

    Raises:
        ArgumentError: head or seed is something else.
    """

    pooling: str | None = None
    layer: int | Sequence[int] | None = None
    head: Any = "linear"
    seed: int = 0

    def __post_init__(self) -> None:
        is_estimator = all(hasattr(self.head, name) for name in ("fit", "predict", "get_params"))
        if self.head != "linear" and (isinstance(self.head, type) or not is_estimator):
            raise ArgumentError(f'head must be "linear" or a scikit-learn estimator; got {self.head!r}')
        if isinstance(self.seed, bool) or not isinstance(self.seed, Integral) or not 0 <= self.seed < 2**32:
            raise ArgumentError(f"seed must be a whole number from 0 to 2**32 - 1; got {self.seed!r}")
        # Of NumPy's numbers JSON knows none.
        object.__setattr__(self, "seed", int(self.seed))
