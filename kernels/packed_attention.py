"""Attention within the sequences of a packed batch, with ALiBi slopes and gradients, in Triton.

One program takes one block of a sequence's rows and one head, and passes over the other side of that
sequence alone: queries over keys for the output and the gradient of the queries, keys over queries for the
gradients of keys and values. The softmax is accumulated on the way (Dao et al. 2022, FlashAttention), so no
(length, length) table exists; the backward passes compute the weights again from the logarithm of their sum.
Every number has one owner and a fixed order of summation: no atomics, and a sequence's result does not
depend on its batch.

Scores are kept in units of log 2, for which the hardware has an exponential.
"""

# Triton bodies have no types that a checker could know.
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, no-any-return"

from functools import cache, lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgenome.errors import ArgumentError

MAX_HEAD_DIM = 128
TYPES = (torch.float32, torch.float16, torch.bfloat16)

# Rows that a program owns. The same on both sides, so that one table of blocks serves all three kernels.
BLOCK_ROWS = 64

# What to try on a GPU, by the bytes of a number: rows passed over in one step, warps, stages of the pipeline.
# Compiled for an H200 with 64 numbers per head, the half types spill no register; exact float32 needs small
# steps for that.
SETTINGS = {
    2: [(64, 4, 3), (64, 8, 2), (32, 4, 2), (128, 8, 2), (16, 4, 1)],
    4: [(32, 8, 2), (16, 8, 2), (16, 8, 1)],
}

TUNING_ROWS = 8192

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def _block(blocks, BLOCK_ROWS: tl.constexpr):
    """This program's entry in the table: first row of the sequence, its length, first position, positions."""
    entry = blocks + tl.program_id(0).to(tl.int64) * 3
    first = tl.load(entry + 2).to(tl.int32)
    return tl.load(entry), tl.load(entry + 1).to(tl.int32), first, first + tl.arange(0, BLOCK_ROWS)


@triton.jit
def _load_rows(pointer, stride, positions, length, HEAD_DIM: tl.constexpr, BLOCK_DIM: tl.constexpr):
    """Rows at these positions of the sequence that starts at `pointer`; zeros outside it, (rows, dims)."""
    dims = tl.arange(0, BLOCK_DIM)
    inside = (positions < length)[:, None] & (dims < HEAD_DIM)[None, :]
    # 2^31 elements are within reach: 131,072 tokens of 768 numbers, 32 sequences.
    return tl.load(pointer + positions[:, None].to(tl.int64) * stride + dims[None, :], mask=inside, other=0.0)


@triton.jit
def _store_rows(pointer, stride, positions, length, rows, HEAD_DIM: tl.constexpr, BLOCK_DIM: tl.constexpr):
    dims = tl.arange(0, BLOCK_DIM)
    inside = (positions < length)[:, None] & (dims < HEAD_DIM)[None, :]
    addresses = pointer + positions[:, None].to(tl.int64) * stride + dims[None, :]
    tl.store(addresses, rows.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def _scores(left, right, left_positions, right_positions, scale, slope, PRECISION: tl.constexpr):
    """Scores of each row of `left` with each row of `right`, with their bias, in units of log 2."""
    scores = tl.dot(left, tl.trans(right), input_precision=PRECISION) * (scale * LOG2_E)
    if slope is not None:
        distance = tl.abs(left_positions[:, None] - right_positions[None, :]).to(tl.float32)
        scores -= slope * LOG2_E * distance
    return scores


@triton.jit
def _hide(scores, queries, keys, length, CAUSAL: tl.constexpr):
    """Scores with -inf at keys behind the sequence's end, and at keys that come after their query."""
    seen = keys < length
    if CAUSAL:
        seen = seen & (keys <= queries)
    return tl.where(seen, scores, float("-inf"))


@triton.jit
def _forward_kernel(
    query, key, value, slopes, blocks, output, logsumexp, total,
    query_row, query_head, key_row, key_head, value_row, value_head, scale,
    HEAD_DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_STEP: tl.constexpr,
):  # fmt: skip
    """One block of queries: output (total, heads, head_dim), logsumexp (heads, total) in units of log 2."""
    start, length, first, rows = _block(blocks, BLOCK_ROWS)
    head, heads = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    slope = None if slopes is None else tl.load(slopes + head)
    key += start * key_row + head * key_head
    value += start * value_row + head * value_head
    q = _load_rows(
        query + start * query_row + head * query_head, query_row, rows, length, HEAD_DIM, BLOCK_DIM
    )
    highest = tl.full((BLOCK_ROWS,), float("-inf"), tl.float32)
    weight = tl.zeros((BLOCK_ROWS,), tl.float32)
    mixed = tl.zeros((BLOCK_ROWS, BLOCK_DIM), tl.float32)
    last = tl.minimum(first + BLOCK_ROWS, length) if CAUSAL else length
    # Every query of the block sees every key before `whole`; only the rest needs a mask.
    whole = (first if CAUSAL else length) // BLOCK_STEP * BLOCK_STEP
    for MASKED in tl.static_range(2):
        for step in range(whole if MASKED else 0, last if MASKED else whole, BLOCK_STEP):
            keys = step + tl.arange(0, BLOCK_STEP)
            k = _load_rows(key, key_row, keys, length, HEAD_DIM, BLOCK_DIM)
            scores = _scores(q, k, rows, keys, scale, slope, PRECISION)
            if MASKED:
                scores = _hide(scores, rows[:, None], keys[None, :], length, CAUSAL)
            raised = tl.maximum(highest, tl.max(scores, 1))
            shrink = tl.exp2(highest - raised)
            weights = tl.exp2(scores - raised[:, None])
            v = _load_rows(value, value_row, keys, length, HEAD_DIM, BLOCK_DIM)
            mixed = tl.dot(weights.to(v.dtype), v, mixed * shrink[:, None], input_precision=PRECISION)
            weight = weight * shrink + tl.sum(weights, 1)
            highest = raised
    output += (start * heads + head) * HEAD_DIM
    _store_rows(output, heads * HEAD_DIM, rows, length, mixed / weight[:, None], HEAD_DIM, BLOCK_DIM)
    tl.store(logsumexp + head * total + start + rows, highest + tl.log2(weight), mask=rows < length)


@triton.jit
def _query_gradient_kernel(
    query, key, value, slopes, blocks, output, logsumexp, gradient, query_gradient, delta, total,
    query_row, query_head, key_row, key_head, value_row, value_head, scale,
    HEAD_DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_STEP: tl.constexpr,
):  # fmt: skip
    """One block of queries: its gradient, and what the other kernel needs, delta (heads, total)."""
    start, length, first, rows = _block(blocks, BLOCK_ROWS)
    head, heads = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    slope = None if slopes is None else tl.load(slopes + head)
    key += start * key_row + head * key_head
    value += start * value_row + head * value_head
    packed, width = (start * heads + head) * HEAD_DIM, heads * HEAD_DIM
    q = _load_rows(
        query + start * query_row + head * query_head, query_row, rows, length, HEAD_DIM, BLOCK_DIM
    )
    do = _load_rows(gradient + packed, width, rows, length, HEAD_DIM, BLOCK_DIM)
    o = _load_rows(output + packed, width, rows, length, HEAD_DIM, BLOCK_DIM)
    # What the softmax takes off each row: output · its gradient.
    inner = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    place = head * total + start + rows
    tl.store(delta + place, inner, mask=rows < length)
    normaliser = tl.load(logsumexp + place, mask=rows < length, other=0.0)
    dq = tl.zeros((BLOCK_ROWS, BLOCK_DIM), tl.float32)
    last = tl.minimum(first + BLOCK_ROWS, length) if CAUSAL else length
    whole = (first if CAUSAL else length) // BLOCK_STEP * BLOCK_STEP
    for MASKED in tl.static_range(2):
        for step in range(whole if MASKED else 0, last if MASKED else whole, BLOCK_STEP):
            keys = step + tl.arange(0, BLOCK_STEP)
            k = _load_rows(key, key_row, keys, length, HEAD_DIM, BLOCK_DIM)
            v = _load_rows(value, value_row, keys, length, HEAD_DIM, BLOCK_DIM)
            scores = _scores(q, k, rows, keys, scale, slope, PRECISION)
            if MASKED:
                scores = _hide(scores, rows[:, None], keys[None, :], length, CAUSAL)
            weights = tl.exp2(scores - normaliser[:, None])
            ds = weights * (tl.dot(do, tl.trans(v), input_precision=PRECISION) - inner[:, None])
            dq = tl.dot(ds.to(k.dtype), k, dq, input_precision=PRECISION)
    _store_rows(query_gradient + packed, width, rows, length, dq * scale, HEAD_DIM, BLOCK_DIM)


@triton.jit
def _key_value_gradient_kernel(
    query, key, value, slopes, blocks, logsumexp, gradient, delta, key_gradient, value_gradient, total,
    query_row, query_head, key_row, key_head, value_row, value_head, scale,
    HEAD_DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_STEP: tl.constexpr,
):  # fmt: skip
    """One block of keys and their values: both gradients, from the scores transposed."""
    start, length, first, rows = _block(blocks, BLOCK_ROWS)
    head, heads = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    slope = None if slopes is None else tl.load(slopes + head)
    query += start * query_row + head * query_head
    packed, width = (start * heads + head) * HEAD_DIM, heads * HEAD_DIM
    k = _load_rows(key + start * key_row + head * key_head, key_row, rows, length, HEAD_DIM, BLOCK_DIM)
    v = _load_rows(
        value + start * value_row + head * value_head, value_row, rows, length, HEAD_DIM, BLOCK_DIM
    )
    dk = tl.zeros((BLOCK_ROWS, BLOCK_DIM), tl.float32)
    dv = tl.zeros((BLOCK_ROWS, BLOCK_DIM), tl.float32)
    low = first // BLOCK_STEP * BLOCK_STEP if CAUSAL else 0
    for step in range(low, length, BLOCK_STEP):
        queries = step + tl.arange(0, BLOCK_STEP)
        q = _load_rows(query, query_row, queries, length, HEAD_DIM, BLOCK_DIM)
        do = _load_rows(gradient + packed, width, queries, length, HEAD_DIM, BLOCK_DIM)
        place = head * total + start + queries
        # Queries behind the end get weight exp2(-inf) = 0; keys behind it fill rows that are not stored.
        normaliser = tl.load(logsumexp + place, mask=queries < length, other=float("inf"))
        inner = tl.load(delta + place, mask=queries < length, other=0.0)
        scores = _scores(k, q, rows, queries, scale, slope, PRECISION)
        if CAUSAL:
            scores = _hide(scores, queries[None, :], rows[:, None], length, CAUSAL)
        weights = tl.exp2(scores - normaliser[None, :])
        dv = tl.dot(weights.to(do.dtype), do, dv, input_precision=PRECISION)
        ds = weights * (tl.dot(v, tl.trans(do), input_precision=PRECISION) - inner[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
    _store_rows(key_gradient + packed, width, rows, length, dk * scale, HEAD_DIM, BLOCK_DIM)
    _store_rows(value_gradient + packed, width, rows, length, dv, HEAD_DIM, BLOCK_DIM)


@cache
def _tuned(kernel, size: int):
    """The kernel with the fastest of its settings, found by _tune_once and kept on disk.

    Triton leaves out what does not fit the GPU's memory; the last setting is small enough for any.
    """
    configs = [
        triton.Config({"BLOCK_STEP": step}, num_warps=warps, num_stages=stages)
        for step, warps, stages in SETTINGS[size]
    ]
    return triton.autotune(configs, key=["HEAD_DIM", "CAUSAL", "PRECISION"], cache_results=True)(kernel)


@lru_cache(maxsize=16)
def _blocks(offsets: tuple[int, ...], total: int, device: torch.device) -> Tensor:
    """Table of (blocks, 3) int64: first row of the sequence, its length, first position of the block.

    Cached by content, so that the layers of a model share one copy to the device. Long sequences come first,
    because a late one would leave the GPU idle.
    """
    bounds = torch.tensor(offsets, dtype=torch.int64)
    if not offsets or offsets[0] != 0 or offsets[-1] != total or bool((bounds.diff() < 0).any()):
        raise ArgumentError(f"offsets must rise from 0 to {total}, the number of rows, got {offsets}"[:300])
    lengths, order = bounds.diff().sort(descending=True, stable=True)
    counts = (lengths + BLOCK_ROWS - 1) // BLOCK_ROWS
    sequence = torch.repeat_interleave(torch.arange(len(counts)), counts)
    number = torch.arange(len(sequence)) - (counts.cumsum(0) - counts)[sequence]
    table = torch.stack((bounds[order][sequence], lengths[sequence], number * BLOCK_ROWS), 1)
    return table.to(device)


def _precision(dtype: torch.dtype) -> str:
    """How float32 numbers are multiplied: exactly, or rounded to tf32 where torch has been told to."""
    return (
        "tf32" if dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"
    )


def _launch(
    kernel, inputs: list[Tensor], others: list[Tensor], offsets: Tensor, slopes, causal: bool
) -> None:
    """Run a kernel on all blocks and heads of query, key and value; `others` follow the table of blocks."""
    query = inputs[0]
    total, heads, head_dim = query.shape
    blocks = _blocks(tuple(offsets.tolist()), total, query.device)
    strides = [stride for x in inputs for stride in x.stride()[:2]]
    constants = {
        "HEAD_DIM": head_dim,
        "BLOCK_DIM": max(16, triton.next_power_of_2(head_dim)),
        "CAUSAL": causal,
        "PRECISION": _precision(query.dtype),
        "BLOCK_ROWS": BLOCK_ROWS,
    }
    size = query.element_size()
    if isinstance(kernel, triton.JITFunction):
        kernel = _tuned(kernel, size)
    else:  # The interpreter has nothing to tune.
        constants["BLOCK_STEP"] = SETTINGS[size][0][0]
    with torch.cuda.device_of(query):
        kernel[len(blocks), heads](
            *inputs, slopes, blocks, *others, total, *strides, head_dim**-0.5, **constants
        )


def _rows_contiguous(*tensors: Tensor) -> list[Tensor]:
    """Tensors whose heads lie in one piece each; views into a joint projection are taken as they are."""
    return [x if x.stride(2) == 1 else x.contiguous() for x in tensors]


def _forward(query, key, value, offsets, slopes, causal) -> tuple[Tensor, Tensor]:
    """Output (total, heads, head_dim), and (heads, total) float32 logarithms to base 2 of softmax sums."""
    output = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    logsumexp = torch.empty(query.shape[1::-1], dtype=torch.float32, device=query.device)
    if output.numel():
        inputs = _rows_contiguous(query, key, value)
        _launch(_forward_kernel, inputs, [output, logsumexp], offsets, slopes, causal)
    return output, logsumexp


def _backward(
    gradient, query, key, value, offsets, slopes, output, logsumexp, causal
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value, each (total, heads, head_dim) in their type."""
    dq, dk, dv = (torch.empty(query.shape, dtype=query.dtype, device=query.device) for _ in range(3))
    if gradient.numel():
        inputs = _rows_contiguous(query, key, value)
        gradient = gradient.contiguous()
        delta = torch.empty(logsumexp.shape, dtype=torch.float32, device=query.device)
        # This order: the first makes the delta that the second reads.
        others = [output, logsumexp, gradient, dq, delta]
        _launch(_query_gradient_kernel, inputs, others, offsets, slopes, causal)
        others = [logsumexp, gradient, delta, dk, dv]
        _launch(_key_value_gradient_kernel, inputs, others, offsets, slopes, causal)
    return dq, dk, dv


def _tune(query: Tensor, slopes: Tensor | None, causal: bool, *, backward: bool) -> None:
    """Before the first call of a kind, let its kernels find their settings."""
    if query.is_cuda:
        kind = query.dtype, query.shape[2], _precision(query.dtype), slopes is not None, causal, query.device
        _tune_once(*kind, backward)


@cache
def _tune_once(dtype, head_dim, precision, has_slopes, causal, device, backward) -> None:
    """Tune on a batch of a usual size, not on the first that comes: settings depend on no batch.

    16 sequences of 512 rows with 12 heads: 1,536 programs, all of one value, so that no generator is moved.
    """
    x = torch.ones(TUNING_ROWS, 12, head_dim, dtype=dtype, device=device)
    offsets = torch.arange(0, TUNING_ROWS + 1, 512)
    inputs = (x, x, x, offsets, torch.ones(12, device=device) if has_slopes else None)
    output, logsumexp = _forward(*inputs, causal)
    if backward:
        _backward(x, *inputs, output, logsumexp, causal)


@torch.library.custom_op("fastgenome::packed_attention", mutates_args=())
def _attention(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, slopes: Tensor | None, causal: bool
) -> tuple[Tensor, Tensor]:
    _tune(query, slopes, causal, backward=False)
    return _forward(query, key, value, offsets, slopes, causal)


@_attention.register_fake
def _(query, key, value, offsets, slopes, causal):
    return query.new_empty(query.shape), query.new_empty(query.shape[1::-1], dtype=torch.float32)


@torch.library.custom_op("fastgenome::packed_attention_backward", mutates_args=())
def _attention_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    slopes: Tensor | None,
    output: Tensor,
    logsumexp: Tensor,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    _tune(query, slopes, causal, backward=True)
    return _backward(gradient, query, key, value, offsets, slopes, output, logsumexp, causal)


@_attention_backward.register_fake
def _(gradient, query, key, value, offsets, slopes, output, logsumexp, causal):
    return tuple(query.new_empty(query.shape) for _ in range(3))


def _setup_context(ctx, inputs, output):
    *tensors, ctx.causal = inputs
    ctx.save_for_backward(*tensors, *output)


def _differentiate(ctx, gradient, _):
    query, key, value, offsets, slopes, output, logsumexp = ctx.saved_tensors
    gradients = _attention_backward(
        gradient, query, key, value, offsets, slopes, output, logsumexp, ctx.causal
    )
    return *gradients, None, None, None


_attention.register_autograd(_differentiate, setup_context=_setup_context)


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

    `query`, `key` and `value` are (total, heads, head_dim) float32, float16 or bfloat16 with head_dim up to
    128; `offsets` is (n + 1,) int64 from 0 to total, on the CPU to spare a wait for the device. Returns
    (total, heads, head_dim) in their type; softmax and sums are float32, products of float32 are exact
    unless torch is set to tf32. Slopes get no gradient. Raises ArgumentError for other types and shapes.
    """
    if query.dim() != 3 or not query.shape == key.shape == value.shape or query.shape[2] > MAX_HEAD_DIM:
        shapes = ", ".join(str(tuple(x.shape)) for x in (query, key, value))
        raise ArgumentError(
            "query, key and value must have one shape (total, heads, head_dim), "
            f"head_dim at most {MAX_HEAD_DIM}, got {shapes}"
        )
    if query.dtype not in TYPES or not query.dtype == key.dtype == value.dtype:
        raise ArgumentError(
            "query, key and value must share one type of float32, float16 and bfloat16, "
            f"got {query.dtype}, {key.dtype}, {value.dtype}"
        )
    if not query.is_cuda and query.dtype == torch.bfloat16:
        raise ArgumentError("bfloat16 needs a GPU: Triton's interpreter multiplies its bit patterns")
    if slopes is not None:
        if slopes.shape != query.shape[1:2]:
            raise ArgumentError(
                f"slopes must be ({query.shape[1]},), one per head, got {tuple(slopes.shape)}"
            )
        slopes = slopes.detach().to(query.device, torch.float32).contiguous()
    output: Tensor = _attention(query, key, value, offsets, slopes, causal)[0]
    return output
