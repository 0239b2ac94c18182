"""Ways to attend within the sequences of a packed batch: kernels, calls run by run, and padding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgenome import ops
from fastgenome.kernels.packed_attention import packed_attention
from fastgenome.models.attention import alibi_slopes, attention_by_runs
from fastgenome.models.encoder import packing_of

Attention = Callable[..., Tensor]


def packed_inputs(
    lengths: list[int], heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Query, key and value (total, heads, head_dim), the offsets, and a gradient for the output."""
    generator = torch.Generator().manual_seed(0)
    shape = (4, sum(lengths), heads, head_dim)
    *inputs, gradient = torch.randn(shape, generator=generator).to(device, dtype)
    return inputs, torch.tensor([0, *lengths]).cumsum(0), gradient


def output_and_gradients(function: Attention, inputs: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """The output and the gradients of query, key and value, (total, heads, head_dim) each."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    output = function(*leaves).view(gradient.shape)
    return [output.detach(), *torch.autograd.grad(output, leaves, gradient)]


def packed_ways(inputs: list[Tensor], offsets: Tensor, *, causal: bool, alibi: bool) -> dict[str, Attention]:
    """The Triton kernel, what fastgenome.ops chooses, and PyTorch's attention run by run."""
    query = inputs[0]
    slopes = alibi_slopes(query.shape[1]).to(query.device) if alibi else None
    packing = packing_of(offsets, query.device)
    return {
        "kernel": partial(packed_attention, offsets=offsets, causal=causal, slopes=slopes),
        "chosen": partial(ops.packed_attention, offsets=offsets, causal=causal, slopes=slopes),
        "by_runs": partial(attention_by_runs, packing=packing, causal=causal, alibi=alibi),
    }


def padded_attention(inputs: list[Tensor], offsets: Tensor, *, alibi: bool) -> Attention:
    """Pad, attend with a bias, pack again. The bias (n or 1, heads or 1, longest, longest) is made once."""
    query = inputs[0]
    lengths = offsets.diff().to(query.device)
    longest = int(lengths.max())
    position = torch.arange(longest, device=query.device)
    inside = position < lengths[:, None]  # (n, longest)
    bias = torch.zeros(1, 1, longest, longest, device=query.device)
    if alibi:
        slopes = alibi_slopes(query.shape[1]).to(query.device)
        bias = bias - slopes[:, None, None] * (position[:, None] - position).abs()
    if not inside.all():
        bias = bias.masked_fill(~inside[:, None, None], -torch.inf)
    bias = bias.to(query.dtype)

    def attend(*packed: Tensor) -> Tensor:
        empty = packed[0].new_zeros(*inside.shape, *packed[0].shape[1:])
        q, k, v = (empty.index_put((inside,), x).transpose(1, 2) for x in packed)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias if alibi or len(bias) > 1 else None)
        return mixed.transpose(1, 2)[inside]

    return attend
