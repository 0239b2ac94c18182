"""Products by frozen weights on a CPU that pass gradients on, both ways by oneDNN from packed copies."""

# A Function's context has no types that a checker could know.
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, no-any-return"

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgenome.packed_weights import packed_depths

# oneDNN adds float32 products up one after the other, PyTorch's usual library in blocks. Sums over so many at
# a time keep the error below twice that library's.
_FLOAT32_DEPTH = 1024


class _FrozenLinear(torch.autograd.Function):
    """x Wᵀ + b or, transposed, x W; its gradient is the other one."""

    @staticmethod
    def forward(ctx, x, weight, bias, transposed):
        ctx.save_for_backward(weight)
        ctx.transposed = transposed
        return backward_product(x, weight) if transposed else product(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        (weight,) = ctx.saved_tensors
        return _FrozenLinear.apply(gradient, weight, None, not ctx.transposed), None, None, None


def multiply_frozen(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b: (rows, in) -> (rows, out), float32 or bfloat16; `weight` and `bias` get no gradients."""
    y: Tensor = _FrozenLinear.apply(x, weight, bias, False)
    return y


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b, without gradients; the bits do not depend on what is packed."""
    if len(x) == 1:
        return F.linear(x, weight, bias)
    parts = packed_depths(weight, _parts(weight.dtype, weight.shape[1]), transposed=False)
    return _multiplied(x, parts, bias)


def backward_product(gradient: Tensor, weight: Tensor) -> Tensor:
    """gradient W, (rows, out) -> (rows, in), without gradients; the bits do not depend on what is packed."""
    if len(gradient) == 1:
        return gradient @ weight
    parts = packed_depths(weight, _parts(weight.dtype, weight.shape[0]), transposed=True)
    return _multiplied(gradient.contiguous(), parts, None)


def _parts(dtype: torch.dtype, depth: int) -> int:
    return math.ceil(depth / _FLOAT32_DEPTH) if dtype == torch.float32 else 1


def _multiplied(x: Tensor, parts: tuple[Tensor, ...], bias: Tensor | None) -> Tensor:
    """The sum over parts of the depth."""
    multiply = torch.ops.mkldnn._linear_pointwise
    pieces = x.chunk(len(parts), 1)
    y: Tensor = multiply(pieces[0], parts[0], bias, "none", [], "")
    for piece, part in zip(pieces[1:], parts[1:], strict=True):
        y = multiply.binary(piece, y, part, None, "add")
    return y
