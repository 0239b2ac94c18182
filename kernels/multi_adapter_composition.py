"""Many low-rank adapters in one packed batch, from PyTorch's own matrix products.

The base product is one call over all rows. Rows are brought into the order of their adapters, unless they
are already nearly so, and each adapter is then one update in place of its stretch of rows.
"""

# A Function's context has no types that a checker could know.
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, no-any-return"

from itertools import groupby, pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastgenome.kernels.adapter_composition import PLAIN, Products


class Stretches(NamedTuple):
    """Which rows are whose, in an order of rows in which an adapter's rows are neighbours."""

    bounds: list[tuple[int, int, int]]  # adapter, first row, end; rows without an adapter are left out
    order: Tensor | None  # (total,): the row that comes to each place; None if rows stay
    back: Tensor | None  # its inverse


class _MultiAdapterLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, down, up, stretches, products):
        x = _moved(x, stretches.order)
        narrow_down, narrow_up = down.to(x.dtype), up.to(x.dtype)
        y = products.forward(x, weight, bias)
        lows = []
        for adapter, start, end in stretches.bounds:
            lows.append(x[start:end] @ narrow_down[adapter].T)
            y[start:end].addmm_(lows[-1], narrow_up[adapter])
        needs_weight, _, needs_down, needs_up = ctx.needs_input_grad[1:5]
        ctx.save_for_backward(
            x if needs_weight or needs_down else None,
            weight,
            narrow_down,
            narrow_up,
            *(lows if needs_up else ()),
        )
        ctx.stretches, ctx.products = stretches, products
        return _moved(y, stretches.back)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, weight, down, up, *lows = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, needs_down, needs_up = ctx.needs_input_grad[:5]
        gradient = _moved(gradient.contiguous(), ctx.stretches.order)
        d_x = ctx.products.backward(gradient, weight) if needs_x else None
        d_down, d_up = (
            torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) if needed else None
            for p, needed in ((down, needs_down), (up, needs_up))
        )
        for number, (adapter, start, end) in enumerate(ctx.stretches.bounds):
            part = gradient[start:end]
            if d_up is not None:
                d_up[adapter] += lows[number].T @ part
            if needs_x or needs_down:
                d_low = part @ up[adapter].T
            if d_down is not None:
                d_down[adapter] += d_low.T @ x[start:end]
            if d_x is not None:
                d_x[start:end].addmm_(d_low, down[adapter])
        return (
            None if d_x is None else _moved(d_x, ctx.stretches.back),
            gradient.T @ x if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
            d_down,
            d_up,
            None,
            None,
        )


def _moved(x: Tensor, order: Tensor | None) -> Tensor:
    return x if order is None else x.index_select(0, order)


def stretches_of(offsets: Tensor, index: Tensor, device: torch.device) -> Stretches:
    """Stretches of a packed batch from `offsets` (n + 1,) and the adapter of each sequence, `index` (n,)."""
    whose = index.tolist()
    spans = [(k, a, b) for k, (a, b) in zip(whose, pairwise(offsets.tolist()), strict=True) if b > a]
    runs = [(k, list(group)) for k, group in groupby(spans, key=lambda span: span[0])]
    bounds = [(k, group[0][1], group[-1][2]) for k, group in runs]
    if len(bounds) <= 2 * len(set(whose)):
        return Stretches([bound for bound in bounds if bound[0] >= 0], None, None)
    rows = torch.repeat_interleave(index.cpu(), offsets.cpu().diff())
    order = rows.argsort(stable=True)
    adapters, counts = rows.unique(return_counts=True)  # ascending, as the order is
    ends = counts.cumsum(0)
    stretches = zip(adapters.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return Stretches([s for s in stretches if s[0] >= 0], order.to(device), back.to(device))


def scaled_up(up: Tensor, scale: Tensor) -> Tensor:
    """Up-projections with their scale, (adapters, rank, out)."""
    return (up * scale[:, None, None]).transpose(1, 2).contiguous()


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
    products: Products = PLAIN,
) -> Tensor:
    """What `reference.multi_adapter_linear` defines, for `x` in the type of `weight`; differentiable once."""
    stretches = stretches_of(offsets, index, x.device)
    y: Tensor = _MultiAdapterLinear.apply(x, weight, bias, down, scaled_up(up, scale), stretches, products)
    return y
