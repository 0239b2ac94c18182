"""Whether tensors are still what something kept was made from."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim.optimizer import register_optimizer_step_post_hook

# Numbers of a tensor that are looked at: what is written through `.data` raises no version.
_SAMPLES = 64

State = tuple[int, int, float]


def state_of(tensor: Tensor) -> State:
    """What differs after a tensor was written to: its version, its place, and on a CPU some of its numbers.

    A write through `.data` that leaves all of these numbers as they were is not seen, and on a GPU none.
    """
    _watch_fused_steps()
    sample = 0.0
    if tensor.device.type == "cpu" and tensor.numel():
        numbers = tensor.detach().reshape(-1)
        sample = float(numbers[:: max(1, len(numbers) // _SAMPLES)].sum(dtype=torch.float64))
    return tensor._version, tensor.data_ptr(), sample


@cache
def _watch_fused_steps() -> None:
    # Steps of fused optimizers write without raising a version.
    register_optimizer_step_post_hook(_raise_versions)


def _raise_versions(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        if group.get("fused"):
            increment_version(group["params"])
