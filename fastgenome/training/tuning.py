"""Tuning a predictor's model: data divided, head begun, weights trained, the best kept."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgenome.errors import InputError
from fastgenome.training.base_model import describe_model
from fastgenome.training.distributed import Processes
from fastgenome.training.head_fitting import fit_linear_head, mean_and_scale
from fastgenome.training.heads import LinearHead
from fastgenome.training.methods import (
    LEARNING_RATES,
    Full,
    check_method,
    method_name,
    method_settings,
    prepare,
    rank_allocator,
)
from fastgenome.training.metrics import evaluate
from fastgenome.training.state import digest
from fastgenome.training.tuning_batches import TuningData, held_out_split
from fastgenome.training.tuning_checkpoint import Checkpoint, CheckpointFolder
from fastgenome.training.tuning_loss import TunedHead, example_weights, unit_of
from fastgenome.training.tuning_run import TuningRun
from fastgenome.training.tuning_selection import check_criterion

if TYPE_CHECKING:
    from fastgenome.adapters import AdapterConfig
    from fastgenome.prediction import Predictor
    from fastgenome.training.targets import Task
    from fastgenome.training.tuning_config import Training

# A data set as cleaned sequences and encoded labels.
Examples = tuple[list[str], NDArray[Any]]


def tune(
    predictor: Predictor,
    method: Full | AdapterConfig,
    train: Examples,
    validation: Examples,
    *,
    training: Training,
    n_held_out: int = 0,
    checkpoints: CheckpointFolder | None = None,
    progress: bool = False,
    processes: Processes | None = None,
) -> TuningRun:
    """Tune the predictor's model and fit its head; the predictor then holds the best weights and its figures.

    The data are those of `checked_examples`, of which `n_held_out` were given to train on. A run continues
    from the newest of its checkpoints. Of several `processes` each calls this. Raises as ``finetune``.
    """
    model, processes = predictor.model, processes or Processes()
    assert model is not None
    data, held = (_tuning_data(predictor, part) for part in (train, validation))
    stored = None if checkpoints is None else processes.by_first(checkpoints.newest)
    start = (
        processes.by_first(lambda: _begun_head(predictor, data, held, training, progress))
        if stored is None
        else _stored_head(stored, predictor)
    )
    if model.sha256 is not None:
        predictor.base = describe_model(model)
    prepare(model, method, pooler="pooler" in (predictor.pooling or ""))
    run = TuningRun(
        predictor,
        TunedHead(start, unit_of(predictor.task, data.targets), zero=training.head_init == "zero"),
        data,
        held,
        training=training,
        learning_rate=training.learning_rate or LEARNING_RATES[method_name(method)],
        allocates=lambda steps: rank_allocator(model, method, total_steps=steps),
        autocast=isinstance(method, Full) and _computes_bfloat16(training.dtype, model.device),
        processes=processes,
    )
    if stored is not None:
        run.restore(stored)
    run.train(checkpoints, progress=progress)
    _finish(predictor, method, run, n_held_out=n_held_out)
    return run


def checked_examples(
    predictor: Predictor,
    method: Full | AdapterConfig,
    train: Examples,
    validation: Examples | None,
    *,
    training: Training,
) -> tuple[Examples, Examples]:
    """Data to train and to validate on, which without validation data is a share of the first.

    Raises, before anything that takes long:
        ArgumentError: settings do not fit task, model or data. InputError: there are too few data.
    """
    if validation is None:
        train, validation = _divided(predictor, train, training)
    assert predictor.model is not None
    check_criterion(predictor.task, training.criterion)
    example_weights(predictor.task, train[1], training.class_weights)
    steps = training.epochs * math.ceil(len(train[0]) / training.batch_size)
    check_method(predictor.model, method, layers=predictor.layer, total_steps=steps)
    return train, validation


def run_digest(
    predictor: Predictor, method: Full | AdapterConfig, training: Training, data: list[Examples]
) -> str:
    """Names all that decides what a run learns: data, model and settings."""
    assert predictor.model is not None
    # How often a run is stored changes nothing of what it learns.
    training = replace(training, checkpoint_every=None, keep=1, layer=None)
    model = asdict(describe_model(predictor.model)) | {"name": None}
    inputs = (predictor.pooling, predictor.layer, predictor.features, asdict(predictor.task))
    settings = (method_name(method), method_settings(method), asdict(training))
    return digest(model, inputs, settings, data_digest(data))


def data_digest(data: list[Examples]) -> str:
    """Names sequences and targets of several data sets, in their order."""
    sha256 = hashlib.sha256()
    for sequences, targets in data:
        sha256.update("\n".join(sequences).encode())
        sha256.update(np.ascontiguousarray(targets).tobytes())
    return sha256.hexdigest()


def _divided(predictor: Predictor, train: Examples, training: Training) -> tuple[Examples, Examples]:
    sequences, targets = train
    regression = predictor.task.kind == "regression"
    parts = held_out_split(
        sequences, None if regression else targets, share=training.held_out, seed=training.seed
    )
    if min(map(len, parts)) == 0 or (regression and np.ptp(targets[parts[0]]) == 0):
        raise InputError(
            f"{len(sequences)} sequences are too few to hold some out; give more, or validation data"
        )
    kept, held = (([sequences[i] for i in part], targets[part]) for part in parts)
    return kept, held


def _tuning_data(predictor: Predictor, examples: Examples) -> TuningData:
    assert predictor.model is not None
    sequences, targets = examples
    tokens = predictor.model.tokenizer(sequences)
    rows = -(-tokens.lengths // predictor.model.encoder.stride)
    bases = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    return TuningData(tokens, rows, bases, predictor.feature_matrix(sequences), targets)


def _begun_head(
    predictor: Predictor, train: TuningData, held: TuningData, training: Training, progress: bool
) -> LinearHead:
    """The linear probe of the frozen embedding, or with head_init="zero" zeros on its scale."""
    inputs = predictor.joined(train.tokens, train.features, progress=progress)
    if training.head_init == "zero":
        return _zero_head(predictor.task, *mean_and_scale(inputs))
    validation = predictor.joined(held.tokens, held.features, progress=progress), held.targets
    head, _ = fit_linear_head(
        predictor.task, inputs, train.targets, validation=validation, seed=int(training.seed)
    )
    return head


def _stored_head(checkpoint: Checkpoint, predictor: Predictor) -> LinearHead:
    """A head of a checkpoint's shape; its weights come with all others."""
    mean, scale = (
        checkpoint.tensors[f"head.{name}"].numpy().astype(np.float64) for name in ("mean", "scale")
    )
    return _zero_head(predictor.task, mean, scale)


def _zero_head(task: Task, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> LinearHead:
    outputs = 1 if task.kind in ("binary", "regression") else len(task.output_names)
    return LinearHead(task.kind, mean, scale, np.zeros((outputs, len(mean))), np.zeros(outputs))


def _computes_bfloat16(dtype: str, device: Any) -> bool:
    from fastgenome.models.device import native_bfloat16

    return dtype == "bfloat16" or (dtype == "auto" and device.type == "cuda" and native_bfloat16(device))


def _finish(predictor: Predictor, method: Full | AdapterConfig, run: TuningRun, *, n_held_out: int) -> None:
    """Turn what was trained into a predictor and write down how it came about."""
    model = predictor.model
    assert model is not None
    model.network.eval()
    trained = sum(parameter.numel() for parameter in run.parameters.values())
    predictor.hyperparameters = {
        "method": method_name(method),
        **method_settings(method),
        "training": asdict(replace(run.training, layer=None, learning_rate=run.learning_rate))
        # JSON has no infinity.
        | {"clip": run.training.clip if math.isfinite(run.training.clip) else None},
        "trained_parameters": trained,
        "trained_share": trained
        / sum(p.numel() for p in (*model.network.parameters(), *run.head.parameters())),
        "steps": run.step,
        "best_step": run.selection.best_step,
        "criterion": run.selection.criterion,
        "validation_loss": run.selection.best_row["loss"],
        "held_out": n_held_out,
    }
    if isinstance(method, Full):
        predictor.tuned = "model"
        if model.files is not None:
            # These weights are no longer those of the files; the vocabulary is.
            model.vocabulary_source, model.files = model.files.directory, None
    else:
        predictor.tuned = "adapter"
        model.merge_adapter()
    sets = {"train": run.data, "validation": run.validation}
    predictor.metrics |= run.processes.by_first(
        lambda: {name: _figures(predictor, data) for name, data in sets.items()}
    )


def _figures(predictor: Predictor, data: TuningData) -> dict[str, float]:
    outputs = predictor.head.outputs(predictor.joined(data.tokens, data.features))
    return evaluate(predictor.task, data.targets, outputs)
