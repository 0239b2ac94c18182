"""Products with what follows them in one pass, against the same in separate passes in float64."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastgenome import ops
from fastgenome.errors import ArgumentError
from fastgenome.kernels.reference import LowRank

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


def branch(rank: int = 3, rows: int = 62, start: int = 0) -> LowRank:
    return LowRank(torch.ones(rank, 63), torch.ones(rows, rank), None, start, 1.0)


def test_adapter_linear_refuses_what_does_not_fit() -> None:
    x, weight, bias = inputs(torch.float32, 5)
    good = branch()
    for message, given, options in (
        ("x must be", (x[:, :5], []), {}),
        ("x must be", (x[None], []), {}),
        ("dropout", (x, [good]), {"dropout": 1.0}),
        ("dropout", (x, [good]), {"dropout": -0.1}),
        ("gain", (x, [good]), {"gain": torch.ones(61)}),
        ("down and up", (x, [good._replace(down=torch.ones(3, 62))]), {}),
        ("down and up", (x, [good._replace(up=torch.ones(62, 2))]), {}),
        ("output rows", (x, [branch(start=1)]), {}),
        ("output rows", (x, [branch(rows=2, start=-1)]), {}),
        ("values", (x, [good._replace(values=torch.ones(2))]), {}),
    ):
        with pytest.raises(ArgumentError, match=message):
            ops.adapter_linear(given[0], weight, bias, given[1], **options)
    for wrong in (torch.ones(1), torch.ones(61)):
        with pytest.raises(ArgumentError, match="bias"):
            ops.adapter_linear(x, weight, wrong, [good])


@pytest.mark.parametrize(
    ("expected", "cuda", "dtype", "ranks", "dropout"),
    [
        (True, True, torch.bfloat16, (8, 8), 0.1),
        (False, True, torch.bfloat16, (8, 8), 0.0),  # cuBLAS and updates in place
        (False, False, torch.bfloat16, (8, 8), 0.1),
        (False, True, torch.float64, (8, 8), 0.1),
        (False, True, torch.float32, (), 0.1),
        (False, True, torch.float32, (64, 65), 0.1),
    ],
)
def test_adapter_linear_chooses_the_kernel(
    expected: bool,
    cuda: bool,
    dtype: torch.dtype,
    ranks: tuple[int, ...],
    dropout: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ops, "_has_triton", lambda: True)
    x = SimpleNamespace(is_cuda=cuda, dtype=dtype)
    assert ops._prefers_kernel(x, [branch(rank) for rank in ranks], dropout) is expected


def test_range_pool_refuses_weights_that_do_not_fit() -> None:
    states, starts, ends = torch.ones(6, 2), torch.tensor([0]), torch.tensor([6])
    for reduction, weights in (
        ("weighted", None),
        ("weighted", torch.ones(5)),
        ("weighted", torch.ones(6, 1)),
        ("mean", torch.ones(6)),
        ("max", torch.ones(6)),
    ):
        with pytest.raises(ArgumentError, match=r"weights must be \(6,\)"):
            ops.range_pool(states, starts, ends, reduction, weights=weights)
