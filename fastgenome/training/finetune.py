"""Train a predictor on labelled sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgenome.errors import ArgumentError
from fastgenome.prediction import Predictor
from fastgenome.sequences import ReadOptions
from fastgenome.training.head_fitting import check_estimator, fit_estimator_head, fit_linear_head
from fastgenome.training.heads import Head
from fastgenome.training.labelled import Labelled, check_labelled, read_labelled
from fastgenome.training.metrics import evaluate
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
    features: str | Sequence[str] = (),
    task: TaskKind | None = None,
    label_columns: str | Sequence[str | int] = ("label",),
    reading: ReadOptions | None = None,
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
        reading: of files: the format, the columns of a table, and which records are used.
        progress: show a bar while embedding.

    Returns:
        A Predictor; its ``metrics`` hold the figures on the training and validation data and its
        ``read_reports`` the account of what was read.

    Raises:
        ArgumentError: data of another type, an unknown method, feature, pooling or layer, neither model nor
            features, or a head that does not fit the task.
        InputError: data or labels cannot be used.
    """
    check_labelled(data)
    if validation is not None:
        check_labelled(validation, "validation")
    settings = _settings(method)
    columns = (label_columns,) if isinstance(label_columns, str) else tuple(label_columns)
    predictor = Predictor.untrained(
        model, features=_names(features), pooling=settings.pooling, layer=settings.layer
    )
    train = read_labelled(data, label_columns=columns, min_length=predictor.min_length, reading=reading)
    predictor.read_reports["train"] = train.report
    predictor.task = infer_task(
        train.labels, kind=task, label_names=None if isinstance(data, tuple) else tuple(map(str, columns))
    )
    if settings.head != "linear":
        # Before the embedding, which takes long.
        check_estimator(predictor.task, settings.head)
    targets = predictor.task.encode(train.labels)
    held: tuple[Any, Any] | None = None
    if validation is not None:
        extra = read_labelled(
            validation, label_columns=columns, min_length=predictor.min_length, reading=reading
        )
        predictor.read_reports["validation"] = extra.report
        held_targets = predictor.task.encode(extra.labels)
        held = (predictor.inputs(extra.sequences, progress=progress), held_targets)
    inputs = predictor.inputs(train.sequences, progress=progress)
    predictor.head = _fit(predictor, settings, inputs, targets, held)
    predictor.metrics["train"] = evaluate(predictor.task, targets, predictor.head.outputs(inputs))
    if held is not None:
        predictor.metrics["validation"] = evaluate(predictor.task, held[1], predictor.head.outputs(held[0]))
    return predictor


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several; the letters of one are never taken for several."""
    return (names,) if isinstance(names, str) else tuple(names)


def _settings(method: str | Probe) -> Probe:
    if isinstance(method, Probe):
        return method
    if not isinstance(method, str) or method not in METHODS:
        raise ArgumentError(f"method must be one of {', '.join(METHODS)} or a config; got {method!r}")
    return METHODS[method]()


def _fit(predictor: Predictor, settings: Probe, inputs: Any, targets: Any, held: Any) -> Head:
    inputs = np.asarray(inputs, dtype=np.float64)
    if settings.head == "linear":
        head, predictor.hyperparameters = fit_linear_head(
            predictor.task, inputs, targets, validation=held, seed=int(settings.seed)
        )
        return head
    predictor.hyperparameters = {"head": repr(settings.head)}
    return fit_estimator_head(predictor.task, inputs, targets, settings.head)
