"""Predictor: one artifact that holds a base model's name, tuned weights, features, a head; it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgenome.atomic import atomic_folder
from fastgenome.errors import ArgumentError, CheckpointError, InputError
from fastgenome.sequences import ReadReport, clean_sequences, read_sequences
from fastgenome.training.base_model import describe_model, stored_model
from fastgenome.training.heads import Head
from fastgenome.training.predictor_folder import (
    DESCRIPTION,
    BaseModel,
    Description,
    Tuned,
    TunedWeights,
    read_description,
    read_head,
    write_predictor,
)
from fastgenome.training.targets import Task

if TYPE_CHECKING:
    from fastgenome.models.model import Model
    from fastgenome.tokenizers import Tokens

Layer = int | Sequence[int] | None


class Predictor:
    """A trained predictor; made by ``finetune`` or ``Predictor.load``.

    Attributes:
        task: the kind of task, its classes or label names.
        model: the base model, with its tuned weights if it has any, or None for features alone.
        tuned: what of the model was tuned: "adapter", "model" (every weight), or None where it is frozen.
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
        self.tuned: TunedWeights | None = None
        # The model before tuning, where it is not the model as it is.
        self.base: BaseModel | None = None
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
        return self.joined(sequences, self.feature_matrix(sequences), progress=progress)

    def feature_matrix(self, sequences: Sequence[str]) -> NDArray[np.float32]:
        """The features of cleaned sequences, (n, k); k = 0 where there are none."""
        if self._featurizer is None:
            return np.empty((len(sequences), 0), dtype=np.float32)
        return np.asarray(self._featurizer.transform(list(sequences)), dtype=np.float32)

    def joined(
        self, sequences: Sequence[str] | Tokens, features: NDArray[np.float32], *, progress: bool = False
    ) -> NDArray[np.float32]:
        """The embedding of sequences or Tokens, and behind it their features: what the head sees, (n, f)."""
        if self.model is None:
            return features
        embedding = self.model.embed(sequences, pooling=self.pooling, layer=self.layer, progress=progress)
        return np.hstack([embedding, features])

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
        base model only its name (or absolute directory), digest and precision are stored. A tuned adapter
        lies in adapter/, in PEFT's format, a model of which every weight was tuned in model/.

        Raises:
            ArgumentError: the directory cannot be written or holds something else, or the base model's
                weights do not come from files, so that the predictor could never be loaded.
        """
        description = self._description()
        with atomic_folder(directory, marker=DESCRIPTION) as folder:
            self.write(folder, description)

    def write(self, folder: Path, description: Description | None = None) -> None:
        """Write the files of `save` into an empty folder."""
        described = description or self._description()
        if self.model is not None and self.tuned == "adapter":
            self.model.unmerge_adapter()
            try:
                self.model.save_adapter(folder / "adapter")
            finally:
                self.model.merge_adapter()
        elif self.model is not None and self.tuned == "model":
            self.model.save(folder / "model")
        write_predictor(folder, described, self.head)

    def _description(self) -> Description:
        return Description(
            task=self.task,
            model=self.base or (None if self.model is None else describe_model(self.model)),
            pooling=self.pooling,
            layer=None if self.layer is None else list(self.layer),
            features=self.features,
            inputs=self.n_inputs,
            hyperparameters=self.hyperparameters,
            metrics=self.metrics,
            tuned=None if self.tuned is None else Tuned(self.tuned, {}),
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
        base = None if stored.model is None else stored_model(folder, stored, model, device)
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
        if stored.tuned is not None:
            predictor.tuned, predictor.base = stored.tuned.weights, stored.model
            if base is not None and stored.model is not None and stored.tuned.weights == "adapter":
                # The given place, so that saving names it.
                predictor.base = replace(stored.model, name=base.name)
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
