"""What an embedding is made of: the defaults of a family, the poolings wanted, where the numbers go."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from fastgenome.errors import ArgumentError
from fastgenome.models.encoder import HiddenStates
from fastgenome.pooling import Pooling


@dataclass(frozen=True)
class EmbeddingDefaults:
    """What `embed` does where the caller says nothing: the way in which the family's embedding is published.

    `average_layers` takes the mean over several layers instead of joining them side by side.
    """

    pooling: str = "mean"
    layers: tuple[int, ...] = (-1,)
    special_tokens: bool = False
    average_layers: bool = False


class TokenEmbeddings(NamedTuple):
    """Embeddings of the tokens of many sequences, one behind the other.

    Those of sequence i are `values[offsets[i]:offsets[i + 1]]`.
    """

    values: NDArray[Any]  # (total, dim)
    offsets: NDArray[np.int64]  # (n + 1,)


class PoolingPlan(NamedTuple):
    """The poolings wanted, and whether special tokens are pooled too."""

    names: tuple[Pooling, ...]
    special_tokens: bool

    @property
    def attends(self) -> bool:
        """Whether the attention of the layers is needed."""
        return "attention" in self.names


def averaged(hidden: HiddenStates) -> HiddenStates:
    """The mean over layers, as one."""
    attention = (torch.stack(hidden.attention).mean(0),) if hidden.attention else ()
    return HiddenStates((torch.stack(hidden.states).mean(0),), hidden.offsets, attention)


def output_type(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float16; ArgumentError for another."""
    if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float16)):
        raise ArgumentError(f"output_dtype must be float32 or float16, got {np.dtype(dtype).name}")
    return np.dtype(dtype)


def store(target: NDArray[Any], rows: Any, values: NDArray[np.float32]) -> None:
    """Put values into rows; ArgumentError where they exceed what float16 holds."""
    if target.dtype == np.float16 and len(values) and np.abs(values).max() > np.finfo(np.float16).max:
        raise ArgumentError("an embedding exceeds the range of float16; use output_dtype='float32'")
    target[rows] = values
