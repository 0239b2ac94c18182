"""Copies of weights in oneDNN's arrangement: right, never stale, limited, gone with the weights."""

import gc

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastgenome import ops, packed_weights
from fastgenome.packed_weights import packed

pytestmark = pytest.mark.skipif(not ops._fuses(torch.float32), reason="PyTorch here is without oneDNN")


def parameter(rows: int = 96, columns: int = 256, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter((torch.randn(rows, columns) / columns**0.5).to(dtype))


def is_copy(weight: torch.Tensor) -> bool:
    return weight.is_mkldnn


def used_twice(weight: torch.Tensor, parts: int = 1) -> tuple[torch.Tensor, ...]:
    packed(weight, parts)
    return packed(weight, parts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [1, 33, 700])
def test_products_are_the_same_at_every_use(dtype: torch.dtype, rows: int) -> None:
    if not ops._fuses(dtype):
        pytest.skip(f"oneDNN has no {dtype} here")
    weight, bias, x = parameter(dtype=dtype), torch.randn(96).to(dtype), torch.randn(rows, 256).to(dtype)
    expected = F.gelu(F.linear(x.double(), weight.double(), bias.double()))
    gate, value = F.linear(x.double(), weight.double(), bias.double()).chunk(2, 1)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    with torch.no_grad():
        for _ in range(3):
            found = ops.linear(x, weight, bias, "gelu")
            torch.testing.assert_close(found.double(), expected, **tolerance)
    assert is_copy(packed(weight)[0]) == (rows > 1)
    with torch.no_grad():
        for _ in range(3):
            gated = ops.gated_linear(x, weight, bias, "silu")
            torch.testing.assert_close(gated.double(), F.silu(gate) * value, **tolerance)


def test_first_use_makes_no_copy() -> None:
    weight = parameter()
    assert packed(weight)[0].data_ptr() == weight.data_ptr()
    assert is_copy(packed(weight)[0])


def test_changed_weights_are_never_multiplied_as_they_were() -> None:
    weight, x = parameter(), torch.randn(5, 256)
    assert is_copy(used_twice(weight)[0])
    changes = [
        lambda: weight.add_(1.0),
        lambda: weight.copy_(torch.randn(96, 256)),
        lambda: setattr(weight, "data", torch.randn(96, 256)),
        lambda: weight.data.mul_(2.0),
    ]
    with torch.no_grad():
        for change in changes:
            change()
            for _ in range(3):
                torch.testing.assert_close(ops.linear(x, weight, None), x @ weight.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_optimizer_steps_are_seen(fused: bool) -> None:
    weight, x = parameter(), torch.randn(5, 256)
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0, fused=fused)
    weight.grad = torch.zeros_like(weight)
    # One column moves that the sample of numbers does not hold.
    weight.grad[:, 1] = 1.0
    used_twice(weight)
    for _ in range(2):
        optimizer.step()
        with torch.no_grad():
            for _ in range(2):
                torch.testing.assert_close(ops.linear(x, weight, None), x @ weight.T, rtol=1e-4, atol=1e-4)


def test_copies_made_in_inference_mode_serve_outside_of_it() -> None:
    weight, x = parameter(), torch.randn(5, 256)
    with torch.inference_mode():
        used_twice(weight)
    with torch.no_grad():
        torch.testing.assert_close(ops.linear(x, weight, None), x @ weight.T, rtol=1e-4, atol=1e-4)


def test_copies_stay_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    present = packed_weights._bytes_of_copies()
    first, second = parameter(), parameter()
    monkeypatch.setattr(packed_weights, "LIMIT_BYTES", present + first.nbytes)
    assert is_copy(used_twice(first)[0])
    assert not is_copy(used_twice(second)[0])
    assert packed_weights._bytes_of_copies() == present + first.nbytes


def test_copies_go_with_their_weights() -> None:
    gc.collect()
    before = packed_weights._bytes_of_copies()
    weight = parameter()
    used_twice(weight)
    assert packed_weights._bytes_of_copies() == before + weight.nbytes
    del weight
    gc.collect()
    assert packed_weights._bytes_of_copies() == before


@pytest.mark.parametrize("weight", [torch.randn(96, 256), parameter(4, 4)], ids=["no parameter", "small"])
def test_other_weights_are_used_as_they_are(weight: torch.Tensor) -> None:
    assert used_twice(weight)[0].data_ptr() == weight.data_ptr()
