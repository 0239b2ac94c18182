"""The kernels' definitions in plain PyTorch: the truth they are tested against, and the path without a GPU.

Every public function has the name and the signature of its kernel. This file imports no triton.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgenome.kernels.dropout_mask import keep_mask, keep_share

RangeReduction = Literal["mean", "max", "weighted"]


class LowRank(NamedTuple):
    """One low-rank branch of an adapted layer: scale · (x downᵀ ⊙ values) upᵀ on a range of output rows."""

    down: Tensor  # A, (rank, in)
    up: Tensor  # B, (rows, rank)
    values: Tensor | None  # λ, (rank,), already masked; None is all ones
    start: int  # the first output row that it adds to, of start … start + rows
    scale: float


def range_pool(
    states: Tensor,
    starts: Tensor,
    ends: Tensor,
    reduction: RangeReduction,
    *,
    weights: Tensor | None = None,
) -> Tensor:
    """Reduce ranges of rows, in any order and overlapping at will, to one row each.

    `states` is (total, dim) of any floating type; `starts` and `ends` are (ranges,) int64, 0-based and
    half-open. Returns (ranges, dim) float32, accumulated in float32; an empty range gives zeros. The
    gradient of a maximum goes to the first row that reaches it. "weighted" is Σ wᵢ xᵢ / Σ wᵢ for `weights`
    (total,), and what float32 gives for a division by zero (NaN or infinities) where they sum to zero.
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
    if weights is None:
        return F.embedding_bag(rows, states, bags, mode=reduction)
    weights = weights.float()
    sums = F.embedding_bag(rows, states, bags, mode="sum", per_sample_weights=weights[rows])
    weight_sums = F.embedding_bag(rows, weights[:, None], bags, mode="sum")  # (ranges, 1)
    return sums / weight_sums.masked_fill((lengths == 0)[:, None], 1)


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


def adapter_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    branches: Sequence[LowRank],
    *,
    gain: Tensor | None = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """gain ⊙ (x Wᵀ + Σ scale · ((drop(x) Aᵀ) ⊙ λ) Bᵀ) + bias, each branch on its own range of output rows.

    (rows, in) -> (rows, out) in the type of `weight`, (out, in); `gain` and `bias` are (out,). The dropout
    is that of `keep_mask`, on what the branches see alone: Hu et al. 2021 (LoRA), Zhang et al. 2023 (λ:
    AdaLoRA), Liu et al. 2024 (gain: DoRA).
    """
    x = x.to(weight.dtype)
    y = F.linear(x, weight)
    seen = x
    if dropout:
        seen = x.where(keep_mask(x, dropout=dropout, seed=seed), 0) / keep_share(dropout)
    for down, up, values, start, scale in branches:
        t = seen @ down.to(x.dtype).T
        if values is not None:
            t = t * values.to(x.dtype)
        y = y + F.pad(scale * (t @ up.to(x.dtype).T), (start, y.shape[1] - start - len(up)))
    if gain is not None:
        y = y * gain.to(x.dtype)
    return y if bias is None else y + bias


def multi_adapter_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offsets: Tensor,
    index: Tensor,
    *,
    down: Tensor,
    up: Tensor,
    scale: Tensor,
) -> Tensor:
    """x Wᵀ + bias + scale_k · (x A_kᵀ) B_kᵀ, where sequence i of the packed batch has adapter k = index[i].

    `x` is (total, in), `weight` (out, in), `offsets` (n + 1,) and `index` (n,) int64, -1 for no adapter;
    `down` is (k, rank, in), `up` (k, out, rank), `scale` (k,). Returns (total, out) in the type of `weight`.
    """
    x = x.to(weight.dtype)
    additions = [x.new_empty(0, len(weight))]
    for (start, end), k in zip(pairwise(offsets.tolist()), index.tolist(), strict=True):
        low = x.new_zeros(end - start, len(weight))
        if k >= 0:
            low = x[start:end] @ down[k].to(x.dtype).T @ up[k].to(x.dtype).T * scale[k].to(x.dtype)
        additions.append(low)
    return F.linear(x, weight, bias) + torch.cat(additions)
