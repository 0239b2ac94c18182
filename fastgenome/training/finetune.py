"""Train a predictor on labelled sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgenome.errors import ArgumentError
from fastgenome.prediction import Predictor
from fastgenome.sequences import ReadOptions
from fastgenome.training import run_folder
from fastgenome.training.base_model import describe_model, tunable
from fastgenome.training.distributed import Processes, launched_processes
from fastgenome.training.head_fitting import check_estimator, fit_estimator_head, fit_linear_head
from fastgenome.training.heads import Head
from fastgenome.training.labelled import Labelled, check_labelled, read_labelled
from fastgenome.training.methods import Full, chosen_method, method_name
from fastgenome.training.metrics import evaluate
from fastgenome.training.probe import Probe
from fastgenome.training.targets import TaskKind, infer_task
from fastgenome.training.tuning import Examples, checked_examples, data_digest, run_digest, tune
from fastgenome.training.tuning_config import Training

if TYPE_CHECKING:
    import torch

    from fastgenome.adapters import AdapterConfig
    from fastgenome.models.model import Model


def finetune(
    data: Labelled,
    *,
    model: str | Model | None = "tiny",
    method: str | Probe | Full | AdapterConfig = "probe",
    validation: Labelled | None = None,
    features: str | Sequence[str] = (),
    training: Training | None = None,
    task: TaskKind | None = None,
    label_columns: str | Sequence[str | int] = ("label",),
    reading: ReadOptions | None = None,
    out: str | Path | None = None,
    resume: bool | None = None,
    progress: bool = False,
) -> Predictor:
    """Train a predictor.

    Args:
        data: a labelled file (CSV, TSV, Parquet), or (sequences, labels).
        model: name, directory or loaded model, which stays as it is; None trains on the features alone.
        method: "probe" (a head on the frozen embedding), "lora", "dora", "ia3", "full", or the settings of
            one as a frozen config such as ``LoRA(rank=16)`` or ``Probe(head=RandomForestClassifier())``.
        validation: labelled data to choose settings and the best weights on, and to report figures for.
            Without them the probe's penalty is chosen by cross-validation, and tuning holds out a share of
            ``data``. Never give the test set.
        features: any of "zcurve", "gc", "kmer", joined to the embedding.
        training: how to tune; not for the probe.
        task: "binary", "multiclass", "multilabel" or "regression"; None reads it off the labels.
        label_columns: of a file; several are a multi-label target.
        reading: of files: the format, the columns of a table, and which records are used.
        out: folder for the predictor; of a tuning run also for its checkpoints, log, figures and plots.
        resume: True continues the run in ``out``, exactly; one that has ended is returned. False starts anew;
            so does None, but not where an unfinished run would be lost.
        progress: show a bar.

    Returns:
        A Predictor; its ``metrics`` hold the figures on the training and validation data, its
        ``hyperparameters`` what was chosen and its ``read_reports`` the account of what was read.

    Raises:
        ArgumentError: data of another type, an unknown method, feature, pooling or layer, neither model nor
            features, settings that do not fit the task or model, training that diverges, or what several
            processes do not allow.
        InputError: data or labels cannot be used. CheckpointError: ``out`` holds another or a damaged run.
        MissingExtraError: there are several processes, and accelerate is not installed.
    """
    check_labelled(data)
    if validation is not None:
        check_labelled(validation, "validation")
    settings = chosen_method(method)
    tunes = not isinstance(settings, Probe)
    if resume and (out is None or not tunes):
        raise ArgumentError("resume: only a tuning run with out= can be continued")
    processes = launched_processes(_device_of(model))
    progress = progress and processes.is_first
    folder = (
        None
        if out is None
        else processes.by_first(lambda: run_folder.check_run_folder(out, resume=resume, tunes=tunes))
    )
    predictor = _untrained(settings, model, _names(features), training)
    if predictor.model is not None:
        processes.place(predictor.model.network)
    columns = (label_columns,) if isinstance(label_columns, str) else tuple(label_columns)
    train = read_labelled(data, label_columns=columns, min_length=predictor.min_length, reading=reading)
    predictor.read_reports["train"] = train.report
    predictor.task = infer_task(
        train.labels, kind=task, label_names=None if isinstance(data, tuple) else tuple(map(str, columns))
    )
    examples = [(train.sequences, predictor.task.encode(train.labels))]
    if validation is not None:
        held = read_labelled(
            validation, label_columns=columns, min_length=predictor.min_length, reading=reading
        )
        predictor.read_reports["validation"] = held.report
        examples.append((held.sequences, predictor.task.encode(held.labels)))
    if not isinstance(settings, Probe):
        training = training or Training()
        return _tuned(
            predictor, settings, examples, training, folder, processes, resume=bool(resume), progress=progress
        )
    _probed(predictor, settings, examples, progress=progress)
    if folder is not None:
        processes.by_first(lambda: run_folder.save(folder, predictor))
    return predictor


def _device_of(model: str | Model | None) -> torch.device:
    """Where a model is, or will be."""
    from fastgenome.models.device import choose_device

    return choose_device("auto") if model is None or isinstance(model, str | Path) else model.device


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several; the letters of one are never taken for several."""
    return (names,) if isinstance(names, str) else tuple(names)


def _untrained(
    settings: Probe | Full | AdapterConfig,
    model: str | Model | None,
    features: tuple[str, ...],
    training: Training | None,
) -> Predictor:
    """Inputs without a head; a model that is to be tuned is the predictor's own."""
    if isinstance(settings, Probe):
        if training is not None:
            raise ArgumentError("training: the probe tunes nothing; its settings are those of Probe")
        return Predictor.untrained(model, features=features, pooling=settings.pooling, layer=settings.layer)
    if model is None:
        raise ArgumentError(f"method={method_name(settings)!r} tunes a model; got model=None")
    training = training or Training()
    own = tunable(model, dtype=training.dtype, full=isinstance(settings, Full))
    return Predictor.untrained(own, features=features, pooling=training.pooling, layer=training.layer)


def _probed(predictor: Predictor, settings: Probe, examples: list[Examples], *, progress: bool) -> None:
    """Fit a head on the frozen embedding."""
    if settings.head != "linear":
        # Before the embedding, which takes long.
        check_estimator(predictor.task, settings.head)
    sets = [(predictor.inputs(sequences, progress=progress), targets) for sequences, targets in examples]
    predictor.head = _fit(predictor, settings, *sets)
    for name, (inputs, targets) in zip(("train", "validation"), sets, strict=False):
        predictor.metrics[name] = evaluate(predictor.task, targets, predictor.head.outputs(inputs))


def _fit(predictor: Predictor, settings: Probe, train: tuple[Any, Any], held: Any = None) -> Head:
    inputs, targets = np.asarray(train[0], dtype=np.float64), train[1]
    if settings.head == "linear":
        head, predictor.hyperparameters = fit_linear_head(
            predictor.task, inputs, targets, validation=held, seed=int(settings.seed)
        )
        return head
    predictor.hyperparameters = {"head": repr(settings.head)}
    return fit_estimator_head(predictor.task, inputs, targets, settings.head)


def _tuned(
    predictor: Predictor,
    method: Full | AdapterConfig,
    examples: list[Examples],
    training: Training,
    folder: Path | None,
    processes: Processes,
    *,
    resume: bool,
    progress: bool,
) -> Predictor:
    """Tune the model, in a folder that a killed run can be continued from."""
    given = examples[0]
    processes.check_method(method, pooling=predictor.pooling)
    processes.check_same(data_digest(examples) + repr((method, training)), "data or settings")
    train, validation = checked_examples(
        predictor, method, given, examples[1] if len(examples) > 1 else None, training=training
    )
    n_held_out = len(given[0]) - len(train[0])
    if folder is None:
        tune(
            predictor,
            method,
            train,
            validation,
            training=training,
            n_held_out=n_held_out,
            progress=progress,
            processes=processes,
        )
        return predictor
    assert predictor.model is not None
    # Before the training, which takes long.
    base = describe_model(predictor.model)
    settings = run_digest(predictor, method, training, examples)
    if resume and processes.by_first(lambda: run_folder.is_finished(folder, settings)):
        finished = Predictor.load(folder, model=predictor.model, device=str(predictor.model.device))
        # The base may have moved; the run's settings have its digests.
        finished.base, finished.read_reports = base, predictor.read_reports
        return finished
    checkpoints = processes.by_first(
        lambda: run_folder.begin(folder, settings, keep=training.keep, resume=resume)
    )
    run = tune(
        predictor,
        method,
        train,
        validation,
        training=training,
        n_held_out=n_held_out,
        checkpoints=checkpoints,
        progress=progress,
        processes=processes,
    )
    processes.by_first(lambda: run_folder.end(folder, predictor, run, settings))
    return predictor
