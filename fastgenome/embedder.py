"""Embeddings of a model as a scikit-learn transformer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgenome.sequence_transformer import SequenceTransformer, as_sequences

if TYPE_CHECKING:
    from fastgenome.models.model import Model


class Embedder(SequenceTransformer):
    """Turns sequences into embeddings of a frozen model, for scikit-learn pipelines.

    Args:
        model: name, directory or loaded model.
        pooling, layer: see ``Model.embed``; None is the model's own choice.
        device, dtype: see ``fastgenome.load``; not used for a loaded model.
    """

    def __init__(
        self,
        model: str | Path | Model = "tiny",
        *,
        pooling: str | None = None,
        layer: int | Sequence[int] | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.layer = layer
        self.device = device
        self.dtype = dtype

    def fit(self, X: Sequence[str], y: object = None) -> Embedder:
        """Loads the model; nothing is learned from X (n sequences)."""
        from fastgenome.models import load

        if isinstance(self.model, (str, Path)):
            self.model_ = load(self.model, device=self.device, dtype=self.dtype)
        else:
            self.model_ = self.model
        return self

    def transform(self, X: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of n sequences: float32 (n, dim).

        Raises:
            NotFittedError: before fit. InputError: a sequence is not DNA, empty or too short.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        embeddings: NDArray[np.float32] = self.model_.embed(
            as_sequences(X), pooling=self.pooling, layer=self.layer
        )
        return embeddings

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Column names embedding_0, embedding_1 …; `input_features` is not used."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        width = self.model_.embedding_width(pooling=self.pooling, layer=self.layer)
        return np.array([f"embedding_{number}" for number in range(width)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        # Embeddings are float32 whatever the input.
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
