"""Adapted layers on a GPU, for gpu.py: against the frozen layer, float64, and mixed in one batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import triton
from torch import Tensor

from fastgenome import ops
from fastgenome.kernels import adapter_composition, multi_adapter_composition, reference
from fastgenome.kernels import adapter_linear as kernels
from fastgenome.kernels.adapter_linear import adapter_linear
from fastgenome.kernels.multi_adapter import multi_adapter_linear
from fastgenome.kernels.reference import LowRank

Seconds = Callable[[Callable[[], object], torch.device, int], float]
SHAPES = ((768, 768), (768, 3072), (3072, 768), (1024, 8192))
RANK = 8

# Rows, columns and depth of a block, warps, stages: what kernels.SETTINGS may become.
BLOCKS = (
    (64, 128, 32, 4, 3), (64, 128, 64, 4, 4), (64, 256, 64, 8, 3), (128, 128, 32, 8, 3), (128, 128, 64, 8, 3),
    (128, 256, 32, 8, 3), (128, 256, 64, 8, 3), (256, 128, 64, 8, 3),
)  # fmt: skip


def layer(
    rows: int, width: int, out: int, dtype: torch.dtype, device: torch.device, *, gain: bool = False
) -> dict[str, Any]:
    """Random numbers of an adapted layer: x and the float32 adapter learn, weight and bias are frozen."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).to(device, dtype)

    down, up = random(RANK, width, scale=width**-0.5), random(out, RANK)
    return {
        "x": random(rows, width, dtype=dtype).requires_grad_(),
        "weight": random(out, width, scale=width**-0.5, dtype=dtype),
        "bias": random(out, dtype=dtype),
        "branches": [LowRank(down.requires_grad_(), up.requires_grad_(), None, 0, 2.0)],
        "gain": (1 + random(out, scale=0.1)).requires_grad_() if gain else None,
    }


def learned(given: dict[str, Any]) -> list[Tensor]:
    """What gets a gradient."""
    tensors = [given["x"], given["branches"][0].down, given["branches"][0].up]
    return tensors if given["gain"] is None else [*tensors, given["gain"]]


def passes(
    way: Callable[..., Tensor], given: dict[str, Any], gradient: Tensor, **options: Any
) -> list[Tensor]:
    """Output and gradients."""
    output = way(**given, **options)
    return [output.detach(), *torch.autograd.grad(output, learned(given), gradient)]


def in_float64(given: dict[str, Any]) -> dict[str, Any]:
    def wide(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.detach().double().requires_grad_(x.requires_grad)

    down, up, values, start, scale = given["branches"][0]
    branch = LowRank(wide(down), wide(up), values, start, scale)  # type: ignore[arg-type]
    return {name: wide(given[name]) for name in ("x", "weight", "bias", "gain")} | {"branches": [branch]}


def check_adapters(device: torch.device) -> dict[str, float]:
    """Largest error of kernel and composition over that of PyTorch in the same type, against float64."""
    types = [torch.float32] if device.type == "cpu" else [torch.float32, torch.float16, torch.bfloat16]
    sizes = [(33, 20, 40)] if device.type == "cpu" else [(63, 500, 1000), (1000, 63, 500), (512, 768, 768)]
    worst: dict[str, float] = {}
    for dtype, size, gain, dropout in itertools.product(types, sizes, (False, True), (0.0, 0.1)):
        given = layer(*size, dtype, device, gain=gain)
        gradient = torch.randn(size[0], size[2], generator=torch.Generator().manual_seed(1)).to(device, dtype)
        options = {"dropout": dropout, "seed": 5}
        truth = passes(reference.adapter_linear, in_float64(given), gradient.double(), **options)
        ways = {"plain": reference.adapter_linear, "composed": adapter_composition.adapter_linear}
        errors = {
            name: [
                float((found.double() - exact).norm())
                for found, exact in zip(passes(way, given, gradient, **options), truth, strict=True)
            ]
            for name, way in (ways | {"kernel": adapter_linear}).items()
        }
        for name in ("composed", "kernel"):
            ratio = max(a / b for a, b in zip(errors[name], errors["plain"], strict=True) if b)
            assert ratio <= 2, (name, dtype, size, gain, dropout, errors)
            label = f"{name} {str(dtype)[6:]}"
            worst[label] = max(worst.get(label, 0.0), ratio)
    return worst


def measure_adapters(device: torch.device, rounds: int, seconds: Seconds) -> dict[str, Any]:
    """Forward and backward of an adapted layer over that of the frozen one, by shape, method and way."""
    on_cpu = device.type == "cpu"
    rows, dtype = (64, torch.float32) if on_cpu else (1 << 15, torch.bfloat16)
    ratios: dict[str, dict[str, float]] = {}
    for (width, out), gain, dropout in itertools.product(
        [(32, 48)] if on_cpu else SHAPES, (False, True), (0.0, 0.1)
    ):
        given = layer(rows, width, out, dtype, device, gain=gain)
        gradient = torch.randn(rows, out).to(device, dtype)

        def frozen(given: dict[str, Any] = given, gradient: Tensor = gradient) -> object:
            output = torch.nn.functional.linear(given["x"], given["weight"], given["bias"])
            return torch.autograd.grad(output, given["x"], gradient)

        base = seconds(frozen, device, rounds)
        ways = {
            "composed": adapter_composition.adapter_linear,
            "kernel": adapter_linear,
            "chosen": ops.adapter_linear,
        }
        name = f"{width}->{out}{', gain' if gain else ''}{', dropout' if dropout else ''}"
        ratios[name] = {
            way: seconds(partial(passes, f, given, gradient, dropout=dropout, seed=1), device, rounds) / base
            for way, f in ways.items()
        }
    blocks = measure_blocks(device, rounds, seconds)
    return {"adapter_over_frozen": ratios} | blocks | measure_mixed(device, rounds, seconds)


def measure_blocks(device: torch.device, rounds: int, seconds: Seconds) -> dict[str, Any]:
    """Seconds of the kernel with dropout, forward and backward, by shape and blocks; null where they fail."""
    on_cpu = device.type == "cpu"
    rows, dtype = (64, torch.float32) if on_cpu else (1 << 15, torch.bfloat16)
    usual = kernels.SETTINGS[dtype.itemsize]
    found: dict[str, dict[str, float | None]] = {}
    try:
        for width, out in [(32, 48)] if on_cpu else SHAPES:
            given = layer(rows, width, out, dtype, device)
            gradient = torch.randn(rows, out).to(device, dtype)
            run = partial(passes, adapter_linear, given, gradient, dropout=0.1, seed=1)
            times = found.setdefault(f"{width}->{out}", {})
            for blocks in [(32, 32, 16, 4, 1), (16, 32, 16, 4, 1)] if on_cpu else BLOCKS:
                kernels.SETTINGS[dtype.itemsize] = blocks
                try:
                    times[str(blocks)] = seconds(run, device, rounds)
                except triton.runtime.errors.OutOfResources:
                    times[str(blocks)] = None
    finally:
        kernels.SETTINGS[dtype.itemsize] = usual
    return {"adapter_blocks": {"usual": str(usual), "seconds": found}}


def measure_mixed(device: torch.device, rounds: int, seconds: Seconds) -> dict[str, Any]:
    """Prediction of a layer with eight adapters, each on its own sequences, over that of the frozen one."""
    on_cpu = device.type == "cpu"
    count, length, width, dtype = (8, 7, 32, torch.float32) if on_cpu else (128, 256, 768, torch.bfloat16)
    given = layer(count * length, width, width, dtype, device)
    x, weight, bias = given["x"].detach(), given["weight"], given["bias"]
    batch = {
        "offsets": torch.arange(count + 1) * length,
        "index": torch.arange(count) % 8,
        "down": torch.randn(8, RANK, width, device=device) * width**-0.5,
        "up": torch.randn(8, width, RANK, device=device),
        "scale": torch.full((8,), 2.0, device=device),
    }
    ways = {
        "kernel": multi_adapter_linear,
        "composed": multi_adapter_composition.multi_adapter_linear,
        "chosen": ops.multi_adapter_linear,
    }
    with torch.no_grad():
        found = {name: way(x, weight, bias, **batch) for name, way in ways.items()}
        for output in found.values():
            torch.testing.assert_close(
                output, found["composed"], rtol=2e-2, atol=2e-2 if dtype != torch.float32 else 1e-4
            )
        base = seconds(partial(torch.nn.functional.linear, x, weight, bias), device, rounds)
        return {
            "mixed_adapters_over_frozen": {
                name: seconds(partial(way, x, weight, bias, **batch), device, rounds) / base
                for name, way in ways.items()
            }
        }
