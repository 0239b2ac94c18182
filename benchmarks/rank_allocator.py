"""AdaLoRA's work beside training, over the 72 matrices of OPT-125M: fastgenome against PEFT.

Measured is what one optimizer step adds: the regulariser with its gradient, the importance of all triplets,
and, where ranks are allocated, the ranking. Both sides have the same weights and gradients and take turns.
`python benchmarks/rank_allocator.py --threads 2`; figures are medians in milliseconds, and ratios.
"""

import argparse
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import peft
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastgenome.adapters.adalora import AdaLoRA
from fastgenome.adapters.rank_allocation import RankAllocator
from fastgenome.adapters.rank_sampling import ARS

LAYER = ((768, 768),) * 4 + ((768, 3072), (3072, 768))  # (in, out) of q, k, v, o, fc1, fc2
LAYERS, RANK, TARGET, STEPS, WEIGHT = 12, 12, 6, 100_000, 0.5

# On CUDA one launch takes this many tensors of a list, and sorting a thousand numbers takes a few launches.
_TENSORS_PER_LAUNCH = {"_foreach_add_": 64, "_foreach_copy_": 64, "cat": 128}
_LAUNCHES = {"sort": 4}
_VIEWS = {"detach", "alias", "view", "_unsafe_view", "slice", "split", "split_with_sizes", "unbind", "expand"}
_VIEWS |= {"t", "transpose", "select", "unsqueeze", "empty_like", "empty", "new_empty_strided"}
# The draws of sampling; their copy to the device is counted as the comparison that makes it.
_OF_THE_HOST = {"rand"}


class Network(nn.Module):
    """The adapted layers alone; its loss is nothing but what PEFT adds to it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*shape) for _ in range(LAYERS) for shape in LAYER)

    def forward(self) -> SimpleNamespace:
        return SimpleNamespace(loss=torch.zeros(()))


class Launches(TorchDispatchMode):
    """Estimates the kernels that the same operations would launch on CUDA, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.__name__.split(".")[0]
        if name not in _VIEWS and name not in _OF_THE_HOST:
            together = _TENSORS_PER_LAUNCH.get(name)
            self.counts[name] += math.ceil(len(args[0]) / together) if together else _LAUNCHES.get(name, 1)
        return func(*args, **(kwargs or {}))


def peft_model(interval: int) -> peft.PeftModel:
    """PEFT's AdaLoRA with random A, λ, B and gradients."""
    config = peft.AdaLoraConfig(
        init_r=RANK,
        target_r=TARGET,
        target_modules=r"layers\.\d+",
        deltaT=interval,
        total_step=STEPS,
        orth_reg_weight=WEIGHT,
    )
    model = peft.get_peft_model(Network(), config)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.02)
            parameter.grad = torch.randn_like(parameter)
    return model


def triplets_of(model: peft.PeftModel) -> dict[str, SimpleNamespace]:
    """Copies of the same parameters and gradients, by name."""

    def copy(parameter: Tensor) -> Tensor:
        made = nn.Parameter(parameter.detach().clone())
        made.grad = parameter.grad.clone()
        return made

    triplets = {}
    for i, layer in enumerate(model.base_model.model.layers):
        values = nn.Parameter(layer.lora_E["default"].detach().clone().view(-1))
        values.grad = layer.lora_E["default"].grad.clone().view(-1)
        triplets[f"layers.{i}"] = SimpleNamespace(
            down=copy(layer.lora_A["default"]),
            values=values,
            up=copy(layer.lora_B["default"]),
            mask=torch.ones(RANK, dtype=torch.bool),
        )
    return triplets


def peft_step(model: peft.PeftModel) -> Callable[[int], object]:
    """What PEFT does in a step: the regulariser in the loss, then update_and_allocate."""

    def step(number: int) -> None:
        model.base_model().loss.backward()
        model.base_model.update_and_allocate(number)

    return step


def our_step(model: peft.PeftModel, settings: AdaLoRA) -> Callable[[int], object]:
    """What fastgenome does in a step."""
    allocator = RankAllocator(triplets_of(model), settings, total_steps=STEPS)

    def step(number: int) -> None:
        allocator.add_orthogonality_gradient()
        allocator.after_backward(number)
        allocator.after_step(number)

    return step


def compare(interval: int, rounds: int) -> None:
    """Prints times and launches of all sides for one interval between allocations."""
    model = peft_model(interval)
    common = {
        "initial_rank": RANK,
        "target_rank": TARGET,
        "allocation_warmup": 0,
        "allocation_final": 0,
        "allocation_interval": interval,
        "orthogonality": WEIGHT,
    }
    # Sides before PEFT's own first step, which changes the weights that they copy.
    sides = {
        "fastgenome AdaLoRA": our_step(model, AdaLoRA(**common)),
        "fastgenome ARS eq4": our_step(model, ARS(**common)),
        "peft AdaLoRA": peft_step(model),
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(1, rounds + 3):
        for side, step in sides.items():
            started = time.perf_counter()
            step(number)
            if number > 2:  # after two that warm up
                times[side].append((time.perf_counter() - started) * 1e3)
    print(f"\nranks allocated every {interval} steps, {rounds} rounds, {torch.get_num_threads()} threads")
    theirs = statistics.median(times["peft AdaLoRA"])
    for side, step in sides.items():
        with Launches() as launches:
            step(rounds + 3)
        median = statistics.median(times[side])
        print(
            f"{side:20}{median:9.2f} ms  peft / this {theirs / median:5.2f}  "
            f"about {launches.counts.total():5} launches  "
            f"host waits {launches.counts['_local_scalar_dense']:3}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=41)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for interval in (1, 1000):
        compare(interval, options.rounds)


if __name__ == "__main__":
    main()
