"""What gives numbers for windows of DNA: a predictor's outputs, or the embedding of a model alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from joblib import parallel_config
from numpy.typing import NDArray

from fastgenome._version import __version__
from fastgenome.errors import ArgumentError
from fastgenome.models.model import Model
from fastgenome.prediction import Predictor
from fastgenome.training.heads import LinearHead

Scores = NDArray[np.float32]


class Scorer:
    """The numbers of a window, from its letters on one strand.

    Of two classes the probability of the second is given, of more that of each, of several labels that of
    each; a regression gives its value, and a model alone its embedding with the defaults.

    Attributes:
        columns: names of the numbers, () for an embedding.
        dim: how many there are.
        predictor: None where a model stands alone.
        model: None where there are features alone.
    """

    def __init__(self, source: Predictor | Model) -> None:
        self.predictor = source if isinstance(source, Predictor) else None
        self.model = source.model if isinstance(source, Predictor) else source
        self.columns = () if self.predictor is None else _columns(self.predictor)
        self.dim = len(self.columns) or _width(self.model)

    @property
    def min_length(self) -> int:
        """Bases that a window needs at least."""
        return self.predictor.min_length if self.predictor is not None else _of(self.model).min_length

    @property
    def device(self) -> str:
        """Kind of the device that computes: "cpu", "cuda" …"""
        return "cpu" if self.model is None else self.model.device.type

    def check_window(self, window: int) -> None:
        """ArgumentError for windows of so many bases that none could be scored."""
        if window < self.min_length:
            raise ArgumentError(f"window is {window}; a score needs at least {self.min_length} bases")
        if self.model is not None:
            self.model.check_window(window)

    def scores(self, sequences: Sequence[str], features: NDArray[np.float32] | None = None) -> Scores:
        """Numbers of cleaned sequences, (n, dim).

        Args:
            sequences: upper-case A, C, G, T, N; each with `min_length` bases.
            features: those of the sequences, (n, k), where they are known already.
        """
        if self.predictor is None:
            return np.asarray(_of(self.model).embed(sequences), dtype=np.float32)
        if features is None:
            features = self.predictor.feature_matrix(sequences)
        return self.of_inputs(self.predictor.joined(sequences, features))

    def of_inputs(self, inputs: NDArray[np.float32]) -> Scores:
        """Numbers for what the head sees, (n, f) to (n, dim); of a model alone the embedding itself."""
        if self.predictor is None:
            return inputs
        if self._plain_head is not None:
            weight, bias = self._plain_head
            return self.of_linear(inputs.astype(np.float64) @ weight + bias)
        # Threads of an estimator add up in the order in which they end.
        with parallel_config(backend="sequential"):
            return self._chosen(self.predictor.head.outputs(inputs))

    def of_linear(self, scores: NDArray[np.float64]) -> Scores:
        """Numbers for scores of the linear head, (n, outputs) to (n, dim)."""
        assert self.linear_head is not None
        return self._chosen(self.linear_head.of_scores(scores))

    def _chosen(self, outputs: NDArray[np.float64]) -> Scores:
        columns = outputs.reshape(len(outputs), -1)
        return columns[:, columns.shape[1] - self.dim :].astype(np.float32)

    def window_features(self, letters: bytes, window: int, stride: int) -> NDArray[np.float32]:
        """Features of the windows of a stretch, (n, k), at a cost that does not grow with window / stride."""
        from fastgenome.features.windows import windowed

        parts = [
            windowed(letters, feature, window=window, stride=stride, dtype=np.float32, threads=1).values
            for feature in self._features
        ]
        n = (len(letters) - window) // stride + 1
        return np.hstack(parts) if parts else np.empty((n, 0), dtype=np.float32)

    @cached_property
    def _features(self) -> list[Any]:
        """The transformers of the predictor's features."""
        from fastgenome.features import feature_set

        names = () if self.predictor is None else self.predictor.features
        return [feature for _, feature in feature_set(names).transformer_list] if names else []

    @cached_property
    def _plain_head(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Weight (f, outputs) and bias of a linear head for inputs as they are: one pass over them."""
        if self.linear_head is None:
            return None
        weight, bias = self.linear_head.unstandardised()
        return np.ascontiguousarray(weight.T), bias

    @cached_property
    def linear_head(self) -> LinearHead | None:
        """The head, where it is linear."""
        head = None if self.predictor is None else self.predictor.head
        return head if isinstance(head, LinearHead) else None

    @cached_property
    def sha256(self) -> str:
        """Digest of what the numbers depend on: weights, vocabulary, head, features, precision, release."""
        digest = hashlib.sha256(json.dumps(_description(self), sort_keys=True).encode())
        for part in _arrays(self):
            digest.update(part)
        return digest.hexdigest()


def as_scorer(source: Predictor | Model | str | Path) -> Scorer:
    """A scorer of a predictor, of the folder of a saved one, or of a model alone."""
    if isinstance(source, str | Path):
        return Scorer(Predictor.load(source))
    if not isinstance(source, Predictor | Model):
        raise ArgumentError(
            f"expected a Predictor, the folder of a saved one, or a Model; got {type(source).__name__}"
        )
    return Scorer(source)


def _columns(predictor: Predictor) -> tuple[str, ...]:
    task = predictor.task
    if task.kind == "regression":
        return ("prediction",)
    names = tuple(f"probability_{name}" for name in task.output_names)
    return names[1:] if task.kind == "binary" else names


def _of(model: Model | None) -> Model:
    assert model is not None
    return model


def _width(model: Model | None) -> int:
    return _of(model).embedding_dim


def _description(scorer: Scorer) -> dict[str, Any]:
    """The small parts of a scorer, ready for JSON."""
    described: dict[str, Any] = {"fastgenome": __version__, "device": scorer.device}
    if scorer.model is not None:
        model = scorer.model
        described |= {
            "config": model.config_sha256,
            "tokenizer": model.tokenizer_sha256,
            "dtype": str(model.dtype),
            "options": model.options,
            "defaults": asdict(model.defaults),
            "adapters": [repr(model.adapters.configs), model.adapters.active],
        }
    if scorer.predictor is not None:
        predictor = scorer.predictor
        described |= {
            "task": asdict(predictor.task),
            "pooling": predictor.pooling,
            "layer": predictor.layer,
            "features": predictor.features,
        }
    return described


def _arrays(scorer: Scorer) -> Iterator[bytes | memoryview]:
    """The weights of a scorer, each with its name before it."""
    if scorer.model is not None:
        import torch

        for name, tensor in sorted(scorer.model.network.state_dict().items()):
            yield name.encode()
            yield memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    if scorer.predictor is not None:
        head = scorer.predictor.head
        if isinstance(head, LinearHead):
            for name, array in sorted(head.tensors().items()):
                yield name.encode()
                yield np.ascontiguousarray(array).tobytes()
        else:
            # skops' files hold addresses in memory, so that they differ from one run to the next.
            yield _estimator_digest(head)


def _estimator_digest(head: Any) -> bytes:
    """Digest of a scikit-learn head that is the same in every process."""
    from joblib.hashing import NumpyHasher

    class ByFields(NumpyHasher):  # type: ignore[misc]
        """Leaves out what lies between the fields of a record: of trees' nodes it is left to chance."""

        def save(self, obj: Any) -> None:
            if isinstance(obj, np.ndarray) and obj.dtype.names:
                obj = [np.ascontiguousarray(obj[name]) for name in obj.dtype.names]
                # An address that another object takes over would count as the same object.
                kept.append(obj)
            super().save(obj)

    kept: list[Any] = []
    return str(ByFields("md5").hash(head)).encode()
