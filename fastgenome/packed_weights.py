"""Copies of weights in the arrangement that oneDNN multiplies fastest on this processor.

Of products with thousands of rows they save a tenth to a fifth of the time, of those with few rows up to
half. A copy is made when unchanged weights are used for the second time, so a single pass costs no more
memory. oneDNN gives the same bits with a copy and without one, except of a single row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from fastgenome.tensor_state import State, state_of

# All copies together; beyond it weights are used as they are.
LIMIT_BYTES = 2 << 30

# Smaller products gain nothing.
_MIN_WEIGHTS = 1 << 14

# The arrangement hardly depends on the number of rows that it is made for.
_ROWS = 512

# What a copy is of: the weight or its transpose, in how many parts, which divide its rows or its columns.
_Kind = tuple[str, int]


@dataclass
class _Seen:
    """The state in which weights were last used, and their copies once they were used again."""

    state: State
    copies: dict[_Kind, tuple[Tensor, ...]] = field(default_factory=dict)


_keeps = True

# Typed as a mapping of tensors, which it is by identity.
_seen = cast(MutableMapping[Tensor, _Seen], WeakTensorKeyDictionary())


def packed(weight: Tensor, parts: int = 1) -> tuple[Tensor, ...]:
    """Equal parts of the rows of a weight (out, in), for products on the CPU: copies or itself."""
    return _copies(weight, ("rows", parts), lambda: weight.chunk(parts))


def packed_depths(weight: Tensor, parts: int, *, transposed: bool) -> tuple[Tensor, ...]:
    """Equal parts of the columns of a weight (out, in), or of its transpose: copies or itself."""
    if transposed:
        return _copies(weight, ("transposed", parts), lambda: weight.T.chunk(parts, 1))
    # Rows with gaps between them would give other bits.
    return _copies(
        weight, ("columns", parts), lambda: tuple(part.contiguous() for part in weight.chunk(parts, 1))
    )


@contextmanager
def no_copies(wanted: bool = True) -> Iterator[None]:
    """For a while make no copies: of weights that are put together from shards anew in every pass."""
    global _keeps
    kept, _keeps = _keeps, _keeps and not wanted
    try:
        yield
    finally:
        _keeps = kept


def _copies(weight: Tensor, kind: _Kind, cut: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    if not _keeps or not isinstance(weight, nn.Parameter) or weight.is_inference():
        return cut()
    if weight.numel() < _MIN_WEIGHTS:
        return cut()
    seen = _seen.get(weight)
    state = state_of(weight)
    if seen is None or seen.state != state:
        _seen[weight] = _Seen(state)
        return cut()
    # The whole weight is one part of its rows as of its columns.
    kind = ("rows", 1) if kind == ("columns", 1) else kind
    if kind not in seen.copies:
        if _bytes_of_copies() + weight.nbytes > LIMIT_BYTES:
            return cut()
        with torch.no_grad():
            reorder = torch.ops.mkldnn._reorder_linear_weight
            seen.copies[kind] = tuple(reorder(part.detach().contiguous(), _ROWS) for part in cut())
    return seen.copies[kind]


def _bytes_of_copies() -> int:
    return sum(weight.nbytes * len(seen.copies) for weight, seen in list(_seen.items()))
