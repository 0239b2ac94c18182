"""Train a predictor on labelled sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgenome.errors import ArgumentError
from fastgenome.prediction import Predictor
from fastgenome.training.heads import Head, fit_estimator_head, fit_linear_head, score_head
from fastgenome.training.labelled import Labelled, read_labelled
from fastgenome.training.probe import Probe
from fastgenome.training.targets import TaskKind, infer_task

if TYPE_CHECKING:
    from fastgenome.models.model import Model

METHODS: dict[str, type[Probe]] = {"probe": Probe}


def finetune(
    data: Labelled,
    *,
    model: str | Model | None = "tiny",
    method: str | Probe = "probe",
    validation: Labelled | None = None,
    features: Sequence[str] = (),
    task: TaskKind | None = None,
    label_columns: Sequence[str] = ("label",),
    progress: bool = False,
) -> Predictor:
    """Train a predictor.

    Args:
        data: a labelled file (CSV, TSV, Parquet), or (sequences, labels).
        model: name, directory or loaded model; None trains on the features alone.
        method: "probe", or its settings as a frozen config such as ``Probe(head=RandomForestClassifier())``.
        validation: labelled data to choose the penalty on and to report figures for; without them
            the penalty is chosen by cross-validation. Never give the test set.
        features: any of "zcurve", "gc", "kmer", joined to the embedding.
        task: "binary", "multiclass", "multilabel" or "regression"; None reads it off the labels.
        label_columns: of a file; several are a multi-label target.
        progress: show a bar while embedding.

    Returns:
        A Predictor; its ``metrics`` hold the figures on the training and validation data and its
        ``read_reports`` the account of what was read.

    Raises:
        ArgumentError: an unknown method or feature, or neither model nor features.
        InputError: data or labels cannot be used.
    """
    settings = _settings(method)
    predictor = Predictor.untrained(
        model, features=tuple(features), pooling=settings.pooling, layer=settings.layer
    )
    train = read_labelled(data, label_columns=label_columns, min_length=predictor.min_length)
    predictor.read_reports["train"] = train.report
    predictor.task = infer_task(
        train.labels, kind=task, label_names=None if isinstance(data, tuple) else tuple(label_columns)
    )
    targets = predictor.task.encode(train.labels)
    inputs = predictor.inputs(train.sequences, progress=progress)
    held: tuple[Any, Any] | None = None
    if validation is not None:
        extra = read_labelled(validation, label_columns=label_columns, min_length=predictor.min_length)
        predictor.read_reports["validation"] = extra.report
        held = (predictor.inputs(extra.sequences, progress=progress), predictor.task.encode(extra.labels))
    predictor.head = _fit(predictor, settings, inputs, targets, held)
    predictor.metrics["train"] = score_head(predictor.task, predictor.head, inputs, targets)
    if held is not None:
        predictor.metrics["validation"] = score_head(predictor.task, predictor.head, *held)
    return predictor


def _settings(method: str | Probe) -> Probe:
    if isinstance(method, Probe):
        return method
    if method not in METHODS:
        raise ArgumentError(f"method must be one of {', '.join(METHODS)} or a config; got {method!r}")
    return METHODS[method]()


def _fit(predictor: Predictor, settings: Probe, inputs: Any, targets: Any, held: Any) -> Head:
    inputs = np.asarray(inputs, dtype=np.float64)
    if settings.head == "linear":
        head, predictor.hyperparameters = fit_linear_head(
            predictor.task, inputs, targets, validation=held, seed=settings.seed
        )
        return head
    if isinstance(settings.head, str):
        raise ArgumentError(f'head must be "linear" or a scikit-learn estimator; got {settings.head!r}')
    predictor.hyperparameters = {"head": repr(settings.head)}
    return fit_estimator_head(predictor.task, inputs, targets, settings.head)
