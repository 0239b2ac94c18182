"""Many low-rank adapters in one packed batch, each sequence with its own, with gradients, in Triton.

The base product is PyTorch's. A table cuts the sequences into blocks of rows, sorted by adapter; one kernel
takes a block down to its adapter's ranks, one takes it up again onto the base product, and one adds up the
gradient of an adapter over the blocks that use it, in their order: no atomics, results repeat bit for bit.
The backward pass is the same three kernels with the projections exchanged.
"""

# Triton bodies have no types that a checker could know.
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, no-any-return"

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from fastgenome.errors import ArgumentError
from fastgenome.kernels.multi_adapter_composition import scaled_up

TYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_RANK = 128

BLOCK_ROWS = 32
BLOCK_COLUMNS = 64


@triton.jit
def _load(pointer, rows, columns, end, width):
    """Block (rows, columns) of a matrix of this width; zeros from row `end` on."""
    inside = (rows < end)[:, None] & (columns < width)[None, :]
    return tl.load(pointer + rows[:, None].to(tl.int64) * width + columns[None, :], mask=inside, other=0.0)


@triton.jit
def _store(pointer, rows, columns, end, width, block):
    inside = (rows < end)[:, None] & (columns < width)[None, :]
    addresses = pointer + rows[:, None].to(tl.int64) * width + columns[None, :]
    tl.store(addresses, block.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def _down_kernel(
    x, matrices, blocks, low, width, rank,
    BLOCK_RANK: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    """One block of rows: low (total, rank) = x Mᵀ with its adapter's M (rank, width), or 0."""
    entry = blocks + tl.program_id(0).to(tl.int64) * 3
    adapter, start, end = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)
    rows, ranks = start + tl.arange(0, BLOCK_ROWS), tl.arange(0, BLOCK_RANK)
    total = tl.zeros((BLOCK_ROWS, BLOCK_RANK), tl.float32)
    if adapter >= 0:
        for step in range(0, width, BLOCK_COLUMNS):
            columns = step + tl.arange(0, BLOCK_COLUMNS)
            matrix = _load(matrices + adapter * rank * width, ranks, columns, rank, width)
            total = tl.dot(
                _load(x, rows, columns, end, width), tl.trans(matrix), total, input_precision="ieee"
            )
    _store(low, rows, ranks, end, rank, total)


@triton.jit
def _up_kernel(
    low, matrices, blocks, base, output, width, rank,
    BLOCK_RANK: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    """One block of output (total, width) = base + low M; a base of None is 0."""
    entry = blocks + tl.program_id(0).to(tl.int64) * 3
    adapter, start, end = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)
    rows, ranks = start + tl.arange(0, BLOCK_ROWS), tl.arange(0, BLOCK_RANK)
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    if base is not None:
        total += _load(base, rows, columns, end, width).to(tl.float32)
    if adapter >= 0:
        matrix = _load(matrices + adapter * rank * width, ranks, columns, rank, width)
        total = tl.dot(_load(low, rows, ranks, end, rank), matrix, total, input_precision="ieee")
    _store(output, rows, columns, end, width, total)


@triton.jit
def _projection_gradient_kernel(
    low, x, blocks, firsts, output, width, rank,
    BLOCK_RANK: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    """One adapter: lowᵀ x over its blocks, columns of output (adapters, rank, width) float32."""
    adapter = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    ranks = tl.arange(0, BLOCK_RANK)
    total = tl.zeros((BLOCK_RANK, BLOCK_COLUMNS), tl.float32)
    for block in range(tl.load(firsts + adapter), tl.load(firsts + adapter + 1)):
        start, end = tl.load(blocks + block * 3 + 1), tl.load(blocks + block * 3 + 2)
        rows = start + tl.arange(0, BLOCK_ROWS)
        left = tl.trans(_load(low, rows, ranks, end, rank))
        total = tl.dot(left, _load(x, rows, columns, end, width), total, input_precision="ieee")
    _store(output + adapter * rank * width, ranks, columns, rank, width, total)


@lru_cache(maxsize=16)
# A cached inference tensor would later break training.
@torch.inference_mode(False)
def _blocks(
    offsets: tuple[int, ...], index: tuple[int, ...], adapters: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Table of (blocks, 3) int64: adapter, first row, end; first block of each adapter (adapters + 1,).

    Cached by content, so that the layers of a model share one copy to the device.
    """
    bounds, whose = torch.tensor(offsets, dtype=torch.int64), torch.tensor(index, dtype=torch.int64)
    counts = (bounds.diff() + BLOCK_ROWS - 1) // BLOCK_ROWS
    sequence = torch.repeat_interleave(torch.arange(len(counts)), counts)
    number = torch.arange(len(sequence)) - (counts.cumsum(0) - counts)[sequence]
    start = bounds[:-1][sequence] + number * BLOCK_ROWS
    end = torch.minimum(start + BLOCK_ROWS, bounds[1:][sequence])
    table = torch.stack((whose[sequence], start, end), 1)[whose[sequence].argsort(stable=True)]
    firsts = torch.searchsorted(table[:, 0].contiguous(), torch.arange(adapters + 1))
    return table.to(device), firsts.to(device)


def _launch(kernel, grid: tuple[int, ...], tensors: list[Tensor | None], width: int, rank: int) -> None:
    if 0 in grid:
        return
    block_rank = max(16, triton.next_power_of_2(rank))
    with torch.cuda.device_of(tensors[0]):
        kernel[grid](*tensors, width, rank, block_rank, BLOCK_ROWS, BLOCK_COLUMNS)


def _down(x: Tensor, matrices: Tensor, blocks: Tensor) -> Tensor:
    """(total, width), (adapters, rank, width) -> (total, rank)."""
    _, rank, width = matrices.shape
    low = x.new_empty(len(x), rank)
    _launch(_down_kernel, (len(blocks),), [x, matrices, blocks, low], width, rank)
    return low


def _up(low: Tensor, matrices: Tensor, blocks: Tensor, base: Tensor | None) -> Tensor:
    """(total, rank), (adapters, rank, width) -> (total, width), added to the base."""
    _, rank, width = matrices.shape
    output = low.new_empty(len(low), width)
    grid = (len(blocks), triton.cdiv(width, BLOCK_COLUMNS))
    _launch(_up_kernel, grid, [low, matrices, blocks, base, output], width, rank)
    return output


def _projection_gradient(low: Tensor, x: Tensor, blocks: Tensor, firsts: Tensor) -> Tensor:
    """(total, rank), (total, width) -> (adapters, rank, width) float32."""
    adapters, rank, width = len(firsts) - 1, low.shape[1], x.shape[1]
    output = low.new_empty(adapters, rank, width, dtype=torch.float32)
    grid = (adapters, triton.cdiv(width, BLOCK_COLUMNS))
    _launch(_projection_gradient_kernel, grid, [low, x, blocks, firsts, output], width, rank)
    return output


@torch.library.custom_op("fastgenome::multi_adapter", mutates_args=())
def _adapters(
    x: Tensor, base: Tensor, down: Tensor, up: Tensor, blocks: Tensor, firsts: Tensor
) -> tuple[Tensor, Tensor]:
    """Base (total, out) with what the adapters add, and low (total, rank).

    Projections may be finer than x; they are cast here, so that their gradients stay as fine.
    """
    low = _down(x, down.to(x.dtype), blocks)
    return _up(low, up.to(x.dtype), blocks, base), low


@_adapters.register_fake
def _(x, base, down, up, blocks, firsts):
    return torch.empty_like(base), x.new_empty(len(x), down.shape[1])


@torch.library.custom_op("fastgenome::multi_adapter_backward", mutates_args=())
def _adapters_backward(
    gradient: Tensor, x: Tensor, low: Tensor, down: Tensor, up: Tensor, blocks: Tensor, firsts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, of down and of up, the latter two float32."""
    down, up = down.to(x.dtype), up.to(x.dtype)
    d_low = _down(gradient, up, blocks)
    d_down = _projection_gradient(d_low, x, blocks, firsts)
    return _up(d_low, down, blocks, None), d_down, _projection_gradient(low, gradient, blocks, firsts)


@_adapters_backward.register_fake
def _(gradient, x, low, down, up, blocks, firsts):
    d_down, d_up = (p.new_empty(p.shape, dtype=torch.float32) for p in (down, up))
    return torch.empty_like(x), d_down, d_up


def _setup_context(ctx, inputs, output):
    x, _, down, up, blocks, firsts = inputs
    ctx.save_for_backward(x, output[1], down, up, blocks, firsts)


def _differentiate(ctx, gradient, _):
    x, low, down, up, blocks, firsts = ctx.saved_tensors
    d_x, d_down, d_up = _adapters_backward(gradient.contiguous(), x, low, down, up, blocks, firsts)
    return d_x, gradient, d_down.to(down.dtype), d_up.to(up.dtype), None, None


_adapters.register_autograd(_differentiate, setup_context=_setup_context)


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
    """What `reference.multi_adapter_linear` defines, for `x` in the type of `weight`.

    float32, float16 or bfloat16, ranks up to 128; `offsets` and `index` on the CPU spare a wait for the
    device. Raises ArgumentError for anything else.
    """
    if x.dtype not in TYPES or x.dtype != weight.dtype or down.shape[1] > MAX_RANK:
        raise ArgumentError(
            "x and weight must share one type of float32, float16 and bfloat16, and the rank be at most "
            f"{MAX_RANK}, got {x.dtype}, {weight.dtype} and {down.shape[1]}"
        )
    if not x.is_cuda and x.dtype == torch.bfloat16:
        raise ArgumentError("bfloat16 needs a GPU: Triton's interpreter multiplies its bit patterns")
    blocks, firsts = _blocks(tuple(offsets.tolist()), tuple(index.tolist()), len(down), x.device)
    x, down, up = x.contiguous(), down.contiguous(), scaled_up(up, scale)
    output: Tensor = _adapters(x, F.linear(x, weight, bias), down, up, blocks, firsts)[0]
    return output
