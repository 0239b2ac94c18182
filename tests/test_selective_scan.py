"""The selective scan against its definition token by token: numbers, gradients, strong decays, memory."""

from typing import Any

import numpy as np
import pytest
import torch
from mamba_definitions import scan_definition
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastgenome.models import selective_scan
from fastgenome.models.encoder import packing_of
from fastgenome.models.mamba import MambaConfig, MambaMixer


def scan_arguments(
    ways: int = 2, sequences: int = 3, length: int = 23, channels: int = 5, states: int = 3
) -> list[Tensor]:
    """x, delta, a, b, c and the state before the first token, float64."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shape = (ways, sequences, length)
    x, delta = normal(*shape, channels), normal(*shape, channels).exp()
    a = -normal(ways, states, channels).exp()
    b, c = normal(*shape, states), normal(*shape, states)
    return [x, delta, a, b, c, normal(ways, sequences, states, channels)]


def assert_scan_is_its_definition(arguments: list[Tensor], y: Tensor, final: Tensor, relative: float) -> None:
    """Within `relative` of the largest number of each sequence."""
    x, delta, a, b, c, state = (argument.double().numpy() for argument in arguments)
    for way in range(len(x)):
        for i in range(x.shape[1]):
            expected = scan_definition(x[way, i], delta[way, i], a[way], b[way, i], c[way, i], state[way, i])
            for found, definition in zip((y[way, i], final[way, i]), expected, strict=True):
                bound = relative * np.abs(definition).max()
                np.testing.assert_allclose(found.double().numpy(), definition, rtol=0, atol=bound)


@pytest.mark.parametrize("chunk", [1, 4 * 90, 1 << 19], ids=["1 step", "4 steps", "all steps"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_selective_scan_equals_its_definition(
    monkeypatch: pytest.MonkeyPatch, chunk: int, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(selective_scan, "CHUNK_NUMBERS", chunk)
    arguments = [argument.to(dtype) for argument in scan_arguments()]
    y, final = selective_scan.selective_scan(*arguments)
    assert_scan_is_its_definition(arguments, y, final, 1e-6 if dtype == torch.float32 else 1e-14)


def test_selective_scan_stays_finite_with_strong_and_with_no_decay() -> None:
    x, delta, a, b, c, state = (argument.float() for argument in scan_arguments())
    delta[:, 0] *= 1e4  # decays vanish
    delta[:, 1] = 0.0  # nothing decays, nothing enters
    a = a * 1e4
    arguments = [x, delta, a, b, c, state]
    for argument in arguments:
        argument.requires_grad_(True)
    y, final = selective_scan.selective_scan(*arguments)
    (y.sum() + final.sum()).backward()
    assert all(argument.grad.isfinite().all() for argument in arguments if argument.grad is not None)
    plain = [argument.detach() for argument in arguments]
    assert_scan_is_its_definition(plain, y.detach(), final.detach(), 1e-6)


def scan_by_autograd(
    x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence token by token in differentiable operations."""
    outputs = []
    for step in range(x.shape[2]):
        decay = torch.exp(delta[:, :, step, None] * a[:, None])
        pushed = (delta * x)[:, :, step, None] * b[:, :, step, :, None]
        state = decay * state + pushed
        outputs.append((c[:, :, step, :, None] * state).sum(2))
    return torch.stack(outputs, 2), state


@pytest.mark.parametrize("chunk", [1, 4 * 90, 1 << 19], ids=["1 step", "4 steps", "all steps"])
def test_selective_scan_has_the_gradients_of_its_definition(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(selective_scan, "CHUNK_NUMBERS", chunk)
    arguments = [argument.requires_grad_(True) for argument in scan_arguments()]
    weights = torch.randn(2, 3, 23, 5, dtype=torch.float64), torch.randn(2, 3, 3, 5, dtype=torch.float64)
    gradients = []
    for scan in (selective_scan.selective_scan, scan_by_autograd):
        y, final = scan(*arguments)
        loss = (y * weights[0]).sum() + (final * weights[1]).sum()
        gradients.append(torch.autograd.grad(loss, arguments))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


class LargestTensor(TorchDispatchMode):
    """Notes the most numbers that any operation's result holds."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


def test_mixer_holds_no_more_than_a_chunk_of_states() -> None:
    length, inner, states = 20_000, 32, 16
    config = MambaConfig(16, 16, 1, inner, states, kernel=4, rank=1)
    with torch.inference_mode(), LargestTensor() as largest:
        packing = packing_of(torch.tensor([0, length]), torch.device("cpu"))
        MambaMixer(config)(torch.randn(1, length, 16), packing)
    # Two buffers of a chunk; the rows of both ways.
    allowed = max(2 * selective_scan.CHUNK_NUMBERS, 2 * (length + 8) * inner)
    assert largest.numbers <= allowed < length * inner * states / 4
