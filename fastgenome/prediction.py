"""Predictor: one artifact that holds a base model's name, features and a head, and predicts."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgenome._version import __version__
from fastgenome.errors import ArgumentError, CheckpointError, InputError
from fastgenome.sequences import ReadReport, clean_sequences, read_sequences
from fastgenome.training.heads import EstimatorHead, Head, LinearHead
from fastgenome.training.targets import Task

if TYPE_CHECKING:
    from fastgenome.models.model import Model

FORMAT = 1
_DESCRIPTION = "predictor.json"
_LINEAR = "head.safetensors"
_ESTIMATOR = "head.skops"

Layer = int | Sequence[int] | None


class Predictor:
    """A trained predictor; made by ``finetune`` or ``Predictor.load``.

    Attributes:
        task: the kind of task, its classes or label names.
        model: the frozen base model, or None for features alone.
        features: names of the joined feature sets.
        metrics: figures of merit by data set ("train", "validation").
        read_reports: how many records were read and rejected, by data set.
    """

    task: Task
    head: Head

    def __init__(
        self, model: Model | None, *, features: tuple[str, ...], pooling: str | None, layer: Layer
    ) -> None:
        self.model = model
        self.features = features
        self.pooling = pooling
        self.layer = layer
        self.metrics: dict[str, dict[str, float]] = {}
        self.hyperparameters: dict[str, Any] = {}
        self.read_reports: dict[str, ReadReport | None] = {}
        self._featurizer = _make_featurizer(features)

    @classmethod
    def untrained(
        cls, model: str | Model | None, *, features: tuple[str, ...], pooling: str | None, layer: Layer
    ) -> Predictor:
        """Inputs without a head yet; ``finetune`` adds task and head."""
        if model is None and not features:
            raise ArgumentError("give a model, features, or both")
        return cls(_resolve_model(model), features=features, pooling=pooling, layer=layer)

    @property
    def min_length(self) -> int:
        """Bases that a sequence needs at least."""
        return 1 if self.model is None else self.model.min_length

    def inputs(self, sequences: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        """What the head sees, (n, f): the embedding, then the features, of cleaned sequences."""
        parts: list[NDArray[Any]] = []
        if self.model is not None:
            parts.append(
                self.model.embed(sequences, pooling=self.pooling, layer=self.layer, progress=progress)
            )
        if self._featurizer is not None:
            parts.append(self._featurizer.transform(list(sequences)))
        return np.hstack(parts).astype(np.float32, copy=False)

    def outputs(
        self, sequences: Sequence[str] | str | Path, *, progress: bool = False
    ) -> NDArray[np.float64]:
        """Probabilities (n, classes) or (n, labels), or values (n,) for a regression.

        Args:
            sequences: DNA, or the path of a file of which every record must be usable; the command line
                and ``fastgenome.sequences.read_sequences`` count and skip bad records instead.
            progress: show a bar.

        Raises:
            InputError: a sequence is not DNA or too short. SequenceTooLongError: or too long.
        """
        cleaned = _all_sequences(sequences)
        if short := [i for i, sequence in enumerate(cleaned) if len(sequence) < self.min_length]:
            raise InputError(f"sequences {short[:5]} have fewer than {self.min_length} bases")
        return self.head.outputs(self.inputs(cleaned, progress=progress))

    def predict_proba(self, sequences: Sequence[str] | str | Path) -> NDArray[np.float64]:
        """Probabilities, (n, classes) in the order of ``task.classes``, or (n, labels).

        Raises:
            ArgumentError: the task is a regression.
        """
        if self.task.kind == "regression":
            raise ArgumentError("a regression has no probabilities; use predict")
        return self.outputs(sequences)

    def predict(self, sequences: Sequence[str] | str | Path) -> NDArray[Any]:
        """Class labels (n,), values (n,) for a regression, or 0 and 1 (n, labels)."""
        return self.decide(self.outputs(sequences))

    def decide(self, outputs: NDArray[np.float64]) -> NDArray[Any]:
        """Outputs as predictions: the likeliest class, labels over one half, or the values themselves."""
        if self.task.kind == "regression":
            return outputs
        if self.task.kind == "multilabel":
            return (outputs > 0.5).astype(np.int64)
        return self.task.decode(outputs.argmax(axis=1))

    def save(self, directory: str | Path) -> None:
        """Write the predictor as one directory: JSON, and safetensors (linear head) or skops.

        The directory appears complete or not at all; an earlier predictor in its place is replaced.

        Raises:
            ArgumentError: the path exists and is no predictor.
        """
        target = Path(directory)
        if target.exists() and not (target / _DESCRIPTION).is_file() and any(target.iterdir()):
            raise ArgumentError(f"{target} exists and holds no predictor; choose another folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            self._write(temporary)
            _replace_directory(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _write(self, folder: Path) -> None:
        if isinstance(self.head, LinearHead):
            from safetensors.numpy import save_file

            tensors = {name: np.ascontiguousarray(value) for name, value in self.head.tensors().items()}
            save_file(tensors, folder / _LINEAR)
        else:
            import skops.io

            assert isinstance(self.head, EstimatorHead)
            skops.io.dump(self.head.estimator, folder / _ESTIMATOR)
        (folder / _DESCRIPTION).write_text(json.dumps(self._description(), indent=2) + "\n")

    def _description(self) -> dict[str, Any]:
        base = None
        if self.model is not None:
            base = {"name": self.model.name, "sha256": self.model.sha256, "dtype": str(self.model.dtype)[6:]}
        return {
            "format": FORMAT,
            "fastgenome": __version__,
            "task": asdict(self.task),
            "model": base,
            "pooling": self.pooling,
            "layer": self.layer if self.layer is None or isinstance(self.layer, int) else list(self.layer),
            "features": list(self.features),
            "inputs": len(self.head.mean) if isinstance(self.head, LinearHead) else None,
            "hyperparameters": self.hyperparameters,
            "metrics": self.metrics,
        }

    @classmethod
    def load(
        cls, directory: str | Path, *, model: str | Model | None = None, device: str = "auto"
    ) -> Predictor:
        """Open a saved predictor.

        Args:
            directory: written by ``save``.
            model: the base model, where it no longer lies under its stored name.
            device: for the base model; its precision is that of training.

        Raises:
            CheckpointError: files are missing or damaged, or the base model is not the one trained with.
        """
        folder = Path(directory)
        description = _read_description(folder)
        base = description["model"]
        loaded = None if base is None else _base_model(base, model, device)
        layer = description["layer"]
        predictor = cls(
            loaded, features=tuple(description["features"]), pooling=description["pooling"], layer=layer
        )
        task = description["task"]
        predictor.task = Task(task["kind"], tuple(task["classes"]), tuple(task["label_names"]))
        predictor.metrics = description["metrics"]
        predictor.hyperparameters = description["hyperparameters"]
        predictor.head = _read_head(folder, predictor.task)
        return predictor


def _resolve_model(model: str | Model | None) -> Model | None:
    if model is None or not isinstance(model, (str, Path)):
        return model
    from fastgenome.models import load

    return load(model)


def _make_featurizer(features: tuple[str, ...]) -> Any:
    if not features:
        return None
    from fastgenome.features import feature_set

    # The features learn nothing; fitting only satisfies scikit-learn's contract.
    return feature_set(features).fit(["ACGT"])


def _all_sequences(sequences: Sequence[str] | str | Path) -> list[str]:
    if not isinstance(sequences, (str, Path)):
        return clean_sequences(sequences)
    reader = read_sequences(sequences)
    cleaned = [record.sequence for record in reader]
    if reader.report.n_rejected:
        first = reader.report.rejections[0]
        raise InputError(
            f"{reader.report.n_rejected} records of {sequences} cannot be used, first number {first.number} "
            f"({first.reason}: {first.detail}); the command line skips and counts them"
        )
    return cleaned


def _read_description(folder: Path) -> dict[str, Any]:
    try:
        description: dict[str, Any] = json.loads((folder / _DESCRIPTION).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is no readable predictor: {error}") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(f"{folder / _DESCRIPTION} is not of format {FORMAT}; use a newer fastgenome")
    keys = ("task", "model", "pooling", "layer", "features", "hyperparameters", "metrics")
    if missing := [key for key in keys if key not in description]:
        raise CheckpointError(f"{folder / _DESCRIPTION} lacks {missing}")
    return description


def _base_model(base: dict[str, str], model: str | Model | None, device: str) -> Model:
    from fastgenome.models import load

    source = model if model is not None else base["name"]
    loaded = load(source, device=device, dtype=base["dtype"]) if isinstance(source, (str, Path)) else source
    if loaded.sha256 != base["sha256"]:
        raise CheckpointError(
            f"the predictor was trained on {base['name']!r} with weights of sha256 {base['sha256'][:16]}…, "
            f"but {loaded.name!r} has {(loaded.sha256 or 'none')[:16]}…; give the right one as model="
        )
    return loaded


def _read_head(folder: Path, task: Task) -> Head:
    if (folder / _LINEAR).is_file():
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(folder / _LINEAR)
            return LinearHead(
                task.kind, **{name: tensors[name] for name in ("mean", "scale", "weight", "bias")}
            )
        except (SafetensorError, KeyError, OSError) as error:
            raise CheckpointError(f"cannot read {folder / _LINEAR}: {error}") from None
    if (folder / _ESTIMATOR).is_file():
        import skops.io
        from skops.io.exceptions import UntrustedTypesFoundException

        try:
            # Only types that skops itself trusts (scikit-learn, NumPy, SciPy) are built.
            return EstimatorHead(task.kind, skops.io.load(folder / _ESTIMATOR))
        except UntrustedTypesFoundException as error:
            raise CheckpointError(
                f"{folder / _ESTIMATOR} holds types that are not trusted: {error}"
            ) from None
        except Exception as error:
            raise CheckpointError(f"cannot read {folder / _ESTIMATOR}: {error}") from error
    raise CheckpointError(f"{folder} has neither {_LINEAR} nor {_ESTIMATOR}")


def _replace_directory(temporary: Path, target: Path) -> None:
    """Sync a finished directory and move it into place."""
    for path in [*temporary.iterdir(), temporary]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    temporary.chmod(0o755)
    if target.exists():
        shutil.rmtree(target)
    temporary.replace(target)
