"""Copies of weights in the arrangement that oneDNN multiplies fastest on this processor.

Of bfloat16 products with thousands of rows they save a tenth of the time, of those with few rows up to half.
A copy is made when unchanged weights are used for the second time, so a single pass costs no more memory.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
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


@dataclass
class _Seen:
    """The state in which weights were last used, and their copies once they were used again."""

    state: State
    copies: tuple[Tensor, ...] = ()


# Typed as a mapping of tensors, which it is by identity.
_seen = cast(MutableMapping[Tensor, _Seen], WeakTensorKeyDictionary())


def packed(weight: Tensor, parts: int = 1) -> tuple[Tensor, ...]:
    """Equal parts of a weight (out, in), for products without gradients on the CPU: copies or itself."""
    if not isinstance(weight, nn.Parameter) or weight.is_inference() or weight.numel() < _MIN_WEIGHTS:
        return weight.chunk(parts)
    seen = _seen.get(weight)
    state = state_of(weight)
    if seen is None or seen.state != state:
        _seen[weight] = _Seen(state)
        return weight.chunk(parts)
    copies = seen.copies
    if len(copies) != parts:
        if _bytes_of_copies() + weight.nbytes > LIMIT_BYTES:
            return weight.chunk(parts)
        with torch.no_grad():
            reorder = torch.ops.mkldnn._reorder_linear_weight
            copies = tuple(reorder(part, _ROWS) for part in weight.detach().chunk(parts))
        seen.copies = copies
    return copies


def _bytes_of_copies() -> int:
    return sum(weight.nbytes for weight, seen in list(_seen.items()) if seen.copies)
