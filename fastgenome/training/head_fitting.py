"""Fitting of heads: the linear head with its penalty, or a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fastgenome.errors import ArgumentError
from fastgenome.training.heads import EstimatorHead, LinearHead
from fastgenome.training.targets import Task

Matrix = NDArray[np.floating[Any]]

# Training inputs and targets, held-out inputs and targets.
_Split = tuple[Matrix, NDArray[Any], Matrix, NDArray[Any]]

# Inverse strength of the L2 penalty on standardised inputs, from strong to weak.
PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)


def check_estimator(task: Task, estimator: Any) -> None:
    """Check that a scikit-learn estimator is of the task's kind.

    Raises:
        ArgumentError: a regression needs a regressor, a classification an estimator with ``predict_proba``.
    """
    from sklearn.base import is_classifier

    name = type(estimator).__name__
    if task.kind == "regression" and is_classifier(estimator):
        raise ArgumentError(f"head={name} is a classifier, but the task is a regression; use a regressor")
    if task.kind != "regression" and not hasattr(estimator, "predict_proba"):
        raise ArgumentError(
            f"head={name} has no predict_proba, which a {task.kind} task needs; "
            "use a probabilistic classifier or wrap it in CalibratedClassifierCV"
        )


def fit_estimator_head(task: Task, inputs: Matrix, targets: NDArray[Any], estimator: Any) -> EstimatorHead:
    """Fit a clone of a scikit-learn estimator.

    Raises:
        ArgumentError: see ``check_estimator``, or the estimator refuses the data.
    """
    from sklearn.base import clone

    check_estimator(task, estimator)
    try:
        return EstimatorHead(task.kind, clone(estimator).fit(inputs, targets))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"head={type(estimator).__name__} cannot be fitted to {task.kind} targets: {error}"
        ) from error


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
    inputs = inputs.astype(np.float64, copy=False)
    mean, scale = mean_and_scale(inputs)
    # Single precision halves the time of the iterative fits; ridge regression is solved in closed form.
    precision = np.float64 if task.kind == "regression" else np.float32
    x = ((inputs - mean) / scale).astype(precision)
    held = None
    if validation is not None:
        held = ((validation[0] - mean) / scale).astype(precision), validation[1]
    # The solvers' products are so small that BLAS threads would mostly wait for one another.
    with threadpool_limits(1, user_api="blas"):
        if task.kind == "multilabel":
            label = Task("binary", (0, 1))
            parts = [
                _fit_one(
                    label, x, targets[:, i], None if held is None else (held[0], held[1][:, i]), seed, folds
                )
                for i in range(targets.shape[1])
            ]
        else:
            parts = [_fit_one(task, x, targets, held, seed, folds)]
    weight = np.concatenate([part[0] for part in parts])
    bias = np.concatenate([part[1] for part in parts])
    penalties = {f"C.{i}" if len(parts) > 1 else "C": part[2] for i, part in enumerate(parts)}
    return LinearHead(task.kind, mean, scale, weight, bias), penalties


def mean_and_scale(inputs: Matrix) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and standard deviation of each column of inputs (n, f), 1 where a column is constant."""
    inputs = inputs.astype(np.float64, copy=False)
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
    scale[scale < 1e-8 * np.maximum(1.0, np.abs(mean))] = 1.0
    return mean, scale


def _fit_one(
    task: Task,
    x: Matrix,
    targets: NDArray[Any],
    validation: tuple[Matrix, NDArray[Any]] | None,
    seed: int,
    folds: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Weight, bias and penalty of one target."""
    penalty = _choose_penalty(task, _splits(task, x, targets, validation, seed, folds))
    estimator = _estimator(task)
    _set_penalty(estimator, penalty)
    estimator.fit(x, targets)
    weight = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    bias = np.atleast_1d(np.asarray(estimator.intercept_, dtype=np.float64))
    return weight, bias, penalty


def _choose_penalty(task: Task, splits: list[_Split]) -> float:
    """The penalty of the smallest held-out loss, summed over the splits.

    The search goes from strong to weak, each fit starting from the one before, and ends when two weaker
    penalties in a row were worse: weak penalties take the longest to fit.
    """
    if not splits:
        # Where nothing can be held out, the middle of the range stands.
        return PENALTIES[len(PENALTIES) // 2]
    estimators = [_estimator(task) for _ in splits]
    losses: list[float] = []
    for penalty in PENALTIES:
        loss = 0.0
        for estimator, (train_x, train_y, held_x, held_y) in zip(estimators, splits, strict=True):
            _set_penalty(estimator, penalty)
            estimator.fit(train_x, train_y)
            loss += _loss(task, estimator, held_x, held_y)
        losses.append(loss)
        if len(losses) - 1 - int(np.argmin(losses)) >= 2:
            break
    return PENALTIES[int(np.argmin(losses))]


def _splits(
    task: Task,
    x: Matrix,
    targets: NDArray[Any],
    validation: tuple[Matrix, NDArray[Any]] | None,
    seed: int,
    folds: int,
) -> list[_Split]:
    """The validation data as the one split, else folds; none where a class has a single example."""
    from sklearn.model_selection import KFold, StratifiedKFold

    if validation is not None:
        return [(x, targets, *validation)]
    rarest = len(targets) if task.kind == "regression" else int(np.bincount(targets).min())
    if min(folds, rarest) < 2:
        return []
    splitter = KFold if task.kind == "regression" else StratifiedKFold
    parts = splitter(min(folds, rarest), shuffle=True, random_state=seed).split(x, targets)
    return [(x[train], targets[train], x[held], targets[held]) for train, held in parts]


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
