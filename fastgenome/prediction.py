"""Predictor: one artifact that holds a base model's name, features and a head, and predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgenome.atomic import atomic_folder
from fastgenome.errors import ArgumentError, CheckpointError, InputError, ModelError
from fastgenome.sequences import ReadReport, clean_sequences, read_sequences
from fastgenome.training.heads import Head
from fastgenome.training.predictor_folder import (
    DESCRIPTION,
    BaseModel,
    Description,
    read_description,
    read_head,
    write_predictor,
)
from fastgenome.training.targets import Task

if TYPE_CHECKING:
    from fastgenome.models.model import Model

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
        # Spelled out, so that a model's other defaults never change a saved predictor.
        self.pooling = model.defaults.pooling if model is not None and pooling is None else pooling
        self.layer = None if model is None else model.layer_indices(layer)
        self.metrics: dict[str, dict[str, float]] = {}
        self.hyperparameters: dict[str, Any] = {}
        self.read_reports: dict[str, ReadReport | None] = {}
        self._featurizer = _make_featurizer(features)

    @classmethod
    def untrained(
        cls, model: str | Model | None, *, features: tuple[str, ...], pooling: str | None, layer: Layer
    ) -> Predictor:
        """Inputs without a head yet; ``finetune`` adds task and head.

        Raises:
            ArgumentError: neither model nor features, or an unknown feature set, pooling or layer.
        """
        if model is None and not features:
            raise ArgumentError("give a model, features, or both")
        predictor = cls(_resolve_model(model), features=features, pooling=pooling, layer=layer)
        if predictor.n_inputs < 1:
            raise ArgumentError("model and features give no inputs")
        return predictor

    @property
    def min_length(self) -> int:
        """Bases that a sequence needs at least."""
        from fastgenome.features import min_length

        of_model = 1 if self.model is None else self.model.min_length
        return max(of_model, min_length(self.features) if self.features else 1)

    @property
    def n_inputs(self) -> int:
        """Width of what the head sees."""
        width = 0
        if self.model is not None:
            width += self.model.embedding_width(pooling=self.pooling, layer=self.layer)
        if self._featurizer is not None:
            width += len(self._featurizer.get_feature_names_out())
        return width

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

        The directory appears complete or not at all; an earlier predictor in its place is replaced. Of the
        base model only its name (or absolute directory), digest and precision are stored.

        Raises:
            ArgumentError: the directory cannot be written or holds something else, or the base model's
                weights do not come from files, so that the predictor could never be loaded.
        """
        description = self._description()
        with atomic_folder(directory, marker=DESCRIPTION) as folder:
            write_predictor(folder, description, self.head)

    def _description(self) -> Description:
        return Description(
            task=self.task,
            model=None if self.model is None else _name_of(self.model),
            pooling=self.pooling,
            layer=None if self.layer is None else list(self.layer),
            features=self.features,
            inputs=self.n_inputs,
            hyperparameters=self.hyperparameters,
            metrics=self.metrics,
        )

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        model: str | Model | None = None,
        device: str = "auto",
        trusted: Sequence[str] = (),
    ) -> Predictor:
        """Open a saved predictor.

        Args:
            directory: written by ``save``.
            model: the base model, by name, directory or loaded, where it no longer lies in the directory
                that was stored; its weights must be those of training.
            device: for the base model; its precision is that of training.
            trusted: types that a scikit-learn head may hold beyond those that skops trusts by itself, such
                as "sklearn.tree._tree.Tree" of a forest; name them only for files whose source you trust.

        Raises:
            CheckpointError: files are missing or damaged, or the base model is not the one trained with.
        """
        folder = Path(directory)
        stored = read_description(folder)
        base = None if stored.model is None else _base_model(stored.model, model, device)
        try:
            predictor = cls.untrained(
                base, features=stored.features, pooling=stored.pooling, layer=stored.layer
            )
        except ArgumentError as error:
            raise CheckpointError(f"{folder / DESCRIPTION} is damaged: {error}") from error
        if predictor.n_inputs != stored.inputs:
            raise CheckpointError(
                f"{folder} was trained on {stored.inputs} inputs, but its model and features give "
                f"{predictor.n_inputs}; use the release of fastgenome that wrote it"
            )
        predictor.task = stored.task
        predictor.metrics = stored.metrics
        predictor.hyperparameters = stored.hyperparameters
        predictor.head = read_head(folder, stored.task, stored.inputs, trusted)
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


def _name_of(model: Model) -> BaseModel:
    """What finds the model again; ArgumentError for one whose weights do not come from files."""
    if model.sha256 is None:
        raise ArgumentError(
            f"the base model {model.name!r} was not loaded from files, so that the predictor could not be "
            "loaded again; save the model, load it with fastgenome.load, and train on that"
        )
    dtype = str(model.dtype).removeprefix("torch.")
    digests = (model.sha256, model.config_sha256, model.tokenizer_sha256)
    return BaseModel(model.name, *digests, dtype, dict(model.options))


def _base_model(base: BaseModel, model: str | Path | Model | None, device: str) -> Model:
    from fastgenome.models import load

    if model is None:
        try:
            loaded = load(base.name, device=device, dtype=base.dtype, **base.options)
        except ModelError as error:
            raise CheckpointError(
                f"cannot load the base model; where it has moved, give model=: {error}"
            ) from error
    else:
        options: dict[str, Any] = {"device": device, "dtype": base.dtype, **base.options}
        loaded = load(model, **options) if isinstance(model, (str, Path)) else model
    if loaded.sha256 != base.sha256:
        raise CheckpointError(
            f"the predictor was trained on {base.name!r} with weights of sha256 {base.sha256[:16]}…, "
            f"but {loaded.name!r} has {(loaded.sha256 or 'none')[:16]}…; give the right one as model="
        )
    if loaded.config_sha256 != base.config_sha256:
        raise CheckpointError(
            f"the weights of {loaded.name!r} are those trained on, but its config.json describes another "
            "network; give the right model as model="
        )
    if loaded.tokenizer_sha256 != base.tokenizer_sha256:
        raise CheckpointError(
            f"the weights of {loaded.name!r} are those trained on, but its tokens are not the same (another "
            "vocabulary, species or prompt); give the right model as model="
        )
    return loaded
