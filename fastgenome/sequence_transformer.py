"""What the scikit-learn transformers of sequences share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from fastgenome.errors import ArgumentError


class SequenceTransformer(TransformerMixin, BaseEstimator):
    """A transformer whose input is a list, array or column of sequences; by default it learns nothing."""

    def fit(self, X: Sequence[str], y: object = None) -> Any:
        """Checks the parameters; nothing is learned from X (n sequences)."""
        self.get_feature_names_out()
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.requires_fit = False
        return tags


def as_sequences(X: Any) -> list[str]:
    """Sequences from a list, a one-dimensional array or series, or a table of one column.

    Raises:
        ArgumentError: X is one str, or has another shape than (n,) or (n, 1).
    """
    if isinstance(X, str | bytes):
        raise ArgumentError("X is one str; give a list of them")
    if not hasattr(X, "shape"):
        return list(X)
    array = np.asarray(X, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ArgumentError(f"X has the shape {array.shape}: expected (n,) or (n, 1) sequences")
    return list(array)
