"""Products with what follows them in one pass, against the same in separate passes in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastgenome import ops

ACTIVATIONS = {
    "none": lambda x: x,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}
# Of numbers about 1, summed over 63: float32 rounding, and that of the result to bfloat16.
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def inputs(dtype: torch.dtype, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(rows, 63), torch.randn(62, 63) / 8, torch.randn(62)
    return x.to(dtype), weight.to(dtype), bias.to(dtype)


@pytest.mark.parametrize("rows", [0, 1, 500])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_equals_its_passes(
    activation: ops.Activation, dtype: torch.dtype, has_bias: bool, rows: int
) -> None:
    x, weight, bias = inputs(dtype, rows)
    given = bias if has_bias else None
    products = x.double() @ weight.double().T + (bias.double() if has_bias else 0)
    first, second = products.chunk(2, 1)
    for found, expected in (
        (ops.linear(x, weight, given, activation), ACTIVATIONS[activation](products)),
        (ops.gated_linear(x, weight, given, activation), ACTIVATIONS[activation](first) * second),
    ):
        assert found.dtype == dtype
        assert found.shape == expected.shape
        error = (found.double() - expected).abs() / (1 + expected.abs())
        assert error.max() <= BOUNDS[dtype] if rows else True


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_has_the_gradients_of_its_passes(activation: ops.Activation) -> None:
    x, weight, bias = (t.double().requires_grad_() for t in inputs(torch.float32, 7))
    assert torch.autograd.gradcheck(lambda *t: ops.linear(*t, activation), (x, weight, bias))
    assert torch.autograd.gradcheck(lambda *t: ops.gated_linear(*t, activation), (x, weight, bias))


def test_linear_keeps_gradients_where_only_the_input_has_them() -> None:
    x, weight, bias = inputs(torch.float32, 5)
    x.requires_grad_()
    (ops.linear(x, weight, bias, "gelu").sum() + ops.gated_linear(x, weight, bias, "silu").sum()).backward()
    assert x.grad is not None
    assert x.grad.abs().min() > 0
