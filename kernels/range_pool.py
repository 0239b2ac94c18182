"""Mean, maximum and weighted mean over any ranges of packed rows, in Triton.

The forward pass gives one program to each range and block of columns. The backward pass gives one to each
row: it visits the ranges that can hold the row, in a fixed order, so no atomics are needed and results
repeat bit for bit. Ranges are sorted by their start first, which makes the ranges of a row neighbours.
"""

# Triton bodies have no types that a checker could know.
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, no-any-return"

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_ROWS = 32
BLOCK_COLUMNS = 64


@triton.jit
def _forward_kernel(
    states, starts, ends, weights, output, kept, dim,
    REDUCTION: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    """One range: output (ranges, dim), and of it in kept what `_forward` says."""
    index = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    inside = columns < dim
    start, end = tl.load(starts + index), tl.load(ends + index)
    fill = float("-inf") if REDUCTION == "max" else 0.0
    result = tl.full((BLOCK_COLUMNS,), fill, tl.float32)
    best = tl.full((BLOCK_COLUMNS,), -1, tl.int64)
    weight_sums = tl.zeros((BLOCK_ROWS,), tl.float32)
    for first in range(start, end, BLOCK_ROWS):
        rows = first + tl.arange(0, BLOCK_ROWS).to(tl.int64)
        valid = (rows < end)[:, None] & inside[None, :]
        # Widened at once: bfloat16 arithmetic is neither exact here nor right in the interpreter.
        block = tl.load(states + rows[:, None] * dim + columns[None, :], mask=valid, other=fill).to(
            tl.float32
        )
        if REDUCTION == "max":
            block_best = tl.max(block, axis=0)
            # The smallest row that reaches the maximum, so that ties have one owner.
            reached = tl.where((block == block_best[None, :]) & valid, rows[:, None], end)
            better = (block_best > result) | (best < 0)
            best = tl.where(better, tl.min(reached, axis=0), best)
            result = tl.maximum(result, block_best)
        else:
            if REDUCTION == "weighted":
                weight = tl.load(weights + rows, mask=rows < end, other=0.0).to(tl.float32)
                weight_sums += weight
                block = block * weight[:, None]
            result += tl.sum(block, axis=0)
    if REDUCTION == "max":
        result = tl.where(best < 0, 0.0, result)
        tl.store(kept + index * dim + columns, best, mask=inside)
    elif REDUCTION == "weighted":
        weight_sum = tl.where(end > start, tl.sum(weight_sums, axis=0), 1.0)
        result = result / weight_sum
        tl.store(kept + index, weight_sum, mask=tl.program_id(1) == 0)
    else:
        result = result / tl.maximum(end - start, 1).to(tl.float32)
    tl.store(output + index * dim + columns, result, mask=inside)


@triton.jit
def _backward_kernel(
    gradients, starts, ends, kept, first_ranges, last_ranges, states, weights, output,
    d_states, d_weights, dim, REDUCTION: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    """One row: the sum of what the ranges that hold it pass back. Ranges are sorted by start.

    Of the gradient of its weight it is the part of these columns, in d_weights (rows, blocks of columns).
    """
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    inside = columns < dim
    total = tl.zeros((BLOCK_COLUMNS,), tl.float32)
    if REDUCTION == "weighted":
        state = tl.load(states + row * dim + columns, mask=inside, other=0.0).to(tl.float32)
        weight = tl.load(weights + row).to(tl.float32)
        weight_total = tl.zeros((BLOCK_COLUMNS,), tl.float32)
    for index in range(tl.load(first_ranges + row), tl.load(last_ranges + row)):
        start, end = tl.load(starts + index), tl.load(ends + index)
        holds = (start <= row) & (row < end)
        gradient = tl.load(gradients + index * dim + columns, mask=inside, other=0.0).to(tl.float32)
        if REDUCTION == "max":
            owner = tl.load(kept + index * dim + columns, mask=inside, other=-1)
            total += tl.where(owner == row, gradient, 0.0)
        elif REDUCTION == "weighted":
            pooled = tl.load(output + index * dim + columns, mask=inside, other=0.0)
            share = gradient / tl.load(kept + index)
            total += tl.where(holds, share * weight, 0.0)
            weight_total += tl.where(holds, share * (state - pooled), 0.0)
        else:
            total += tl.where(holds, gradient / tl.maximum(end - start, 1).to(tl.float32), 0.0)
    tl.store(d_states + row * dim + columns, total.to(d_states.dtype.element_ty), mask=inside)
    if REDUCTION == "weighted":
        tl.store(d_weights + row * tl.num_programs(1) + tl.program_id(1), tl.sum(weight_total, axis=0))


def _kept(states: Tensor, ranges: int, reduction: str) -> Tensor:
    """Room for what the backward pass needs of each range beside its bounds and its result.

    Of a maximum the rows that it came from (ranges, dim) int64, of a weighted mean its sum of weights
    (ranges,) float32, of a mean nothing.
    """
    match reduction:
        case "max":
            return torch.empty(ranges, states.shape[1], dtype=torch.int64, device=states.device)
        case "weighted":
            return torch.empty(ranges, dtype=torch.float32, device=states.device)
    return torch.empty(0, dtype=torch.float32, device=states.device)


def _forward(
    states: Tensor, starts: Tensor, ends: Tensor, weights: Tensor | None, reduction: str
) -> tuple[Tensor, Tensor]:
    """Pooled (ranges, dim) float32, and what `_kept` names."""
    ranges, dim = len(starts), states.shape[1]
    output = torch.empty(ranges, dim, dtype=torch.float32, device=states.device)
    kept = _kept(states, ranges, reduction)
    if ranges and dim:
        grid = (ranges, triton.cdiv(dim, BLOCK_COLUMNS))
        with torch.cuda.device_of(states):
            _forward_kernel[grid](
                states, starts, ends, weights, output, kept, dim, reduction, BLOCK_ROWS, BLOCK_COLUMNS
            )
    return output, kept


def _backward(
    gradients: Tensor, starts: Tensor, ends: Tensor, kept: Tensor, rows: int, dtype: torch.dtype,
    reduction: str, states: Tensor | None, weights: Tensor | None, output: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of states (rows, dim) in their type, and of weights (rows,) float32, (0,) without weights."""
    dim = gradients.shape[1]
    blocks = triton.cdiv(dim, BLOCK_COLUMNS)
    d_states = torch.empty(rows, dim, dtype=dtype, device=gradients.device)
    d_weights = torch.empty(
        0 if weights is None else rows, blocks, dtype=torch.float32, device=gradients.device
    )
    if rows and dim:
        starts, order = starts.sort(stable=True)
        ends, gradients = ends[order], gradients[order]
        kept = kept[order] if len(kept) else kept
        output = None if output is None else output[order]
        row = torch.arange(rows, device=gradients.device)
        # A row can lie in ranges that start at or before it, after those that all end by then.
        last_ranges = torch.searchsorted(starts, row, right=True)
        reach = ends.cummax(0).values if len(ends) else ends
        first_ranges = torch.searchsorted(reach, row, right=True)
        with torch.cuda.device_of(gradients):
            _backward_kernel[rows, blocks](
                gradients, starts, ends, kept, first_ranges, last_ranges, states, weights, output,
                d_states, d_weights, dim, reduction, BLOCK_COLUMNS,
            )  # fmt: skip
    return d_states, d_weights.sum(1)


@torch.library.custom_op("fastgenome::range_pool", mutates_args=())
def _pool(
    states: Tensor, starts: Tensor, ends: Tensor, weights: Tensor | None, reduction: str
) -> tuple[Tensor, Tensor]:
    return _forward(states, starts, ends, weights, reduction)


@_pool.register_fake
def _(states, starts, ends, weights, reduction):
    output = torch.empty(len(starts), states.shape[1], dtype=torch.float32, device=states.device)
    return output, _kept(states, len(starts), reduction)


@torch.library.custom_op("fastgenome::range_pool_backward", mutates_args=())
def _pool_backward(
    gradients: Tensor, starts: Tensor, ends: Tensor, kept: Tensor, rows: int, dtype: torch.dtype,
    reduction: str, states: Tensor | None, weights: Tensor | None, output: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return _backward(gradients, starts, ends, kept, rows, dtype, reduction, states, weights, output)


@_pool_backward.register_fake
def _(gradients, starts, ends, kept, rows, dtype, reduction, states, weights, output):
    d_states = torch.empty(rows, gradients.shape[1], dtype=dtype, device=gradients.device)
    return d_states, d_states.new_empty(0 if weights is None else rows, dtype=torch.float32)


def _setup_context(ctx, inputs, output):
    states, starts, ends, weights, ctx.reduction = inputs
    pooled, kept = output
    ctx.rows, ctx.dtype = len(states), states.dtype
    # A mean or a maximum need not keep the states.
    others = (None, None, None) if weights is None else (states, weights, pooled)
    ctx.save_for_backward(starts, ends, kept, *others)


def _differentiate(ctx, gradients, _):
    starts, ends, kept, states, weights, output = ctx.saved_tensors
    d_states, d_weights = _pool_backward(
        gradients.contiguous(), starts, ends, kept, ctx.rows, ctx.dtype, ctx.reduction,
        states, weights, output,
    )  # fmt: skip
    d_weights = None if weights is None else d_weights.to(weights.dtype)
    return d_states, None, None, d_weights, None


_pool.register_autograd(_differentiate, setup_context=_setup_context)


def range_pool(
    states: Tensor, starts: Tensor, ends: Tensor, reduction: str, *, weights: Tensor | None = None
) -> Tensor:
    """What `reference.range_pool` defines, for states and weights of any floating type."""
    if weights is not None:
        weights = weights.contiguous()
    output: Tensor = _pool(states.contiguous(), starts.contiguous(), ends.contiguous(), weights, reduction)[0]
    return output
