"""Range pooling: the plain definition against NumPy, the Triton kernel against the plain definition."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fastgenome.kernels import reference
from fastgenome.kernels.reference import RangeReduction

RANGES = {
    "sequences": [(0, 7), (7, 8), (8, 41), (41, 90)],
    "windows": [(start, min(start + 20, 90)) for start in range(0, 90, 5)],
    "any-order": [(50, 90), (0, 90), (3, 4), (3, 4), (60, 61), (10, 80), (0, 1)],
    "with-empty": [(5, 5), (0, 33), (90, 90)],
    "none": [],
}


def tensors(ranges: list[tuple[int, int]], dim: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    states = torch.randn(90, dim, generator=torch.Generator().manual_seed(3))
    pairs = torch.tensor(ranges, dtype=torch.int64).reshape(-1, 2)
    return states, pairs[:, 0].contiguous(), pairs[:, 1].contiguous()


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


def test_range_pool_kernel_equals_reference_in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="the kernel needs triton: pip install 'fastgenome[triton]'")
    # The interpreter is chosen when triton is imported, hence a process of its own.
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [sys.executable, __file__], env=environment, cwd=Path(__file__).parent.parent,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-2:] == ["40", "compared"]


def compare_kernel() -> int:
    """Compare forward and backward passes over all ranges, types and widths; the number of comparisons."""
    from fastgenome.kernels.range_pool import range_pool

    def poisoned(*shape: int, **kwargs: object) -> torch.Tensor:
        """torch.empty whose content shows wherever a kernel leaves it."""
        made = empty(*shape, **kwargs)
        return made.fill_(torch.nan if made.is_floating_point() else -7)

    empty, torch.empty = torch.empty, poisoned
    compared = 0
    for ranges in RANGES.values():
        for dim in (5, 70):
            for dtype in (torch.float32, torch.float16):
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
                    compared += 1
    return compared


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    print(compare_kernel(), "compared")
