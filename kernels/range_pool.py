"""Mean and maximum over any ranges of packed rows, in Triton.

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
    states, starts, ends, output, arguments, dim,
    MAXIMUM: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    """One range: output (ranges, dim), and for a maximum the row it came from in arguments."""
    index = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    inside = columns < dim
    start, end = tl.load(starts + index), tl.load(ends + index)
    result = tl.full((BLOCK_COLUMNS,), float("-inf") if MAXIMUM else 0.0, tl.float32)
    best = tl.full((BLOCK_COLUMNS,), -1, tl.int64)
    for first in range(start, end, BLOCK_ROWS):
        rows = first + tl.arange(0, BLOCK_ROWS).to(tl.int64)
        valid = (rows < end)[:, None] & inside[None, :]
        fill = float("-inf") if MAXIMUM else 0.0
        # Widened at once: bfloat16 arithmetic is neither exact here nor right in the interpreter.
        block = tl.load(states + rows[:, None] * dim + columns[None, :], mask=valid, other=fill).to(
            tl.float32
        )
        if MAXIMUM:
            block_best = tl.max(block, axis=0)
            # The smallest row that reaches the maximum, so that ties have one owner.
            reached = tl.where((block == block_best[None, :]) & valid, rows[:, None], end)
            better = (block_best > result) | (best < 0)
            best = tl.where(better, tl.min(reached, axis=0), best)
            result = tl.maximum(result, block_best)
        else:
            result += tl.sum(block, axis=0)
    if MAXIMUM:
        result = tl.where(best < 0, 0.0, result)
        tl.store(arguments + index * dim + columns, best, mask=inside)
    else:
        result = result / tl.maximum(end - start, 1).to(tl.float32)
    tl.store(output + index * dim + columns, result, mask=inside)


@triton.jit
def _backward_kernel(
    gradients, starts, ends, arguments, first_ranges, last_ranges, output, dim,
    MAXIMUM: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    """One row: the sum of what the ranges that hold it pass back. Ranges are sorted by start."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    inside = columns < dim
    total = tl.zeros((BLOCK_COLUMNS,), tl.float32)
    for index in range(tl.load(first_ranges + row), tl.load(last_ranges + row)):
        start, end = tl.load(starts + index), tl.load(ends + index)
        gradient = tl.load(gradients + index * dim + columns, mask=inside, other=0.0).to(tl.float32)
        if MAXIMUM:
            owner = tl.load(arguments + index * dim + columns, mask=inside, other=-1)
            total += tl.where(owner == row, gradient, 0.0)
        else:
            holds = (start <= row) & (row < end)
            total += tl.where(holds, gradient / tl.maximum(end - start, 1).to(tl.float32), 0.0)
    tl.store(output + row * dim + columns, total, mask=inside)


def _forward(states: Tensor, starts: Tensor, ends: Tensor, maximum: bool) -> tuple[Tensor, Tensor]:
    """Pooled (ranges, dim) float32, and the rows of the maxima (ranges, dim) int64 (empty for a mean)."""
    ranges, dim = len(starts), states.shape[1]
    output = torch.empty(ranges, dim, dtype=torch.float32, device=states.device)
    arguments = torch.empty((ranges, dim) if maximum else (0, dim), dtype=torch.int64, device=states.device)
    if ranges and dim:
        grid = (ranges, triton.cdiv(dim, BLOCK_COLUMNS))
        _forward_kernel[grid](
            states, starts, ends, output, arguments, dim, maximum, BLOCK_ROWS, BLOCK_COLUMNS
        )
    return output, arguments


def _backward(
    gradients: Tensor, starts: Tensor, ends: Tensor, arguments: Tensor, rows: int, maximum: bool
) -> Tensor:
    """Gradient of the states, (rows, dim) float32."""
    dim = gradients.shape[1]
    output = torch.empty(rows, dim, dtype=torch.float32, device=gradients.device)
    if not (rows and dim):
        return output
    starts, order = starts.sort(stable=True)
    ends, gradients = ends[order], gradients[order].contiguous()
    if maximum:
        arguments = arguments[order].contiguous()
    row = torch.arange(rows, device=gradients.device)
    # A row can lie in ranges that start at or before it, from the first whose predecessors all end by then.
    last_ranges = torch.searchsorted(starts, row, right=True)
    reach = ends.cummax(0).values if len(ends) else ends
    first_ranges = torch.searchsorted(reach, row, right=True)
    grid = (rows, triton.cdiv(dim, BLOCK_COLUMNS))
    _backward_kernel[grid](
        gradients, starts, ends, arguments, first_ranges, last_ranges, output, dim, maximum, BLOCK_COLUMNS
    )
    return output


class _RangePool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states, starts, ends, maximum):
        output, arguments = _forward(states, starts, ends, maximum)
        ctx.save_for_backward(starts, ends, arguments)
        ctx.rows, ctx.maximum, ctx.dtype = len(states), maximum, states.dtype
        return output

    @staticmethod
    def backward(ctx, gradients):
        starts, ends, arguments = ctx.saved_tensors
        result = _backward(gradients.contiguous(), starts, ends, arguments, ctx.rows, ctx.maximum)
        return result.to(ctx.dtype), None, None, None


def range_pool(states: Tensor, starts: Tensor, ends: Tensor, reduction: str) -> Tensor:
    """Reduce ranges of rows, in any order and overlapping at will, to one row each.

    `states` is (total, dim) of any floating type; `starts` and `ends` are (ranges,) int64, 0-based and
    half-open. `reduction` is "mean" or "max". Returns (ranges, dim) float32, accumulated in float32; an empty
    range gives zeros. The gradient of a maximum goes to the first row that reaches it.
    """
    return _RangePool.apply(states.contiguous(), starts.contiguous(), ends.contiguous(), reduction == "max")
