"""Pooling of ranges of rows on a GPU, for gpu.py: against float64, and beside a copy of the same rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgenome.kernels import reference
from fastgenome.kernels.range_pool import range_pool

Seconds = Callable[[Callable[[], object], torch.device, int], float]
Pool = Callable[..., Tensor]
REDUCTIONS = ("mean", "max", "weighted")


def ranges(rows: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random overlapping ranges of rows."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(0, rows - 1, (count,), generator=generator)
    ends = starts + 1 + (torch.rand(count, generator=generator) * (rows - starts - 1)).long()
    return starts.to(device), ends.to(device)


def inputs(rows: int, dim: int, dtype: torch.dtype, device: torch.device, reduction: str) -> list[Tensor]:
    """States (rows, dim), and for a weighted mean weights (rows,), all with gradients."""
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(rows, dim, generator=generator).to(device, dtype)
    weights = (torch.rand(rows, generator=generator) + 0.5).to(device, dtype)
    return [x.requires_grad_() for x in ((states, weights) if reduction == "weighted" else (states,))]


def defined(states: Tensor, starts: Tensor, ends: Tensor, reduction: str, *, weights: Any = None) -> Tensor:
    """The definition, range by range in the type of the states."""
    pooled = []
    for a, b in zip(starts.tolist(), ends.tolist(), strict=True):
        if reduction == "max":
            pooled.append(states[a:b].amax(0))
        else:
            weight = torch.ones_like(states[a:b, 0]) if weights is None else weights[a:b]
            pooled.append((states[a:b] * weight[:, None]).sum(0) / weight.sum())
    return torch.stack(pooled)


def two_means(states: Tensor, starts: Tensor, ends: Tensor, reduction: str, *, weights: Tensor) -> Tensor:
    """A weighted mean from two means, over a weighted copy of the states."""
    weights = weights.float()[:, None]
    sums = range_pool(states.float() * weights, starts, ends, "mean")
    return sums / range_pool(weights, starts, ends, "mean")


def forward(way: Pool, given: list[Tensor], *bounds: Any) -> Tensor:
    """Pool states, with their weights if there are any; bounds are starts, ends and reduction."""
    return way(given[0], *bounds, weights=given[1]) if len(given) == 2 else way(given[0], *bounds)


def passes(way: Pool, given: list[Tensor], gradient: Tensor, *bounds: Any) -> list[Tensor]:
    """Output, and the gradients of what is given."""
    output = forward(way, given, *bounds)
    return [output.detach(), *torch.autograd.grad(output, given, gradient.to(output.dtype))]


def check_pooling(device: torch.device) -> dict[str, float]:
    """Largest error of the kernel over that of PyTorch in the same type, both norms against float64.

    Of the results, and of the gradients but a maximum's, where equal rows may share.
    """
    types = [torch.float32] if device.type == "cpu" else [torch.float32, torch.float16, torch.bfloat16]
    worst = {}
    starts, ends = ranges(97, 20, device)
    gradient = torch.randn(20, 63, generator=torch.Generator().manual_seed(2)).to(device)
    for dtype, reduction in itertools.product(types, REDUCTIONS):
        given = inputs(97, 63, dtype, device, reduction)
        exact = [x.detach().double().requires_grad_() for x in given]
        kernel, plain, truth = (
            passes(way, x, gradient, starts, ends, reduction)[: 1 if reduction == "max" else None]
            for way, x in ((range_pool, given), (reference.range_pool, given), (defined, exact))
        )
        errors = [
            [float((x.double() - y).norm()) for x, y in zip(found, truth, strict=True)]
            for found in (kernel, plain)
        ]
        assert all(a <= 2 * b for a, b in zip(*errors, strict=True)), (dtype, reduction, errors)
        ratio = max((a / b for a, b in zip(*errors, strict=True) if b), default=0.0)
        worst[f"{reduction} {str(dtype)[6:]}"] = ratio
    return worst


def measure_pooling(device: torch.device, rounds: int, seconds: Seconds) -> dict[str, Any]:
    """Pooling of disjoint sequences of bfloat16 rows, beside a copy: rate forward, and milliseconds.

    The rate counts the states once; the milliseconds are of the forward pass, and of both passes.
    """
    on_cpu = device.type == "cpu"
    rows, dim, length = (128, 64, 48) if on_cpu else (1 << 20, 768, 256)
    starts = torch.arange(0, rows, length, device=device)
    ends = (starts + length).clamp(max=rows)
    gradient = torch.randn(len(starts), dim, device=device)
    rates: dict[str, float] = {}
    times: dict[str, list[float]] = {}
    for name in (*REDUCTIONS, "weighted from two means"):
        way, reduction = (range_pool, name) if name in REDUCTIONS else (two_means, "weighted")
        given = inputs(rows, dim, torch.float32 if on_cpu else torch.bfloat16, device, reduction)
        size = given[0].numel() * given[0].element_size()
        with torch.no_grad():
            torch.testing.assert_close(
                forward(way, given, starts, ends, reduction),
                forward(reference.range_pool, given, starts, ends, reduction),
                rtol=0,
                atol=1e-5,
            )
            once = seconds(partial(forward, way, given, starts, ends, reduction), device, rounds)
        both = seconds(partial(passes, way, given, gradient, starts, ends, reduction), device, rounds)
        rates[name], times[name] = size / once / 1e9, [1e3 * once, 1e3 * both]
    states = given[0].detach()
    copied = torch.empty_like(states)
    copy = seconds(lambda: copied.copy_(states), device, rounds)
    return {"range_pool_gb_s": rates, "range_pool_ms": times, "copy_gb_s": 2 * size / copy / 1e9}
