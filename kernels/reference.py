"""The kernels' definitions in plain PyTorch: the truth they are tested against, and the path without a GPU.

Every public function has the name and the signature of its kernel. This file imports no triton.
"""

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

RangeReduction = Literal["mean", "max"]


class LowRank(NamedTuple):
    """One low-rank branch: adds scale · ((x Aᵀ) ⊙ λ) Bᵀ to the output rows from `start` on."""

    down: Tensor
    up: Tensor
    values: Tensor | None
    start: int
    scale: float


def range_pool(states: Tensor, starts: Tensor, ends: Tensor, reduction: RangeReduction) -> Tensor:
    """Reduce ranges of rows, in any order and overlapping at will, to one row each.

    `states` is (total, dim) of any floating type; `starts` and `ends` are (ranges,) int64, 0-based and
    half-open. Returns (ranges, dim) float32, accumulated in float32; an empty range gives zeros. The
    gradient of a maximum goes to the first row that reaches it.
    """
    states = states.float()
    if reduction == "max" and not (states.requires_grad and torch.is_grad_enabled()):
        # Ten times the speed of embedding_bag's maximum, but amax would share gradients among ties.
        pairs = zip(starts.tolist(), ends.tolist(), strict=True)
        empty = states.new_zeros(states.shape[1])
        maxima = [states[start:end].amax(0) if end > start else empty for start, end in pairs]
        return torch.stack(maxima) if maxima else states.new_empty(0, states.shape[1])
    lengths = ends - starts
    bags = lengths.cumsum(0) - lengths
    total = int(lengths.sum())
    # (covered rows,): the row of each member of each range, ranges one after the other
    rows = torch.arange(total, device=states.device) + torch.repeat_interleave(
        starts - bags, lengths, output_size=total
    )
    return F.embedding_bag(rows, states, bags, mode=reduction)


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    *,
    causal: bool = False,
    slopes: Tensor | None = None,
) -> Tensor:
    """Attend within each sequence of a packed batch; `slopes` (heads,) adds the ALiBi bias -slope * |i - j|.

    `query`, `key` and `value` are (total, heads, head_dim), `offsets` (n + 1,) int64. Returns
    (total, heads, head_dim) in their type; scores and softmax are float32 (float64 for float64 input).
    """
    outputs = [query[:0]]
    for start, end in pairwise(offsets.tolist()):
        q, k, v = (x[start:end].transpose(0, 1) for x in (query, key, value))  # (heads, length, head_dim)
        wide = torch.promote_types(q.dtype, torch.float32)
        scores = q.to(wide) @ k.to(wide).transpose(1, 2) * q.shape[-1] ** -0.5
        position = torch.arange(end - start, device=q.device)
        distance = position[:, None] - position
        if slopes is not None:
            scores = scores - slopes.to(wide)[:, None, None] * distance.abs()
        if causal:
            scores = scores.masked_fill(distance < 0, -torch.inf)
        outputs.append((scores.softmax(-1) @ v.to(wide)).to(query.dtype).transpose(0, 1))
    return torch.cat(outputs)
