"""An adapted linear layer from PyTorch's own matrix products, none of which is done twice.

The base product is one call, what branches add goes into its result in place, and the backward pass makes
the gradients that are asked for and no others. Factors of adapters arrive folded into the up-projections:
scale, singular values, and what dropout owes to the kept elements.
"""

# A Function's context has no types that a checker could know.
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, no-any-return"

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fastgenome.kernels.dropout_mask import add_dropped_product_, drop, keep_share
from fastgenome.kernels.reference import LowRank


class Products(NamedTuple):
    """What multiplies by the weights, without gradients of its own: x Wᵀ + b of (x, W, b), and g W of (g, W).

    With `keeps_weights` it keeps copies of weights that it knows: backward, a gain goes to the gradient then.
    """

    forward: Callable[[Tensor, Tensor, Tensor | None], Tensor] = F.linear
    backward: Callable[[Tensor, Tensor], Tensor] = torch.mm
    keeps_weights: bool = False


PLAIN = Products()


def _forward(
    products: Products,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gain: Tensor | None,
    down: Tensor | None,
    starts: Sequence[int],
    dropout: float,
    seed: int,
    ups: Sequence[Tensor],
    keeps_product: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """The output; what the branches saw; its down-projection (rows, ranks); the output before its gain."""
    epilogue = gain is not None and (keeps_product or len(x) <= x.shape[1])
    if gain is not None and not epilogue:
        # With more rows than columns the weights are smaller than the output.
        ups = [_times(up, gain[None, a : a + up.shape[1]]) for a, up in zip(starts, ups, strict=True)]
        weight = _times(weight, gain[:, None])
    y = products.forward(x, weight, None if epilogue else bias)
    seen = low = None
    if down is not None:
        seen = drop(x, dropout=dropout, seed=seed) if dropout else x
        low = seen @ down.T
        for part, up, start in zip(_parts(low, ups), ups, starts, strict=True):
            y[:, start : start + up.shape[1]].addmm_(part, up)
    return (_gained(y, gain, bias) if gain is not None and epilogue else y), seen, low, y


class _AdapterLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, gain, down, starts, dropout, seed, products, *ups):
        needs_x, needs_weight, _, needs_gain, needs_down = ctx.needs_input_grad[:5]
        down, cast = _cast(x.dtype, down, ups)
        y, seen, low, base = _forward(
            products, x, weight, bias, gain, down, starts, dropout, seed, cast, keeps_product=needs_gain
        )
        ctx.save_for_backward(
            x if needs_weight else None,
            seen if needs_down else None,
            low if any(ctx.needs_input_grad[9:]) else None,
            base if needs_gain else None,
            weight if needs_x else None,
            gain,
            down if needs_x else None,
            *cast,
        )
        ctx.starts, ctx.dropout, ctx.seed, ctx.products = starts, dropout, seed, products
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, seen, low, base, weight, gain, down, *ups = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, needs_gain, needs_down = ctx.needs_input_grad[:5]
        gradient = gradient.contiguous()
        # The gain is folded into what meets the gradient, which mostly is smaller: weights, projections.
        of_rows = None if gain is None else gain[:, None]
        d_x = d_weight = d_bias = d_gain = d_down = None
        if needs_weight:
            d_weight = gradient.T @ x
            d_weight = d_weight if gain is None else d_weight * of_rows
        if needs_bias:
            d_bias = gradient.sum(0)
        if needs_gain:
            d_gain = (gradient * base).sum(0, dtype=gain.dtype)
        d_low, d_ups = _branch_gradients(gradient, gain, low, ups, ctx.starts, needs_x or needs_down)
        if d_low is not None and needs_down:
            d_down = d_low.T @ seen
        if needs_x:
            if ctx.products.keeps_weights:
                d_x = ctx.products.backward(_times(gradient, gain), weight)
            else:
                d_x = ctx.products.backward(gradient, _times(weight, of_rows))
            if d_low is not None and ctx.dropout:
                add_dropped_product_(d_x, d_low, down, dropout=ctx.dropout, seed=ctx.seed)
            elif d_low is not None:
                d_x.addmm_(d_low, down)
        return d_x, d_weight, d_bias, d_gain, d_down, None, None, None, None, *d_ups


def _branch_gradients(
    gradient: Tensor,
    gain: Tensor | None,
    low: Tensor | None,
    ups: Sequence[Tensor],
    starts: Sequence[int],
    needs_low: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Gradients of what the down-projections gave, (rows, ranks), and of the up-projections, where needed."""
    d_low = gradient.new_empty(len(gradient), sum(map(len, ups))) if ups and needs_low else None
    d_ups: list[Tensor | None] = [None] * len(ups)
    first = 0
    for number, (up, start) in enumerate(zip(ups, starts, strict=True)):
        rows, ranks = slice(start, start + up.shape[1]), slice(first, first + len(up))
        first = ranks.stop
        part, gain_part = gradient[:, rows], None if gain is None else gain[None, rows]
        if low is not None:
            d_up = low[:, ranks].T @ part
            d_ups[number] = d_up if gain_part is None else d_up * gain_part
        if d_low is not None:
            torch.mm(part, _times(up, gain_part).T, out=d_low[:, ranks])
    return d_low, d_ups


def _cast(
    dtype: torch.dtype, down: Tensor | None, ups: Sequence[Tensor]
) -> tuple[Tensor | None, list[Tensor]]:
    """Projections in the type of the product; their gradients stay in their own."""
    return None if down is None else down.to(dtype), [up.to(dtype) for up in ups]


def _parts(low: Tensor, ups: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The columns of each branch in what all branches share."""
    return low.split([len(up) for up in ups], 1)


def _times(x: Tensor, gain: Tensor | None) -> Tensor:
    """x ⊙ gain in the type of x; the gain may be finer."""
    return x if gain is None else (x * gain).to(x.dtype)


def _gained(product: Tensor, gain: Tensor, bias: Tensor | None) -> Tensor:
    """product ⊙ gain + bias in the type of the product.

    A gain near 1 needs more than the 8 bits of a bfloat16, so it comes in two pieces.
    """
    coarse = gain.to(product.dtype)
    y = product * coarse if bias is None else torch.addcmul(bias, product, coarse)
    return y if gain.dtype == product.dtype else y.addcmul_(product, (gain - coarse).to(product.dtype))


def folded(branches: Sequence[LowRank], dropout: float) -> tuple[Tensor | None, list[Tensor]]:
    """All down-projections in one, (ranks, in), and each up-projection with its factors, (rank, rows)."""
    if not branches:
        return None, []
    downs = [branch.down for branch in branches]
    share = keep_share(dropout)
    ups = []
    for branch in branches:
        up = branch.up.T * (branch.scale / share)
        if branch.values is not None:
            up = up * branch.values[:, None]
        ups.append(up.contiguous())
    return torch.cat(downs) if len(downs) > 1 else downs[0], ups


def adapter_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    branches: Sequence[LowRank],
    *,
    gain: Tensor | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    products: Products = PLAIN,
) -> Tensor:
    """What `reference.adapter_linear` defines, for `x` in the type of `weight`; differentiable once.

    Gradients have the type of what they belong to; the sums over rows are those of PyTorch's products.
    """
    down, ups = folded(branches, dropout)
    starts = tuple(branch.start for branch in branches)
    given = (x, weight, bias, gain, down, *ups)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given):
        y: Tensor = _AdapterLinear.apply(x, weight, bias, gain, down, starts, dropout, seed, products, *ups)
        return y
    down, ups = _cast(x.dtype, down, ups)
    return _forward(products, x, weight, bias, gain, down, starts, dropout, seed, ups, keeps_product=False)[0]
