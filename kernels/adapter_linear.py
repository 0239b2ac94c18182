"""An adapted linear layer in one pass over its input, with gradients and dropout, in Triton.

The forward kernel multiplies a block of rows by the weights and by all down-projections in the same loop,
so the input is read once; what the branches add, the gain and the bias follow while the block is in
registers. The backward kernel for the input has the same form. Dropout is the function of (seed, row,
column) of `dropout_mask`, made again wherever it is needed. Sums over rows are cut into segments of a
fixed size that are added in a fixed order: no atomics, results repeat bit for bit.
"""

# Triton bodies have no types that a checker could know.
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, no-any-return"

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from fastgenome.errors import ArgumentError
from fastgenome.kernels import dropout_mask
from fastgenome.kernels.adapter_composition import folded
from fastgenome.kernels.reference import LowRank

TYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_RANKS = 128

# Rows, columns and depth of a block, warps, stages of the pipeline, by the bytes of a number. Exact float32
# has no tensor cores and needs more registers.
SETTINGS = {2: (128, 128, 32, 8, 3), 4: (64, 64, 16, 4, 2)}

# Rows that one program adds up for the gradients of projections; a multiple of every depth.
SEGMENT = 1024

FIRST: tl.constexpr = tl.constexpr(dropout_mask.FIRST)
SECOND: tl.constexpr = tl.constexpr(dropout_mask.SECOND + 2**32)

_KEYS = ["row_key", "column_key", "dropped"]


@triton.jit
def _mix_last(words):
    words = words * FIRST
    words = words ^ (words >> 15)
    words = words * SECOND
    return words ^ (words >> 16)


@triton.jit
def _kept(rows, columns, row_key, column_key, dropped):
    """Whether the mask keeps each element of (rows, columns), as dropout_mask.kept_blocks has it."""
    row = rows.to(tl.uint32) ^ row_key.to(tl.uint32)
    column = (columns >> 1).to(tl.uint32) ^ column_key.to(tl.uint32)
    row, column = _mix_last(row ^ (row >> 16)), _mix_last(column ^ (column >> 16))
    words = _mix_last(row[:, None] ^ column[None, :])
    halves = tl.where((columns & 1)[None, :] == 1, words >> 16, words) & 0xFFFF
    # As signed 16 bits, from the least number up.
    return (halves ^ 0x8000).to(tl.int32) >= dropped


@triton.jit
def _load(pointer, rows, columns, row_count, column_count):
    """Block (rows, columns) of a matrix whose rows lie one after the other; zeros outside it."""
    inside = (rows < row_count)[:, None] & (columns < column_count)[None, :]
    # 2^31 elements are within reach: 131,072 tokens of 768 numbers, 32 sequences.
    return tl.load(
        pointer + rows[:, None].to(tl.int64) * column_count + columns[None, :], mask=inside, other=0.0
    )


@triton.jit
def _store(pointer, rows, columns, row_count, column_count, block):
    inside = (rows < row_count)[:, None] & (columns < column_count)[None, :]
    addresses = pointer + rows[:, None].to(tl.int64) * column_count + columns[None, :]
    tl.store(addresses, block.to(pointer.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_KEYS)
def _forward_kernel(
    x, weight, bias, gain, down, up, output, low_output, product, rows, inner, outer, ranks,
    row_key, column_key, dropped,
    DROPOUT: tl.constexpr, KEEPS: tl.constexpr, BLOCK_RANKS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, BLOCK_DEPTH: tl.constexpr,
):  # fmt: skip
    """One block of output (rows, outer); the first of its row also writes low_output (rows, ranks)."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    rank = tl.arange(0, BLOCK_RANKS)
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    low = tl.zeros((BLOCK_ROWS, BLOCK_RANKS), tl.float32)
    for step in range(0, inner, BLOCK_DEPTH):
        depth = step + tl.arange(0, BLOCK_DEPTH)
        a = _load(x, row, depth, rows, inner)
        total = tl.dot(a, tl.trans(_load(weight, column, depth, outer, inner)), total, input_precision="ieee")
        if DROPOUT:
            a = tl.where(_kept(row, depth, row_key, column_key, dropped), a, 0.0)
        low = tl.dot(a, tl.trans(_load(down, rank, depth, ranks, inner)), low, input_precision="ieee")
    low = low.to(x.dtype.element_ty)
    total = tl.dot(low, _load(up, rank, column, ranks, outer), total, input_precision="ieee")
    if tl.program_id(1) == 0:
        _store(low_output, row, rank, rows, ranks, low)
    if KEEPS:
        _store(product, row, column, rows, outer, total)
    if gain is not None:
        total *= tl.load(gain + column, mask=column < outer, other=0.0).to(tl.float32)[None, :]
    if bias is not None:
        total += tl.load(bias + column, mask=column < outer, other=0.0).to(tl.float32)[None, :]
    _store(output, row, column, rows, outer, total)


@triton.jit(do_not_specialize=_KEYS)
def _input_gradient_kernel(
    gradient, weight, gain, down, up, output, low_output, rows, inner, outer, ranks,
    row_key, column_key, dropped,
    DROPOUT: tl.constexpr, BLOCK_RANKS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, BLOCK_DEPTH: tl.constexpr,
):  # fmt: skip
    """One block of the input's gradient (rows, inner); the first of its row also that of `low`."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    rank = tl.arange(0, BLOCK_RANKS)
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    low = tl.zeros((BLOCK_ROWS, BLOCK_RANKS), tl.float32)
    for step in range(0, outer, BLOCK_DEPTH):
        depth = step + tl.arange(0, BLOCK_DEPTH)
        g = _load(gradient, row, depth, rows, outer)
        if gain is not None:
            factor = tl.load(gain + depth, mask=depth < outer, other=0.0).to(tl.float32)
            g = (g.to(tl.float32) * factor[None, :]).to(gradient.dtype.element_ty)
        total = tl.dot(g, _load(weight, depth, column, outer, inner), total, input_precision="ieee")
        low = tl.dot(g, tl.trans(_load(up, rank, depth, ranks, outer)), low, input_precision="ieee")
    low = low.to(gradient.dtype.element_ty)
    added = tl.dot(low, _load(down, rank, column, ranks, inner), input_precision="ieee")
    if DROPOUT:
        added = tl.where(_kept(row, column, row_key, column_key, dropped), added, 0.0)
    if tl.program_id(1) == 0:
        _store(low_output, row, rank, rows, ranks, low)
    _store(output, row, column, rows, inner, total + added)


@triton.jit(do_not_specialize=_KEYS)
def _projection_gradient_kernel(
    low, x, output, rows, width, ranks, row_key, column_key, dropped,
    DROPOUT: tl.constexpr, SEGMENT: tl.constexpr, BLOCK_RANKS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr, BLOCK_DEPTH: tl.constexpr,
):  # fmt: skip
    """lowᵀ x over one segment of rows, x dropped or not: part of output (segments, ranks, width) float32."""
    segment = tl.program_id(0)
    column = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    rank = tl.arange(0, BLOCK_RANKS)
    total = tl.zeros((BLOCK_RANKS, BLOCK_COLUMNS), tl.float32)
    for step in range(segment * SEGMENT, tl.minimum((segment + 1) * SEGMENT, rows), BLOCK_DEPTH):
        row = step + tl.arange(0, BLOCK_DEPTH)
        a = _load(x, row, column, rows, width)
        if DROPOUT:
            a = tl.where(_kept(row, column, row_key, column_key, dropped), a, 0.0)
        total = tl.dot(tl.trans(_load(low, row, rank, rows, ranks)), a, total, input_precision="ieee")
    _store(output + segment.to(tl.int64) * ranks * width, rank, column, ranks, width, total)


def _constants(x: Tensor, ranks: int) -> dict[str, int]:
    rows, columns, depth, warps, stages = SETTINGS[x.element_size()]
    return {
        "BLOCK_RANKS": max(16, triton.next_power_of_2(ranks)),
        "BLOCK_ROWS": rows,
        "BLOCK_COLUMNS": columns,
        "BLOCK_DEPTH": depth,
        "num_warps": warps,
        "num_stages": stages,
    }


def _mask(dropout: float, seed: int) -> tuple[int, int, int]:
    """What a kernel needs to make the mask: keys of rows and columns, 16-bit threshold."""
    return *dropout_mask.keys(seed), dropout_mask.threshold(dropout) + 2**15


def _projection_gradient(low: Tensor, x: Tensor, dropout: float, seed: int) -> Tensor:
    """lowᵀ x, (ranks, width) float32, x dropped."""
    (rows, ranks), width = low.shape, x.shape[1]
    constants = _constants(x, ranks)
    del constants["BLOCK_ROWS"]
    segments = triton.cdiv(rows, SEGMENT)
    partial = torch.empty(segments, ranks, width, dtype=torch.float32, device=x.device)
    if partial.numel():
        grid = (segments, triton.cdiv(width, constants["BLOCK_COLUMNS"]))
        with torch.cuda.device_of(x):
            _projection_gradient_kernel[grid](
                low, x, partial, rows, width, ranks, *_mask(dropout, seed), dropout > 0, SEGMENT, **constants
            )
    return partial.sum(0)


@torch.library.custom_op("fastgenome::adapter_linear", mutates_args=())
def _adapter(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gain: Tensor | None,
    down: Tensor,
    up: Tensor,
    dropout: float,
    seed: int,
    keeps: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output (rows, out); low (rows, ranks); with `keeps` what the gain is multiplied with, else empty.

    Projections may be finer than x; they are cast here, so that their gradients stay as fine.
    """
    (rows, inner), outer, ranks = x.shape, len(weight), len(down)
    down, up = down.to(x.dtype), up.to(x.dtype)
    output, low, product = (x.new_empty(shape) for shape in _shapes(x, weight, down, keeps))
    if output.numel():
        constants = _constants(x, ranks)
        grid = (
            triton.cdiv(rows, constants["BLOCK_ROWS"]),
            triton.cdiv(outer, constants["BLOCK_COLUMNS"]),
        )
        with torch.cuda.device_of(x):
            _forward_kernel[grid](
                x, weight, bias, gain, down, up, output, low, product, rows, inner, outer, ranks,
                *_mask(dropout, seed), dropout > 0, keeps, **constants,
            )  # fmt: skip
    return output, low, product


def _shapes(x: Tensor, weight: Tensor, down: Tensor, keeps: bool) -> list[tuple[int, int]]:
    rows, outer = len(x), len(weight)
    return [(rows, outer), (rows, len(down)), (rows if keeps else 0, outer)]


@_adapter.register_fake
def _(x, weight, bias, gain, down, up, dropout, seed, keeps):
    return tuple(x.new_empty(shape) for shape in _shapes(x, weight, down, keeps))


@torch.library.custom_op("fastgenome::adapter_linear_backward", mutates_args=())
def _adapter_backward(
    gradient: Tensor,
    weight: Tensor,
    gain: Tensor | None,
    down: Tensor,
    up: Tensor,
    dropout: float,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Gradients of the input, (rows, in), and of what the down-projections gave, (rows, ranks)."""
    (rows, outer), inner, ranks = gradient.shape, weight.shape[1], len(down)
    down, up = down.to(weight.dtype), up.to(weight.dtype)
    d_x, d_low = gradient.new_empty(rows, inner), gradient.new_empty(rows, ranks)
    if d_x.numel():
        constants = _constants(gradient, ranks)
        grid = (
            triton.cdiv(rows, constants["BLOCK_ROWS"]),
            triton.cdiv(inner, constants["BLOCK_COLUMNS"]),
        )
        with torch.cuda.device_of(gradient):
            _input_gradient_kernel[grid](
                gradient, weight, gain, down, up, d_x, d_low, rows, inner, outer, ranks,
                *_mask(dropout, seed), dropout > 0, **constants,
            )  # fmt: skip
    return d_x, d_low


@_adapter_backward.register_fake
def _(gradient, weight, gain, down, up, dropout, seed):
    rows = len(gradient)
    return gradient.new_empty(rows, weight.shape[1]), gradient.new_empty(rows, len(down))


@torch.library.custom_op("fastgenome::projection_gradient", mutates_args=())
def _projection(low: Tensor, x: Tensor, dropout: float, seed: int) -> Tensor:
    return _projection_gradient(low, x, dropout, seed)


@_projection.register_fake
def _(low, x, dropout, seed):
    return low.new_empty(low.shape[1], x.shape[1], dtype=torch.float32)


def _setup_context(ctx, inputs, output):
    x, weight, bias, gain, down, up, ctx.dropout, ctx.seed, _ = inputs
    _, low, product = output
    ctx.save_for_backward(x, weight, gain, down, up, low, product)
    ctx.bias_dtype = None if bias is None else bias.dtype


def _differentiate(ctx, gradient, _low, _product):
    x, weight, gain, down, up, low, product = ctx.saved_tensors
    _, needs_weight, needs_bias, needs_gain, needs_down, needs_up, *_ = ctx.needs_input_grad
    gradient = gradient.contiguous()
    d_x, d_low = _adapter_backward(gradient, weight, gain, down, up, ctx.dropout, ctx.seed)
    d_weight = d_bias = d_gain = d_down = d_up = None
    if needs_weight:
        d_weight = gradient.T @ x
        d_weight = d_weight if gain is None else (d_weight * gain[:, None]).to(weight.dtype)
    if needs_bias:
        d_bias = gradient.sum(0, dtype=torch.float32).to(ctx.bias_dtype)
    if needs_gain:
        d_gain = (gradient * product).sum(0, dtype=torch.float32).to(gain.dtype)
    if needs_down:
        d_down = _projection(d_low, x, ctx.dropout, ctx.seed).to(down.dtype)
    if needs_up:
        d_up = _projection(low, gradient, 0.0, 0)
        d_up = (d_up if gain is None else d_up * gain).to(up.dtype)
    return d_x, d_weight, d_bias, d_gain, d_down, d_up, None, None, None


_adapter.register_autograd(_differentiate, setup_context=_setup_context)


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
    """What `reference.adapter_linear` defines, for `x` in the type of `weight`.

    float32, float16 or bfloat16, at least one branch, at most 128 ranks in all; sums are float32, products of
    float32 exact. Gradients have the type of what they belong to. Raises ArgumentError for anything else.
    """
    ranks = sum(len(branch.down) for branch in branches)
    if x.dtype not in TYPES or x.dtype != weight.dtype:
        raise ArgumentError(
            "x and weight must share one type of float32, float16 and bfloat16, "
            f"got {x.dtype} and {weight.dtype}"
        )
    if not 0 < ranks <= MAX_RANKS:
        raise ArgumentError(f"branches must have 1 to {MAX_RANKS} ranks in all, got {ranks}")
    if not x.is_cuda and x.dtype == torch.bfloat16:
        raise ArgumentError("bfloat16 needs a GPU: Triton's interpreter multiplies its bit patterns")
    down, ups = folded(branches, dropout)
    assert down is not None
    # One up-projection over all output rows, with zeros where a branch has none: (ranks, out).
    whole = [
        F.pad(up, (branch.start, len(weight) - branch.start - up.shape[1]))
        for branch, up in zip(branches, ups, strict=True)
    ]
    up = torch.cat(whole)
    keeps = gain is not None and gain.requires_grad and torch.is_grad_enabled()
    x, weight, down = x.contiguous(), weight.contiguous(), down.contiguous()
    output: Tensor = _adapter(x, weight, bias, gain, down, up, dropout, seed, keeps)[0]
    return output
