"""From the hidden states of tokens to one vector per sequence or window."""

from collections.abc import Callable, Sequence
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from fastgenome.errors import ArgumentError
from fastgenome.ops import range_pool

Pooling = Literal["mean", "max", "cls", "last", "pooler", "attention"]


def parse_pooling(pooling: str | Sequence[str]) -> tuple[Pooling, ...]:
    """Names of poolings from "mean", "mean+max" or a sequence of names; ArgumentError for any other."""
    names = pooling.split("+") if isinstance(pooling, str) else list(pooling)
    unknown = [name for name in names if name not in get_args(Pooling)]
    if unknown or not names:
        raise ArgumentError(
            f"pooling must be one or more of {', '.join(get_args(Pooling))}, joined by '+', got {pooling!r}"
        )
    return cast(tuple[Pooling, ...], tuple(names))


def pool(
    states: Tensor,
    starts: Tensor,
    ends: Tensor,
    poolings: Sequence[Pooling],
    *,
    first: Tensor | None = None,
    pooler: Callable[[Tensor], Tensor] | None = None,
    attention: Tensor | None = None,
) -> Tensor:
    """Pool ranges [start, end) of rows of `states` (total, dim) to (ranges, len(poolings) * dim) float32.

    "mean" and "max" reduce the range, "last" takes its last row, and "cls" the rows `first` (default:
    `starts`), which may lie outside the ranges; "pooler" gives those to `pooler`. "attention" is the mean
    weighted by `attention` (total,), what each row receives. Ranges may overlap, but none may be empty.
    """
    if bool((starts >= ends).any()):
        raise ArgumentError(f"range {int((starts >= ends).nonzero()[0])} is empty and cannot be pooled")
    starts, ends = starts.to(states.device), ends.to(states.device)
    parts = []
    for pooling in poolings:
        match pooling:
            case "cls" | "pooler":
                rows = states[starts if first is None else first.to(states.device)].float()
                parts.append(rows if pooling == "cls" or pooler is None else pooler(rows))
            case "last":
                parts.append(states[ends - 1].float())
            case "attention":
                if attention is None:
                    raise ArgumentError("pooling='attention' needs a model with attention")
                parts.append(range_pool(states, starts, ends, "weighted", weights=attention))
            case "mean" | "max":
                parts.append(range_pool(states, starts, ends, pooling))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
