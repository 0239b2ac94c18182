"""Figures of merit per kind of task, all of scikit-learn and SciPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgenome.training.targets import Task


def evaluate(task: Task, targets: NDArray[Any], outputs: NDArray[np.float64]) -> dict[str, float]:
    """Compare outputs with the truth.

    Args:
        task: what was learned.
        targets: encoded labels, see ``Task.encode``.
        outputs: probabilities (n, classes) or (n, labels), or values (n,) for a regression.

    Returns:
        Regression: r2, pearson, spearman, rmse. Classes: mcc, accuracy, f1 (macro beyond two classes),
        auc, pr_auc, brier; auc is one-against-rest and macro-averaged beyond two classes, and figures
        that are undefined on these data (one class only) are left out. Multi-label: the mean over labels
        of each, and the same per label as ``name.figure``.
    """
    if task.kind == "regression":
        return _regression(targets, outputs)
    if task.kind == "multilabel":
        per_label = [_binary(targets[:, i], outputs[:, i]) for i in range(targets.shape[1])]
        names = sorted({name for figures in per_label for name in figures})
        means = {name: float(np.mean([f[name] for f in per_label if name in f])) for name in names}
        for label, figures in zip(task.label_names, per_label, strict=True):
            means.update({f"{label}.{name}": value for name, value in figures.items()})
        return means
    if task.kind == "binary":
        return _binary(targets, outputs[:, 1])
    return _multiclass(targets, outputs)


def _regression(targets: NDArray[np.float64], values: NDArray[np.float64]) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import r2_score

    figures = {"rmse": float(np.sqrt(np.mean((targets - values) ** 2)))}
    if np.ptp(targets) > 0:
        figures["r2"] = float(r2_score(targets, values))
        if np.ptp(values) > 0:
            figures["pearson"] = float(pearsonr(targets, values).statistic)
            figures["spearman"] = float(spearmanr(targets, values).statistic)
    # Of values that hardly differ the correlations are NaN.
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _binary(targets: NDArray[np.int64], probability: NDArray[np.float64]) -> dict[str, float]:
    from sklearn import metrics

    predicted = (probability > 0.5).astype(np.int64)
    figures = {
        "mcc": float(metrics.matthews_corrcoef(targets, predicted)),
        "accuracy": float(metrics.accuracy_score(targets, predicted)),
        "f1": float(metrics.f1_score(targets, predicted, zero_division=0.0)),
        "brier": float(np.mean((probability - targets) ** 2)),
    }
    if 0 < targets.sum() < len(targets):
        figures["auc"] = float(metrics.roc_auc_score(targets, probability))
        figures["pr_auc"] = float(metrics.average_precision_score(targets, probability))
    return figures


def _multiclass(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float]:
    from sklearn import metrics

    classes = np.arange(probabilities.shape[1])
    one_hot = np.eye(len(classes))[targets]
    predicted = probabilities.argmax(axis=1)
    figures = {
        "mcc": float(metrics.matthews_corrcoef(targets, predicted)),
        "accuracy": float(metrics.accuracy_score(targets, predicted)),
        "f1": float(metrics.f1_score(targets, predicted, average="macro", zero_division=0.0)),
        "brier": float(np.mean(((probabilities - one_hot) ** 2).sum(axis=1))),
    }
    if len(np.unique(targets)) == len(classes):
        figures["auc"] = float(
            metrics.roc_auc_score(targets, probabilities, multi_class="ovr", labels=classes)
        )
        figures["pr_auc"] = float(metrics.average_precision_score(one_hot, probabilities))
    return figures
