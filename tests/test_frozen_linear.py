"""Products by frozen weights in training: values, gradients and when the packed copies serve."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastgenome import frozen_linear, ops
from fastgenome.packed_weights import no_copies, packed, packed_depths

pytestmark = pytest.mark.skipif(not ops._fuses(torch.float32), reason="PyTorch here is without oneDNN")

TYPES = [torch.float32, torch.bfloat16]


def frozen(out: int, width: int, dtype: torch.dtype) -> tuple[nn.Parameter, Tensor]:
    torch.manual_seed(0)
    weight = nn.Parameter((torch.randn(out, width) / width**0.5).to(dtype), requires_grad=False)
    return weight, torch.randn(out).to(dtype)


def distance(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).pow(2).mean().sqrt())


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("rows", [1, 63, 500])
@pytest.mark.parametrize(("out", "width"), [(768, 3072), (2304, 768), (1000, 1030), (130, 128)])
def test_error_is_below_twice_that_of_pytorch(dtype: torch.dtype, rows: int, out: int, width: int) -> None:
    if not ops._fuses(dtype):
        pytest.skip(f"oneDNN has no {dtype} here")
    weight, bias = frozen(out, width, dtype)
    x, gradient = torch.randn(rows, width).to(dtype), torch.randn(rows, out).to(dtype)

    def both(multiply: Callable[..., Tensor], *given: Tensor) -> tuple[Tensor, Tensor]:
        start = given[0].detach().requires_grad_()
        y = multiply(start, *given[1:3])
        return y.detach(), torch.autograd.grad(y, start, given[3])[0]

    exact = both(F.linear, x.double(), weight.double(), bias.double(), gradient.double())
    plain = both(F.linear, x, weight, bias, gradient)
    for use in range(3):
        found = both(ops.linear, x, weight, bias, gradient)
        for ours, theirs, right in zip(found, plain, exact, strict=True):
            assert ours.dtype == dtype
            assert distance(ours, right) <= 2 * distance(theirs, right), f"use {use}"
    # A single row needs no copies.
    for depth, transposed in ((width, False), (out, True)) if rows > 1 else ():
        parts = packed_depths(weight, frozen_linear._parts(dtype, depth), transposed=transposed)
        assert all(part.is_mkldnn for part in parts)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("rows", [1, 2, 7, 63, 500, 2116])
@pytest.mark.parametrize(("out", "width"), [(768, 3072), (2304, 768), (1000, 1030), (130, 128), (128, 400)])
def test_bits_do_not_depend_on_copies(dtype: torch.dtype, rows: int, out: int, width: int) -> None:
    if not ops._fuses(dtype):
        pytest.skip(f"oneDNN has no {dtype} here")
    weight, bias = frozen(out, width, dtype)
    x, gradient = torch.randn(rows, width).to(dtype), torch.randn(rows, out).to(dtype)
    learned = x.clone().requires_grad_()
    found = []
    for _ in range(3):
        y = ops.linear(learned, weight, bias)
        (d_x,) = torch.autograd.grad(y, learned, gradient)
        with torch.no_grad():
            found.append((y.detach(), d_x, ops.linear(x, weight, bias, "gelu")))
    for _ in range(2):
        kept = packed_depths(weight, frozen_linear._parts(dtype, width), transposed=False)
    assert kept[0].is_mkldnn
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
    torch.testing.assert_close(found[2], found[0], rtol=0, atol=0)


def test_no_copies_are_made_where_they_are_not_wanted() -> None:
    weight, _ = frozen(130, 160, torch.float32)
    with no_copies():
        for _ in range(3):
            assert not packed(weight)[0].is_mkldnn
    with no_copies(False):
        for _ in range(2):
            kept = packed(weight)
    assert kept[0].is_mkldnn


def test_gradients_of_gradients() -> None:
    weight, bias = frozen(130, 160, torch.float32)
    x = torch.randn(9, 160, requires_grad=True)
    for _ in range(3):
        second = []
        for multiply in (ops.linear, F.linear):
            (first,) = torch.autograd.grad(multiply(x, weight, bias).pow(2).sum(), x, create_graph=True)
            second.append(torch.autograd.grad(first.pow(2).sum(), x)[0])
        torch.testing.assert_close(second[0], second[1], rtol=1e-4, atol=1e-4)


def test_changed_weights_are_never_multiplied_as_they_were() -> None:
    weight, bias = frozen(130, 160, torch.float32)
    x = torch.randn(9, 160, requires_grad=True)
    for _ in range(3):
        for _ in range(3):
            found = torch.autograd.grad(ops.linear(x, weight, bias).sum(), x)[0]
            torch.testing.assert_close(found, weight.sum(0).expand_as(x), rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            weight.mul_(2.0)


def test_whole_weights_share_one_copy() -> None:
    weight, _ = frozen(130, 160, torch.float32)
    for _ in range(2):
        whole = packed(weight)
    assert packed_depths(weight, 1, transposed=False)[0] is whole[0]


@pytest.mark.parametrize("of_input", [True, False])
@pytest.mark.parametrize("learned", ["weight", "bias"])
def test_what_learns_gets_its_gradient(learned: str, of_input: bool) -> None:
    weight, bias = frozen(130, 160, torch.float32)
    x = torch.randn(9, 160, requires_grad=of_input)
    parameter = {"weight": weight, "bias": bias}[learned].requires_grad_()
    for _ in range(3):
        gradients = [
            torch.autograd.grad(multiply(x, weight, bias).pow(2).sum(), parameter)[0]
            for multiply in (ops.linear, F.linear)
        ]
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-4)


def test_autocast_is_that_of_pytorch() -> None:
    weight, bias = frozen(130, 160, torch.float32)
    x = torch.randn(9, 160, requires_grad=True)
    for _ in range(3):
        found = []
        for multiply in (ops.linear, F.linear):
            with torch.autocast("cpu", torch.bfloat16):
                y = multiply(x, weight, bias)
            found.append((y, torch.autograd.grad(y.sum(), x)[0]))
        assert found[0][0].dtype == torch.bfloat16
        torch.testing.assert_close(*found, rtol=0, atol=0)
