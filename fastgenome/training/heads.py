"""What turns an embedding into a prediction: a linear head of ours, or any scikit-learn estimator."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from fastgenome.errors import ArgumentError

Outputs = NDArray[np.float64]


class Head(Protocol):
    """Maps inputs (n, f) to outputs: probabilities (n, classes) or (n, labels), or values (n,)."""

    def outputs(self, inputs: NDArray[Any]) -> Outputs: ...


@dataclass(frozen=True)
class LinearHead:
    """A linear model on standardised inputs: logistic regression or ridge regression.

    Attributes:
        kind: the task's kind.
        mean, scale: of the training inputs, (f,).
        weight: (outputs, f); one output for binary and regression.
        bias: (outputs,).

    Raises:
        ArgumentError: the arrays are not finite float64 of these shapes, or a scale is not positive.
    """

    kind: str
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __post_init__(self) -> None:
        n_outputs, n_inputs = len(self.bias), len(self.mean)
        wanted = {
            "mean": (n_inputs,),
            "scale": (n_inputs,),
            "weight": (n_outputs, n_inputs),
            "bias": (n_outputs,),
        }
        for name, array in self.tensors().items():
            if array.shape != wanted[name] or array.dtype != np.float64:
                raise ArgumentError(f"{name} must be float64 {wanted[name]}; got {array.dtype} {array.shape}")
            if not np.isfinite(array).all():
                raise ArgumentError(f"{name} holds NaN or infinity")
        if not (self.scale > 0).all():
            raise ArgumentError("scale must be positive")
        if self.kind in ("binary", "regression") and n_outputs != 1:
            raise ArgumentError(f"a {self.kind} head has one output; got {n_outputs}")

    def outputs(self, inputs: NDArray[Any]) -> Outputs:
        """Inputs (n, f) to probabilities (n, classes) or (n, labels), or values (n,)."""
        if inputs.ndim != 2 or inputs.shape[1] != len(self.mean):
            raise ArgumentError(f"inputs must have shape (n, {len(self.mean)}); got {inputs.shape}")
        return self.of_scores((inputs - self.mean) / self.scale @ self.weight.T + self.bias)

    def of_scores(self, scores: NDArray[np.float64]) -> Outputs:
        """Linear scores (n, outputs) to what `outputs` gives for them."""
        if self.kind == "regression":
            return np.asarray(scores[:, 0])
        if self.kind == "multiclass":
            return np.asarray(softmax(scores, axis=1))
        probability = np.asarray(expit(scores))
        return np.hstack([1.0 - probability, probability]) if self.kind == "binary" else probability

    def unstandardised(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weight (outputs, f) and bias (outputs,) that give the same scores from inputs as they are."""
        weight = self.weight / self.scale
        return weight, self.bias - weight @ self.mean

    def tensors(self) -> dict[str, NDArray[np.float64]]:
        """Arrays to store, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "kind"}


class EstimatorHead:
    """A fitted scikit-learn estimator behind the same face."""

    def __init__(self, kind: str, estimator: Any) -> None:
        self.kind = kind
        self.estimator = estimator

    def outputs(self, inputs: NDArray[Any]) -> Outputs:
        """Inputs (n, f) to probabilities (n, classes) or (n, labels), or values (n,)."""
        if self.kind == "regression":
            return np.asarray(self.estimator.predict(inputs), dtype=np.float64).reshape(len(inputs))
        probability = self.estimator.predict_proba(inputs)
        if isinstance(probability, list):
            probability = np.column_stack([column[:, 1] for column in probability])
        return np.asarray(probability, dtype=np.float64)
