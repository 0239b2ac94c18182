"""Attention in bfloat16 on a CPU: products in blocks whose scores stay in the cache, softmax in float32.

PyTorch's fused attention computes bfloat16 at the rate of float32 there; oneDNN's batched products use the
processor's own bfloat16 units. Scores, and what gradients of weights become, are rounded to bfloat16, as by
attention written out in that type.
"""

# A Function's context has no types that a checker could know.
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, no-any-return"

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Scores held at a time: 4 MiB of them in bfloat16, 8 MiB where they are float32.
_SCORES = 1 << 21

# Where blocks are faster than fused attention: of shorter sequences there is too little to multiply, and the
# scores of longer ones fill the cache with few queries.
LENGTHS = range(32, 1501)


def blocked_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Attend within each sequence: (sequences, heads, length, head_dim) bfloat16 three times.

    `bias` (1, heads or 1, length, length), of any strides, is added to the scores: in float32, or as a mask
    of 0 and -inf in bfloat16, which is exact and faster. Returns (sequences, length, heads, head_dim).
    Differentiable once; `bias` gets no gradient.
    """
    found: Tensor = _BlockedAttention.apply(query, key, value, bias)
    return found


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, bias):
        ctx.save_for_backward(query, key, value, bias)
        sequences, heads, length, head_dim = query.shape
        output = query.new_empty(sequences, length, heads, head_dim)
        for block, weights in _weights(query, key, bias):
            mixed = torch.bmm(weights, _joined(value[block.part]))
            output[block.part, block.rows] = mixed.unflatten(0, (-1, heads)).transpose(1, 2)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        query, key, value, bias = ctx.saved_tensors
        gradient, heads = gradient.transpose(1, 2), query.shape[1]
        scale = query.shape[-1] ** -0.5
        # Of keys and values several blocks add up.
        finer = torch.float32 if _block_sizes(query)[1] < query.shape[2] else query.dtype
        d_query, d_key, d_value = (
            torch.zeros(x.shape, dtype=dtype)
            for x, dtype in ((query, query.dtype), (key, finer), (value, finer))
        )
        for block, weights in _weights(query, key, bias):
            part, rows = block
            q, g = (_joined(x[part, :, rows]) for x in (query, gradient))
            k, v = (_joined(x[part]) for x in (key, value))
            d_weights = torch.bmm(g, v.transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            by_head = (-1, heads)
            d_query[part, :, rows] = _scaled_product(d_scores, k, scale).unflatten(0, by_head)
            d_key[part] += _scaled_product(d_scores.transpose(1, 2), q, scale).unflatten(0, by_head)
            d_value[part] += torch.bmm(weights.transpose(1, 2), g).unflatten(0, by_head)
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), None


class _Block(NamedTuple):
    """Some sequences, and some rows of each as queries."""

    part: slice
    rows: slice


def _block_sizes(query: Tensor) -> tuple[int, int]:
    """Sequences and, of each, queries in a block."""
    sequences, heads, length, _ = query.shape
    group = min(sequences, max(1, _SCORES // (heads * length * length)))
    return group, min(length, max(1, _SCORES // (heads * length)))


def _weights(query: Tensor, key: Tensor, bias: Tensor | None) -> Iterator[tuple[_Block, Tensor]]:
    """Block after block with its attention weights, (sequences of the block * heads, queries, length).

    They hold until the next block.
    """
    sequences, heads, length, head_dim = query.shape
    group, rows = _block_sizes(query)
    scores = query.new_empty(group * heads, rows, length)
    finer = bias is not None and bias.dtype == torch.float32
    softmax = scores.new_empty(scores.shape, dtype=torch.float32 if finer else None)
    for first in range(0, sequences, group):
        part = slice(first, min(first + group, sequences))
        q, k = _joined(query[part]), _joined(key[part])
        for start in range(0, length, rows):
            block = slice(start, min(start + rows, length))
            found = scores[: len(q), : block.stop - start]
            weights = softmax[: len(q), : block.stop - start]
            torch.baddbmm(found, q[:, block], k.transpose(1, 2), beta=0, alpha=head_dim**-0.5, out=found)
            by_head = (-1, heads, *found.shape[1:])
            if bias is not None and finer:
                torch.add(found.view(by_head), bias[:, :, block], out=weights.view(by_head))
                torch.softmax(weights, -1, out=weights)
                weights = found.copy_(weights)
            else:
                if bias is not None:
                    found.view(by_head).add_(bias[:, :, block])
                # PyTorch computes it in float32 and rounds the result.
                torch.softmax(found, -1, out=weights)
            yield _Block(part, block), weights


def _joined(x: Tensor) -> Tensor:
    """(sequences, heads, length, head_dim) -> (sequences * heads, length, head_dim)."""
    return x.flatten(0, 1)


def _scaled_product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    out = a.new_empty(len(a), a.shape[1], b.shape[2])
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)
