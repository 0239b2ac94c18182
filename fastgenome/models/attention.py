"""Attention within the sequences of a packed batch, and the position schemes that act inside it.

On a GPU one kernel takes the batch. Elsewhere neighbours of equal length share one call of
scaled_dot_product_attention, so a batch sorted by length needs few calls and none of them a mask.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgenome import ops
from fastgenome.models.blocked_attention import LENGTHS, blocked_attention
from fastgenome.models.device import native_bfloat16
from fastgenome.models.encoder import Packing, Run

# Queries whose scores against a whole sequence are held at a time.
_QUERIES = 512


def rotary_table(length: int, head_dim: int, base: float, device: torch.device) -> Tensor:
    """Unit rotations of at least `length` positions, (positions, head_dim / 2) complex64, cached.

    Angles are position * base ** (-2 i / head_dim), float32 throughout as published models compute them.
    """
    return _rotary_table(_round_up(length), head_dim, base, device)


@lru_cache(maxsize=16)
def _rotary_table(length: int, head_dim: int, base: float, device: torch.device) -> Tensor:
    # A cached inference tensor would later break training.
    with torch.inference_mode(False):
        frequencies = 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
        return torch.complex(angles.cos(), angles.sin()).to(device)


def rotate(query_key: Tensor, rotations: Tensor) -> Tensor:
    """Rotate neighbouring pairs (2 i, 2 i + 1) of each head by the row's angles; type and shape are kept.

    `query_key` is (rows, 2, heads, head_dim), `rotations` (rows, head_dim / 2) complex64. Published weights
    that pair i with i + head_dim / 2 are reordered once by `interleave_rotary`: one complex product then
    takes a quarter of the time of the two half products.
    """
    pairs = torch.view_as_complex(query_key.float().reshape(*query_key.shape[:-1], -1, 2))
    rotated = torch.view_as_real(pairs * rotations[:, None, None])
    return rotated.flatten(-2).to(query_key.dtype)


def interleave_rotary(weight: Tensor, heads: int) -> Tensor:
    """Reorder the output rows of a query or key weight or bias from half-split to neighbouring rotary pairs.

    `weight` is (heads * head_dim, ...). Scores do not change, since query and key move alike.
    """
    halves = weight.reshape(heads, 2, -1, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


def separate_rotary(weight: Tensor, heads: int) -> Tensor:
    """Undo `interleave_rotary`: from neighbouring pairs back to halves."""
    pairs = weight.reshape(heads, -1, 2, *weight.shape[1:])
    return pairs.transpose(1, 2).reshape(weight.shape)


def alibi_slopes(heads: int) -> Tensor:
    """Slopes of attention with linear biases (Press et al. 2022), (heads,) float32.

    With 2^m heads the geometric series 2^(-8 / 2^m), ...; else the series of the next smaller power of two,
    followed by every other member of the series of twice that power.
    """
    power = 2 ** math.floor(math.log2(heads))
    series = [2.0 ** (-8.0 * i / power) for i in range(1, power + 1)]
    finer = [2.0 ** (-4.0 * i / power) for i in range(1, 2 * power + 1, 2)]
    return torch.tensor((series + finer)[:heads])


def _round_up(length: int) -> int:
    return max(512, 1 << (length - 1).bit_length())


@lru_cache(maxsize=16)
def _alibi_line(length: int, heads: int, causal: bool, device: torch.device) -> Tensor:
    """Bias by distance: (heads, 2 length - 1), key minus query from -(length - 1) to length - 1."""
    with torch.inference_mode(False):
        distance = torch.arange(1 - length, length, dtype=torch.float32)
        line = -alibi_slopes(heads)[:, None] * distance.abs()
        if causal:
            line[:, length:] = -torch.inf
        return line.to(device)


def _alibi_bias(length: int, heads: int, causal: bool, device: torch.device) -> Tensor:
    """Bias of reversed queries against keys, (1, heads, length, length), as a view of O(length) numbers.

    The bias depends on key - query only; with the queries reversed it depends on a sum of indices, so both
    strides are 1 and no (length, length) table need exist.
    """
    longest = _round_up(length)
    line = _alibi_line(longest, heads, causal, device)
    bias = line.as_strided((1, heads, length, length), (0, 2 * longest - 1, 1, 1), longest - length)
    # Only the CPU kernel is known to accept overlapping strides.
    return bias if device.type == "cpu" else bias.contiguous()


def packed_attention(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, *, causal: bool = False, alibi: bool = False
) -> Tensor:
    """Attend within each sequence: (rows, heads, head_dim) three times -> (rows, heads * head_dim)."""
    if ops.has_packed_attention(query, alibi):
        slopes = _slopes_on(query.device, query.shape[1]) if alibi else None
        return ops.packed_attention(query, key, value, packing.offsets, causal=causal, slopes=slopes).flatten(
            1
        )
    return attention_by_runs(query, key, value, packing, causal=causal, alibi=alibi)


@lru_cache(maxsize=16)
def _slopes_on(device: torch.device, heads: int) -> Tensor:
    with torch.inference_mode(False):
        return alibi_slopes(heads).to(device)


def attention_by_runs(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, *, causal: bool = False, alibi: bool = False
) -> Tensor:
    """What `packed_attention` gives, by one call of PyTorch's for each run of sequences of one length."""
    # One division, whose gradient is one concatenation.
    rows = [run.sequences * run.length for run in packing.runs]
    queries, keys, values = (torch.split(x, rows) for x in (query, key, value))
    outputs = [
        _run_attention(q, k, v, run, causal, alibi)
        for q, k, v, run in zip(queries, keys, values, packing.runs, strict=True)
    ]
    if len(outputs) == 1:
        return outputs[0]
    return torch.cat(outputs) if outputs else query.flatten(1)


def _run_attention(query: Tensor, key: Tensor, value: Tensor, run: Run, causal: bool, alibi: bool) -> Tensor:
    """Attention of the rows of one run."""
    heads = query.shape[1]
    shape = (run.sequences, run.length, heads, -1)
    q, k, v = (x.view(shape).transpose(1, 2) for x in (query, key, value))
    if run.length in LENGTHS and _in_blocks(query):
        return _blocked(q, k, v, causal, alibi).flatten(2).flatten(0, 1)
    if alibi:
        bias = _alibi_bias(run.length, heads, causal, query.device)
        out = F.scaled_dot_product_attention(q.flip(2), k, v, attn_mask=bias).flip(2)
    else:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return out.transpose(1, 2).reshape(len(query), -1)


def _in_blocks(query: Tensor) -> bool:
    """Whether the bfloat16 units of a CPU can be used."""
    return query.dtype == torch.bfloat16 and query.device.type == "cpu" and _native(query.device)


_native = lru_cache(maxsize=4)(native_bfloat16)


def _blocked(query: Tensor, key: Tensor, value: Tensor, causal: bool, alibi: bool) -> Tensor:
    if not causal and not alibi:
        return blocked_attention(query, key, value, None)
    heads, length = query.shape[1:3]
    bias = _alibi_bias(length, heads, causal, query.device) if alibi else _causal_bias(length)
    return blocked_attention(query.flip(2), key, value, bias).flip(1)


def _causal_bias(length: int) -> Tensor:
    """0 for reversed queries against earlier keys and themselves, else -inf: (1, 1, length, length)."""
    places = torch.arange(length)
    later = places > places.flip(0)[:, None]
    return torch.zeros(1, 1, length, length, dtype=torch.bfloat16).masked_fill_(later, -torch.inf)


def attention_received(
    query: Tensor, key: Tensor, packing: Packing, *, causal: bool = False, alibi: bool = False
) -> Tensor:
    """Attention that each row receives: the mean over heads and the queries of its sequence, (rows,) float32.

    Query and key are (rows, heads, head_dim). The rows of one sequence sum to 1.
    """
    slopes = alibi_slopes(query.shape[1]).to(query.device) if alibi else None
    received = [query.new_zeros(0, dtype=torch.float32)]
    for run in packing.runs:
        for start in range(run.start, run.start + run.sequences * run.length, run.length):
            q, k = (x[start : start + run.length].transpose(0, 1).float() for x in (query, key))
            total = q.new_zeros(run.length)
            for first in range(0, run.length, _QUERIES):
                scores = q[:, first : first + _QUERIES] @ k.transpose(1, 2) * q.shape[-1] ** -0.5
                places = torch.arange(run.length, device=q.device)
                distance = places - places[first : first + _QUERIES, None]  # (queries, length)
                if slopes is not None:
                    scores = scores - slopes[:, None, None] * distance.abs()
                if causal:
                    scores = scores.masked_fill(distance > 0, -torch.inf)
                total = total + scores.softmax(-1).sum((0, 1))
            received.append(total / (len(q) * run.length))
    return torch.cat(received)
