"""Several adapters at work in one packed batch, each on its own sequences."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastgenome.adapters.attach import adapted_layers, check_known, check_not_merged
from fastgenome.adapters.linear import MIXTURE, Mixture
from fastgenome.errors import ArgumentError
from fastgenome.models.transformer import Transformer

if TYPE_CHECKING:
    from fastgenome.models.model import Model

# Told before each batch: which sequences it holds, and the number of rows of each, (n,) int64.
NextBatch = Callable[[NDArray[np.int64], NDArray[np.int64]], None]


@contextmanager
def mixed_adapters(model: "Model", names: Sequence[str | None] | None, count: int) -> Iterator[NextBatch]:
    """For a while let sequence i of `count` have the adapter names[i], or none; None leaves the active one.

    Gives what must be told of each batch. Raises ArgumentError for another number of names, an unknown one,
    one whose adapter is no sum of low-rank products (DoRA, IA3), or a network other than a transformer.
    """
    if names is None:
        yield lambda batch, rows: None
        return
    places = _places(model, names, count)
    different = list(dict.fromkeys(name for name in names if name is not None))
    made = {layer: layer.stacked(different) for layer in adapted_layers(model.network).values()}
    stacks = {layer: stack for layer, stack in made.items() if stack is not None}

    def next_batch(batch: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(rows)]))
        MIXTURE.set(Mixture(stacks, offsets, places[batch]))

    before = MIXTURE.set(None)
    try:
        yield next_batch
    finally:
        MIXTURE.reset(before)


def _places(model: "Model", names: Sequence[str | None], count: int) -> Tensor:
    """The place of each sequence's adapter among the different ones, (count,) int64; -1 for none."""
    if isinstance(names, str) or len(names) != count:
        found = repr(names) if isinstance(names, str) else f"{len(names)} names"
        raise ArgumentError(f"adapter must hold one name or None for each of {count} sequences, got {found}")
    check_not_merged(model, "adapters by sequence")
    if not isinstance(model.encoder, Transformer):
        raise ArgumentError(f"adapters by sequence need a transformer; model {model.name!r} is none")
    numbers: dict[str | None, int] = {None: -1}
    for name in names:
        if name is not None and name not in numbers:
            check_known(model, name)
            numbers[name] = len(numbers) - 1
    for name in filter(None, numbers):
        for layer in adapted_layers(model.network).values():
            if any(branch.gains for branch in layer.branches(name)):
                raise ArgumentError(
                    f"adapter {name!r} has factors beside its low-rank products (DoRA, IA3): embed its "
                    "sequences in a call of their own, after set_adapter"
                )
    return torch.tensor([numbers[name] for name in names], dtype=torch.int64)
