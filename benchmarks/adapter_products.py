"""One adapted linear layer, forward and backward, over the same layer frozen, beside PEFT's.

    python benchmarks/adapter_products.py --dtype float32
    python benchmarks/adapter_products.py --dtype bfloat16 --json products.json

The input has a gradient, as inside a network; every figure is the median of one run in which all layers
take turns. PEFT stands with adapters in the type of the weights, its fastest setting, and in bfloat16 also
with its default, float32 adapters. Our DoRA step includes the norm of the adapted weights, as PEFT's does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import peft
import torch
from torch import Tensor, nn

from fastgenome import ops
from fastgenome.kernels.reference import LowRank

RANK, ALPHA = 8, 16
METHODS = ("lora", "dora", "adalora")

Step = Callable[[], Tensor]


class Layer(nn.Module):
    """What PEFT needs to have something to adapt."""

    def __init__(self, inner: int, outer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.linear = nn.Linear(inner, outer, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def peft_layer(layer: Layer, method: str, dropout: float, autocast: bool) -> nn.Module:
    """PEFT's adapter on a copy of the layer, with no matrix left at zero."""
    inner, outer = layer.linear.in_features, layer.linear.out_features
    copy = Layer(inner, outer, layer.linear.weight.dtype)
    copy.load_state_dict(layer.state_dict())
    common = {"target_modules": ["linear"], "lora_alpha": ALPHA, "lora_dropout": dropout}
    if method == "adalora":
        config = peft.AdaLoraConfig(init_r=RANK, target_r=4, total_step=1000, **common)
    else:
        config = peft.LoraConfig(r=RANK, use_dora=method == "dora", **common)
    model = peft.get_peft_model(copy, config, autocast_adapter_dtype=autocast).train()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "lora_E" in name:
                parameter.normal_(0, 0.02)
    return model


def our_layer(layer: Layer, model: nn.Module, method: str, dropout: float) -> Callable[[Tensor], Tensor]:
    """Our layer with PEFT's parameters, in float32."""
    tensors = {name: p.detach().float() for name, p in model.named_parameters() if p.requires_grad}
    find = lambda part: next(p for name, p in tensors.items() if part in name).requires_grad_()  # noqa: E731
    down, up = find("lora_A"), find("lora_B")
    weight, bias = (p.detach() for p in (layer.linear.weight, layer.linear.bias))
    values = find("lora_E")[:, 0] if method == "adalora" else None
    scale = ALPHA / (RANK + 1e-5) if method == "adalora" else ALPHA / RANK
    branch = LowRank(down, up, values, 0, scale)
    squares = weight.float().square().sum(1)
    seeds = itertools.count()

    def forward(x: Tensor) -> Tensor:
        gain = None
        if method == "dora":
            gain = find("magnitude") / adapted_norm(weight, squares, down.detach(), up.detach(), scale)
        return ops.adapter_linear(x, weight, bias, [branch], gain=gain, dropout=dropout, seed=next(seeds))

    return forward


def adapted_norm(weight: Tensor, squares: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """Norm of each row of W + scale B A, (out,), without building B A; `squares` are those of W's rows."""
    mixed = (weight @ down.T.to(weight.dtype)).float()
    return (squares + scale * ((2 * mixed + scale * (up @ (down @ down.T))) * up).sum(1)).sqrt()


def step(forward: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> Tensor:
    """Forward and backward; the output."""
    x.grad = None
    y = forward(x)
    y.backward(gradient.to(y.dtype))
    return y.detach()


def medians(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Seconds of each step; the steps take turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, work in steps.items():
            start = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(
    rows: int, inner: int, outer: int, dtype: torch.dtype, dropout: float, rounds: int
) -> dict[str, float]:
    """Seconds of the frozen layer and of every adapted one; equal answers first, where dropout is 0."""
    torch.manual_seed(0)
    layer = Layer(inner, outer, dtype).requires_grad_(False)
    x, gradient = torch.randn(rows, inner).to(dtype).requires_grad_(), torch.randn(rows, outer).to(dtype)
    steps = {"frozen": partial(step, layer, x, gradient)}
    for method in METHODS:
        model = peft_layer(layer, method, dropout, autocast=False)
        ours = our_layer(layer, model, method, dropout)
        steps[f"{method} ours"] = partial(step, ours, x, gradient)
        steps[f"{method} peft"] = partial(step, model, x, gradient)
        if dtype == torch.bfloat16:
            default = peft_layer(layer, method, dropout, autocast=True)
            steps[f"{method} peft default"] = partial(step, default, x, gradient)
        if not dropout:
            bound = 1e-4 if dtype == torch.float32 else 5e-2
            torch.testing.assert_close(ours(x), model(x), rtol=bound, atol=bound)
    return medians(steps, rounds)


def measure_mixed(
    rows: int, inner: int, outer: int, dtype: torch.dtype, rounds: int, *, count: int = 8, length: int = 64
) -> dict[str, float]:
    """Seconds of prediction where each sequence has one of 8 adapters, in random order."""
    torch.manual_seed(0)
    layer = Layer(inner, outer, dtype).requires_grad_(False)
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["linear"], init_lora_weights=False)
    model = peft.get_peft_model(layer, config, adapter_name="0", autocast_adapter_dtype=False)
    for number in range(1, count):
        model.add_adapter(str(number), config, autocast_adapter_dtype=False)
    adapted = model.eval().base_model.model.linear
    down, up = (
        torch.stack([part[str(k)].weight.detach().float() for k in range(count)])
        for part in (adapted.lora_A, adapted.lora_B)
    )
    scale = torch.full((count,), ALPHA / RANK)
    index = torch.randint(count, (rows // length,))
    offsets = torch.arange(0, rows + 1, length)
    x = torch.randn(rows, inner).to(dtype)
    names = [str(k) for k in index.tolist()]
    weight, bias = adapted.base_layer.weight, adapted.base_layer.bias
    steps = {
        "frozen": lambda: ops.linear(x, weight, bias),
        "ours": lambda: ops.multi_adapter_linear(
            x, weight, bias, offsets, index, down=down, up=up, scale=scale
        ),
        "peft": lambda: model(x.view(-1, length, inner), adapter_names=names).view(rows, outer),
    }
    with torch.inference_mode():
        bound = 1e-4 if dtype == torch.float32 else 5e-2
        torch.testing.assert_close(steps["ours"](), steps["peft"](), rtol=bound, atol=bound)
        return medians(steps, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), nargs="+", default=["float32", "bfloat16"]
    )
    parser.add_argument("--shapes", nargs="+", default=["768x768", "768x3072", "3072x768"], help="in x out")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    print(
        "| in→out | type | dropout | method | ours ÷ frozen | PEFT ÷ frozen | PEFT ÷ ours "
        "| PEFT default ÷ ours |"
    )
    print("|---" * 8 + "|")
    for shape, name, dropout in itertools.product(arguments.shapes, arguments.dtype, (0.0, 0.1)):
        inner, outer = map(int, shape.split("x"))
        times = measure(arguments.rows, inner, outer, getattr(torch, name), dropout, arguments.rounds)
        results.append({"in": inner, "out": outer, "dtype": name, "dropout": dropout, "seconds": times})
        for method in METHODS:
            ours, peer = times[f"{method} ours"], times[f"{method} peft"]
            default = times.get(f"{method} peft default")
            ratios = [ours / times["frozen"], peer / times["frozen"], peer / ours]
            cells = [f"{ratio:.2f}" for ratio in ratios] + [f"{default / ours:.2f}" if default else ""]
            print(
                f"| {inner}→{outer} | {name} | {dropout} | {method} | " + " | ".join(cells) + " |", flush=True
            )
        if dropout:
            continue
        mixed = measure_mixed(arguments.rows, inner, outer, getattr(torch, name), arguments.rounds)
        results[-1]["mixed seconds"] = mixed
        ratios = [
            mixed["ours"] / mixed["frozen"],
            mixed["peft"] / mixed["frozen"],
            mixed["peft"] / mixed["ours"],
        ]
        cells = [f"{ratio:.2f}" for ratio in ratios]
        print(
            f"| {inner}→{outer} | {name} | | 8 mixed, prediction | " + " | ".join(cells) + " | |", flush=True
        )
    if arguments.json:
        head = {"torch": torch.__version__, "peft": peft.__version__, "threads": torch.get_num_threads()}
        arguments.json.write_text(
            json.dumps(head | {"rows": arguments.rows, "results": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
