"""Range pooling: the plain definition against NumPy, the Triton kernel against the plain definition.

Weighted means are compared with loops in float64, and may err at most twice as much as the loops themselves
do in the type of the input.
"""

import itertools
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from kernel_checks import main, poison_new_tensors, run_check
from torch import Tensor

from fastgenome.kernels import reference
from fastgenome.kernels.reference import RangeReduction

RANGES = {
    "sequences": [(0, 7), (7, 8), (8, 41), (41, 90)],
    "windows": [(start, min(start + 20, 90)) for start in range(0, 90, 5)],
    "any-order": [(50, 90), (0, 90), (3, 4), (3, 4), (60, 61), (10, 80), (0, 1)],
    "with-empty": [(5, 5), (0, 33), (90, 90)],
    "none": [],
}


TYPES = [torch.float32, torch.float16, torch.bfloat16]


def tensors(ranges: list[tuple[int, int]], dim: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    states = torch.randn(90, dim, generator=torch.Generator().manual_seed(3))
    pairs = torch.tensor(ranges, dtype=torch.int64).reshape(-1, 2)
    return states, pairs[:, 0].contiguous(), pairs[:, 1].contiguous()


def row_weights() -> Tensor:
    """Weights (90,) of either sign, whose sums over the ranges are far from zero, some of them zero."""
    weights = torch.rand(90, generator=torch.Generator().manual_seed(4)) + 0.5
    weights[6::7] = 0
    weights[5::11] *= -0.5
    return weights


def weighted_mean(
    states: Tensor, starts: Tensor, ends: Tensor, reduction: str = "weighted", *, weights: Tensor
) -> Tensor:
    """The definition, range by range in the type of the states."""
    means = [states[:0] * weights[:0, None]]
    for a, b in zip(starts.tolist(), ends.tolist(), strict=True):
        sums = (states[a:b] * weights[a:b, None]).sum(0, keepdim=True)
        means.append(sums / weights[a:b].sum() if b > a else sums)
    return torch.cat(means)


def passes(way: Callable[..., Tensor], states: Tensor, weights: Tensor, gradient: Tensor) -> list[Tensor]:
    """Output, and the gradients of states and weights."""
    leaves = [x.detach().clone().requires_grad_() for x in (states, weights)]
    output = way(leaves[0], weights=leaves[1])
    gradients = torch.autograd.grad(output, leaves, gradient.to(output.dtype))
    assert [x.dtype for x in gradients] == [states.dtype, weights.dtype]
    return [output.detach(), *gradients]


def check_weighted(way: Callable[..., Tensor], dtype: torch.dtype) -> None:
    """Over all ranges, a way errs at most twice as much as the definition in the same type."""
    squares = torch.zeros(2, 3, dtype=torch.float64)
    for name, dim in itertools.product(RANGES, (5, 70)):
        states, starts, ends = tensors(RANGES[name], dim)
        gradient = torch.randn(len(starts), dim, generator=torch.Generator().manual_seed(5))
        given = [x.to(dtype) for x in (states, row_weights(), gradient)]
        pool = partial(way, starts=starts, ends=ends, reduction="weighted")
        define = partial(weighted_mean, starts=starts, ends=ends)
        truth = passes(define, *(x.double() for x in given))
        found = passes(pool, *given)
        assert found[0].dtype == torch.float32
        for side, results in enumerate((found, passes(define, *given))):
            assert [x.shape for x in results] == [x.shape for x in truth]
            squares[side] += torch.stack(
                [(x.double() - y).square().sum() for x, y in zip(results, truth, strict=True)]
            )
    ratios = (squares[0] / squares[1]).sqrt()
    assert (ratios <= 2).all(), (dtype, ratios)


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("reduction", ["mean", "max"])
@pytest.mark.parametrize("name", RANGES)
def test_range_pool_reference_equals_numpy(name: str, reduction: RangeReduction, grad: bool) -> None:
    states, starts, ends = tensors(RANGES[name])
    states.requires_grad_(grad)
    found = reference.range_pool(states, starts, ends, reduction)
    rows = states.detach().numpy().astype(np.float64)
    reduce = np.mean if reduction == "mean" else np.max
    expected = [reduce(rows[a:b], axis=0) if b > a else np.zeros(5) for a, b in RANGES[name]]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.detach().numpy(), np.reshape(expected, (-1, 5)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_range_pool_reference_passes_gradients_back(reduction: RangeReduction) -> None:
    ranges = RANGES["any-order"]
    states, starts, ends = tensors(ranges)
    states[3] = states[10] = 9.0  # A tie: the first row owns the maximum.
    states.requires_grad_()
    weight = torch.randn(len(ranges), 5)
    (reference.range_pool(states, starts, ends, reduction) * weight).sum().backward()
    expected = np.zeros((90, 5))
    rows = states.detach().numpy()
    for (a, b), w in zip(ranges, weight.numpy(), strict=True):
        if reduction == "mean":
            expected[a:b] += w / (b - a)
        else:
            np.add.at(expected, (a + rows[a:b].argmax(0), np.arange(5)), w)
    np.testing.assert_allclose(states.grad.numpy(), expected, rtol=0, atol=1e-5)


def test_range_pool_reference_widens_before_it_adds() -> None:
    states = torch.full((4096, 2), 1.01, dtype=torch.bfloat16)
    pooled = reference.range_pool(states, torch.tensor([0]), torch.tensor([4096]), "mean")
    torch.testing.assert_close(pooled, states[:1].float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_weighted_range_pool_reference_is_as_exact_as_its_definition(dtype: torch.dtype) -> None:
    check_weighted(reference.range_pool, dtype)


def test_weighted_range_pool_reference_divides_by_a_weight_sum_of_zero() -> None:
    check_zero_sums(reference.range_pool)


def check_zero_sums(way: Callable[..., Tensor]) -> None:
    """Weights that sum to zero give no number, an empty range zeros, and other ranges do not notice."""
    states, starts, ends = tensors([(0, 3), (10, 20), (20, 20)])
    weights = torch.ones(90)
    weights[:3] = 0
    found, d_states, d_weights = passes(
        partial(way, starts=starts, ends=ends, reduction="weighted"), states, weights, torch.ones(3, 5)
    )
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1], states[10:20].mean(0))
    assert (found[2] == 0).all()
    assert d_states[3:].isfinite().all()
    assert d_weights[3:].isfinite().all()


def check_kernel(dtype: torch.dtype) -> None:
    """Forward and backward passes over all ranges and widths."""
    from fastgenome.kernels.range_pool import range_pool

    poison_new_tensors()
    check_weighted(range_pool, dtype)
    for ranges in RANGES.values():
        for dim in (5, 70):
            for reduction in ("mean", "max"):
                states, starts, ends = tensors(ranges, dim)
                states[3] = states[10] = 9.0
                states = states.to(dtype)
                ours, truth = (states.clone().requires_grad_() for _ in range(2))
                found = range_pool(ours, starts, ends, reduction)
                expected = reference.range_pool(truth, starts, ends, reduction)
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
                weight = torch.randn_like(expected)
                (found * weight).sum().backward()
                (expected * weight).sum().backward()
                bound = 1e-6 if dtype == torch.float32 else 2e-3
                torch.testing.assert_close(ours.grad, truth.grad, rtol=bound, atol=bound)


def check_float32() -> None:
    check_kernel(torch.float32)


def check_float16() -> None:
    check_kernel(torch.float16)


def check_weights() -> None:
    """Weights finer than the states, a weight sum of zero, no rows, no columns."""
    from fastgenome.kernels.range_pool import range_pool

    poison_new_tensors()
    check_zero_sums(range_pool)
    states, starts, ends = tensors(RANGES["windows"])
    given = states.half(), row_weights(), torch.randn(len(starts), 5)
    pool = partial(range_pool, starts=starts, ends=ends, reduction="weighted")
    define = partial(weighted_mean, starts=starts, ends=ends)
    for found, exact in zip(passes(pool, *given), passes(define, *(x.double() for x in given)), strict=True):
        torch.testing.assert_close(found.double(), exact, rtol=2e-3, atol=2e-3)
    none = torch.zeros(0, dtype=torch.int64)
    pool = partial(range_pool, starts=none, ends=none, reduction="weighted")
    for rows, dim in ((0, 5), (90, 0)):
        output, d_states, d_weights = passes(
            pool, torch.ones(rows, dim), torch.ones(rows), torch.ones(0, dim)
        )
        assert output.shape == (0, dim)
        assert d_states.shape == (rows, dim)
        assert torch.equal(d_weights, torch.zeros(rows))


def check_registration() -> None:
    """Types, shapes, gradients and tracing of the registered operations."""
    from fastgenome.kernels import range_pool as module

    states, starts, ends = tensors(RANGES["any-order"])
    gradients = torch.randn(len(starts), 5)
    for reduction in ("mean", "max", "weighted"):
        weights = row_weights() if reduction == "weighted" else None
        leaves = [None if x is None else x.clone().requires_grad_() for x in (states, weights)]
        torch.library.opcheck(module._pool, (leaves[0], starts, ends, leaves[1], reduction))
        output, kept = module._pool(states, starts, ends, weights, reduction)
        others = (None, None, None) if weights is None else (states, weights, output)
        arguments = (gradients, starts, ends, kept, len(states), states.dtype, reduction, *others)
        torch.library.opcheck(module._pool_backward, arguments)


def check_compiled() -> None:
    """The kernels compile for GPUs, and use no atomics."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from fastgenome.kernels import range_pool as module

    blocks = {"BLOCK_ROWS": module.BLOCK_ROWS, "BLOCK_COLUMNS": module.BLOCK_COLUMNS}
    types = dict.fromkeys(("starts", "ends", "first_ranges", "last_ranges"), "*i64")
    types |= dict.fromkeys(("output", "gradients", "d_states", "d_weights"), "*fp32") | {"dim": "i32"}
    for capability, dtype in ((90, "bf16"), (80, "fp16"), (80, "fp32")):
        for reduction in ("mean", "max", "weighted"):
            for kernel in (module._forward_kernel, module._backward_kernel):
                constants = blocks | {"REDUCTION": reduction}
                if reduction != "weighted":
                    constants["weights"] = None
                constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
                kinds = types | {"kept": "*i64" if reduction == "max" else "*fp32", "weights": "*fp32"}
                kinds |= dict.fromkeys(constants, "constexpr")
                signature = {name: kinds.get(name, f"*{dtype}") for name in kernel.arg_names}
                source = ASTSource(kernel, signature, constants)
                code = triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]
                assert not re.search(r"\b(atom|red)\.", code)


INTERPRETED = ("check_float32", "check_float16", "check_weights", "check_registration")


@pytest.mark.parametrize("check", [*INTERPRETED, "check_compiled"])
def test_range_pool_kernel(check: str) -> None:
    run_check(__file__, check, interpreted=check in INTERPRETED)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main(globals())
