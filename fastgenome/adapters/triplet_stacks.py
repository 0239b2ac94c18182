"""The triplets of many low-rank matrices side by side in flat buffers, so that one operation serves all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fastgenome.errors import ArgumentError, ModelError


class Triplets(Protocol):
    """One adapted matrix, ΔW ∝ up · diag(values ⊙ mask) · down; a triplet is a row, a value and a column."""

    @property
    def down(self) -> Tensor:
        """A (rank, in)."""

    @property
    def values(self) -> Tensor:
        """λ (rank,)."""

    @property
    def up(self) -> Tensor:
        """B (out, rank)."""

    @property
    def mask(self) -> Tensor:
        """(rank,) bool: which triplets take part."""


class Block(NamedTuple):
    """Matrices A, or matrices B, of one shape."""

    members: list[int]  # which of the adapted matrices
    parameters: list[Tensor]
    is_down: bool
    start: int  # in a flat buffer
    shape: tuple[int, int, int]  # (matrices, rows, columns)

    @property
    def rank(self) -> int:
        """Of every matrix here."""
        return self.shape[1] if self.is_down else self.shape[2]

    def of(self, flat: Tensor) -> Tensor:
        """This block's part of a flat buffer, (matrices, rows, columns)."""
        return flat[self.start : self.start + self.shape[0] * self.shape[1] * self.shape[2]].view(self.shape)


class TripletStacks:
    """Where each parameter lies in a flat buffer: all λ, then the A and B, those of one shape together.

    The number of operations grows with the number of different shapes, two or three in a
    transformer, and not with that of matrices.

    Args:
        triplets: by name; all on one device, and not moved to another afterwards.
    """

    def __init__(self, triplets: Mapping[str, Triplets]) -> None:
        if not triplets:
            raise ArgumentError("triplets must hold at least one matrix; got none")
        for name, each in triplets.items():
            _check_shapes(name, each)
        self.names = list(triplets)
        self.values = [each.values for each in triplets.values()]
        self.masks = [each.mask for each in triplets.values()]
        self.ranks = [len(value) for value in self.values]
        self.triplets = sum(self.ranks)
        self.shapes = [(*each.down.shape, len(each.up)) for each in triplets.values()]  # rank, in, out
        self.device = self.values[0].device
        self.size = self.triplets
        self.blocks: list[Block] = []
        for is_down, parameters in (
            (True, [each.down for each in triplets.values()]),
            (False, [each.up for each in triplets.values()]),
        ):
            self._append_blocks(parameters, is_down)
        self.parameters = [*self.values, *(p for block in self.blocks for p in block.parameters)]
        # Kept between calls, since fresh memory of this size costs more than the sums that are made in it.
        self._first, self.scratch = self.zeros(), self.zeros()
        # (triplets,): place of each triplet among the means of A's rows, and among those of B's columns.
        self._down_places, self._up_places = (self._places(is_down) for is_down in (True, False))

    def zeros(self) -> Tensor:
        """A flat buffer, (size,) float32."""
        return torch.zeros(self.size, device=self.device)

    def gather_parameters(self) -> Tensor:
        """All parameters, (size,); the buffer is written anew by every call."""
        return self._gathered(self.parameters, self._first)

    def gather_gradients(self) -> Tensor:
        """Their gradients, (size,); the buffer is that of `scratch`.

        Raises:
            ModelError: a parameter has none.
        """
        return self._gathered(self.gradients(), self.scratch)

    def gradients(self) -> list[Tensor]:
        """The gradient of every parameter.

        Raises:
            ModelError: a parameter has none.
        """
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if len(gradients) < len(self.parameters):
            raise ModelError(
                f"{len(self.parameters) - len(gradients)} of {len(self.parameters)} parameters have no "
                "gradient: ranks are allocated after backward and before zero_grad, and every adapted "
                "matrix must take part in the loss"
            )
        return gradients

    def _gathered(self, tensors: list[Tensor], out: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([tensor.reshape(-1) for tensor in tensors], out=out)

    def per_triplet(self, flat: Tensor) -> Tensor:
        """(triplets,): the entry of λ + the mean of A's row + the mean of B's column, of a flat buffer."""
        total = flat[: self.triplets]
        for is_down, places in ((True, self._down_places), (False, self._up_places)):
            blocks = [block for block in self.blocks if block.is_down == is_down]
            means = torch.cat([block.of(flat).mean(2 if is_down else 1).view(-1) for block in blocks])
            total = total + means[places]
        return total

    def spread(self, flat: Tensor, onto: Sequence[Tensor]) -> None:
        """Copies (triplets,) into one (rank,) tensor per matrix."""
        torch._foreach_copy_(list(onto), torch.split(flat, self.ranks))

    def _append_blocks(self, parameters: list[Tensor], is_down: bool) -> None:
        shapes: dict[torch.Size, list[int]] = {}
        for member, parameter in enumerate(parameters):
            shapes.setdefault(parameter.shape, []).append(member)
        for (rows, columns), members in shapes.items():
            shape = (len(members), rows, columns)
            self.blocks.append(Block(members, [parameters[i] for i in members], is_down, self.size, shape))
            self.size += shape[0] * rows * columns

    def _places(self, is_down: bool) -> Tensor:
        ends = list(accumulate(self.ranks))
        order = [
            torch.arange(ends[member] - self.ranks[member], ends[member])
            for block in self.blocks
            if block.is_down == is_down
            for member in block.members
        ]
        return torch.cat(order).argsort().to(self.device)


def _check_shapes(name: str, each: Triplets) -> None:
    """Raises ArgumentError unless the four tensors fit together."""
    rank = len(each.values)
    shapes = [tuple(tensor.shape) for tensor in (each.down, each.values, each.up, each.mask)]
    fits = each.down.ndim == each.up.ndim == 2 and len(each.down) == rank == each.up.shape[1]
    if not fits or each.values.ndim != 1 or each.mask.shape != each.values.shape:
        raise ArgumentError(
            f"triplets[{name!r}] must have down (rank, in), values (rank,), up (out, rank) and mask (rank,); "
            f"got {', '.join(map(str, shapes))}"
        )
