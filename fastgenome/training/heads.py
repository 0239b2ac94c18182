"""What turns an embedding into a prediction: a linear head of ours, or any scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from fastgenome.errors import ArgumentError
from fastgenome.training.metrics import evaluate
from fastgenome.training.targets import Task

Matrix = NDArray[np.float64]

# Inverse strength of the L2 penalty on standardised inputs, from strong to weak.
PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


class Head(Protocol):
    """Maps inputs (n, f) to outputs: probabilities (n, classes) or (n, labels), or values (n,)."""

    def outputs(self, inputs: NDArray[Any]) -> Matrix: ...


@dataclass(frozen=True)
class LinearHead:
    """A linear model on standardised inputs: logistic regression or ridge regression.

    Attributes:
        kind: the task's kind.
        mean, scale: of the training inputs, (f,).
        weight: (outputs, f); one output for binary and regression.
        bias: (outputs,).
    """

    kind: str
    mean: Matrix
    scale: Matrix
    weight: Matrix
    bias: Matrix

    def outputs(self, inputs: NDArray[Any]) -> Matrix:
        """Inputs (n, f) to probabilities (n, classes) or (n, labels), or values (n,)."""
        if inputs.ndim != 2 or inputs.shape[1] != len(self.mean):
            raise ArgumentError(f"inputs must have shape (n, {len(self.mean)}); got {inputs.shape}")
        score = (inputs - self.mean) / self.scale @ self.weight.T + self.bias
        if self.kind == "regression":
            return score[:, 0]
        if self.kind == "multiclass":
            return np.asarray(softmax(score, axis=1))
        probability = np.asarray(expit(score))
        return np.hstack([1.0 - probability, probability]) if self.kind == "binary" else probability

    def tensors(self) -> dict[str, Matrix]:
        """Arrays to store, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "kind"}


class EstimatorHead:
    """A fitted scikit-learn estimator behind the same face."""

    def __init__(self, kind: str, estimator: Any) -> None:
        self.kind = kind
        self.estimator = estimator

    def outputs(self, inputs: NDArray[Any]) -> Matrix:
        """Inputs (n, f) to probabilities (n, classes) or (n, labels), or values (n,)."""
        if self.kind == "regression":
            return np.asarray(self.estimator.predict(inputs), dtype=np.float64).reshape(len(inputs))
        probability = self.estimator.predict_proba(inputs)
        if isinstance(probability, list):
            probability = np.column_stack([column[:, 1] for column in probability])
        return np.asarray(probability, dtype=np.float64)


def fit_estimator_head(task: Task, inputs: Matrix, targets: NDArray[Any], estimator: Any) -> EstimatorHead:
    """Fit a clone of a scikit-learn estimator.

    Raises:
        ArgumentError: a classification needs an estimator with ``predict_proba``.
    """
    from sklearn.base import clone

    if task.kind != "regression" and not hasattr(estimator, "predict_proba"):
        raise ArgumentError(
            f"head={type(estimator).__name__} has no predict_proba; "
            "use a probabilistic classifier or wrap it in CalibratedClassifierCV"
        )
    return EstimatorHead(task.kind, clone(estimator).fit(inputs, targets))


def fit_linear_head(
    task: Task,
    inputs: Matrix,
    targets: NDArray[Any],
    *,
    validation: tuple[Matrix, NDArray[Any]] | None = None,
    seed: int = 0,
    folds: int = 3,
) -> tuple[LinearHead, dict[str, float]]:
    """Fit a linear head; its penalty is chosen on the validation data, else by cross-validation.

    Args:
        task: what to learn.
        inputs: (n, f).
        targets: encoded labels, see ``Task.encode``.
        validation: inputs and targets to choose the penalty on.
        seed: of the folds.
        folds: of the cross-validation, fewer where a class has fewer members.

    Returns:
        The head, and the chosen penalty per output as ``{"C": …}``.
    """
    mean = inputs.mean(axis=0)
    scale = inputs.std(axis=0)
    scale[scale < 1e-8 * max(1.0, float(np.abs(mean).max(initial=0.0)))] = 1.0
    x = (inputs - mean) / scale
    held = None if validation is None else ((validation[0] - mean) / scale, validation[1])
    if task.kind == "multilabel":
        label = Task("binary", (0, 1))
        parts = [
            _fit_one(label, x, targets[:, i], None if held is None else (held[0], held[1][:, i]), seed, folds)
            for i in range(targets.shape[1])
        ]
    else:
        parts = [_fit_one(task, x, targets, held, seed, folds)]
    weight = np.concatenate([part[0] for part in parts])
    bias = np.concatenate([part[1] for part in parts])
    penalties = {f"C.{i}" if len(parts) > 1 else "C": part[2] for i, part in enumerate(parts)}
    return LinearHead(task.kind, mean, scale, weight, bias), penalties


def _fit_one(
    task: Task,
    x: Matrix,
    targets: NDArray[Any],
    validation: tuple[Matrix, NDArray[Any]] | None,
    seed: int,
    folds: int,
) -> tuple[Matrix, Matrix, float]:
    """Weight, bias and penalty of one target."""
    losses = np.zeros(len(PENALTIES))
    # Where nothing can be held out, the middle of the range stands.
    losses[len(PENALTIES) // 2] = -1e-12
    for train_x, train_y, held_x, held_y in _splits(task, x, targets, validation, seed, folds):
        estimator = _estimator(task)
        for i, penalty in enumerate(PENALTIES):
            _set_penalty(estimator, penalty)
            estimator.fit(train_x, train_y)
            losses[i] += _loss(task, estimator, held_x, held_y)
    chosen = PENALTIES[int(losses.argmin())]
    estimator = _estimator(task)
    _set_penalty(estimator, chosen)
    estimator.fit(x, targets)
    weight = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    bias = np.atleast_1d(np.asarray(estimator.intercept_, dtype=np.float64))
    return weight, bias, chosen


def _splits(
    task: Task,
    x: Matrix,
    targets: NDArray[Any],
    validation: tuple[Matrix, NDArray[Any]] | None,
    seed: int,
    folds: int,
) -> Iterator[tuple[Matrix, NDArray[Any], Matrix, NDArray[Any]]]:
    from sklearn.model_selection import KFold, StratifiedKFold

    if validation is not None:
        yield x, targets, *validation
        return
    rarest = len(targets) if task.kind == "regression" else int(np.bincount(targets).min())
    if min(folds, rarest) < 2:
        return
    splitter = KFold if task.kind == "regression" else StratifiedKFold
    for train, held in splitter(min(folds, rarest), shuffle=True, random_state=seed).split(x, targets):
        yield x[train], targets[train], x[held], targets[held]


def _estimator(task: Task) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    if task.kind == "regression":
        return Ridge()
    return LogisticRegression(max_iter=1000, tol=1e-4, warm_start=True)


def _set_penalty(estimator: Any, penalty: float) -> None:
    """C of a logistic regression is an inverse penalty, alpha of a ridge regression a penalty."""
    estimator.set_params(**({"C": penalty} if hasattr(estimator, "C") else {"alpha": 1.0 / penalty}))


def _loss(task: Task, estimator: Any, x: Matrix, targets: NDArray[Any]) -> float:
    from sklearn.metrics import log_loss, mean_squared_error

    if task.kind == "regression":
        return float(mean_squared_error(targets, estimator.predict(x)))
    return float(log_loss(targets, estimator.predict_proba(x), labels=estimator.classes_))


def score_head(task: Task, head: Head, inputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
    """Figures of merit of a head on inputs (n, f), see ``fastgenome.training.metrics.evaluate``."""
    return evaluate(task, targets, head.outputs(inputs))
