"""Embeddings of a model as a scikit-learn transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

if TYPE_CHECKING:
    from fastgenome.models.model import Model


class Embedder(TransformerMixin, BaseEstimator):
    """Turn sequences into embeddings of a frozen model, for use in scikit-learn pipelines.

    Args:
        model: name, directory or loaded model.
        pooling, layer: see ``Model.embed``; None is the model's own choice.
        device, dtype: see ``fastgenome.load``; not used for a loaded model.
    """

    def __init__(
        self,
        model: str | Model = "tiny",
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
        """Load the model; nothing is learned from X (n sequences)."""
        from fastgenome.models import load

        _check_sequences(X)
        self.model_ = (
            load(self.model, device=self.device, dtype=self.dtype)
            if isinstance(self.model, str)
            else self.model
        )
        self.n_features_in_ = 1
        return self

    def transform(self, X: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings (n, dim) of n sequences.

        Raises:
            NotFittedError: before fit. InputError: a sequence is not DNA or too short.
        """
        from sklearn.utils.validation import check_is_fitted

        from fastgenome.sequences import clean_sequences

        check_is_fitted(self)
        sequences = clean_sequences(_check_sequences(X))
        embeddings: NDArray[np.float32] = self.model_.embed(sequences, pooling=self.pooling, layer=self.layer)
        self._n_features_out = embeddings.shape[1]
        return embeddings
