"""Measures steps of tuning beside PEFT, and prediction with adapters: `python benchmarks/tuning_steps.py`.

OPT-125M and BERT-base in random weights, batches of real DNA, adapters on all six matrices of a layer. A
step is forward, mean over the real tokens, linear head, cross-entropy, backward and AdamW over adapter and
head; of AdaLoRA with its regulariser and an allocation of ranks in every step. PEFT gets the padded batch
with its mask, SDPA, and networks without dropout of their own, in two settings: its defaults, and its best,
adapters in the weights' type (autocast_adapter_dtype=False) and a mixed batch sorted by length and run as
four, whose gradients add up. Both sides start from the same numbers, take turns in every round and have
freed memory kept at hand, as our training loop has it; figures are medians. Every measured case is stored
in results/tuning_steps.json at once, beside those of earlier calls, and the table goes to
docs/fine_tuning.md. `--quick` measures nothing worth keeping and stores nothing. Leave the machine alone
meanwhile.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from models import cosine, fill
from pages import write_between
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from tuning_peer import (
    padded_parts,
    peer_embedding,
    peer_settings,
    peer_step,
    peft_config,
    with_peft,
)
from tuning_shapes import METHODS, SHAPES, Base, Batch, load, make_base, make_batch
from tuning_steps_table import BEGIN, END, PAGE, judged, render

import fastgenome as fg
from fastgenome.adapters.attach import adapted_layers
from fastgenome.memory import freed_memory_kept
from fastgenome.models.model import Model
from fastgenome.training.methods import prepare, rank_allocator

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "tuning_steps.json"

RATE, TOTAL_STEPS, ADAPTERS = 1e-4, 10_000, 8


@torch.no_grad()
def randomise(model: Model, name: str, seed: int) -> None:
    """Move an adapter so far from its start, where it does nothing, that it changes the loss."""
    generator = torch.Generator().manual_seed(seed)
    branches = [branch for layer in adapted_layers(model.network).values() for branch in layer.branches(name)]
    for branch in branches:
        if branch.values is not None:
            # They multiply A and B of some hundredths, which the regulariser wants to be orthonormal.
            moved: list[tuple[Tensor | None, float]] = [(branch.values, 5.0)]
        else:
            moved = [(part, 0.1) for part in (branch.up, branch.gain, branch.input_gain)]
        for part, size in moved:
            if part is not None:
                part.add_(torch.randn(part.shape, generator=generator), alpha=size)


def saved(model: Model, name: str) -> dict[str, Tensor]:
    """An adapter's tensors under PEFT's names."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_adapter(folder, name=name)
        return load_file(Path(folder) / "adapter_model.safetensors")


def our_step(model: Model, config: Any, head: nn.Linear, batch: Batch) -> Callable[[], float]:
    """An optimizer step over adapter and head, which returns the loss before it."""
    allocator = rank_allocator(model, config, total_steps=TOTAL_STEPS)
    optimizer = torch.optim.AdamW([*model.adapter_parameters(), *head.parameters()], lr=RATE)
    numbers = count(1)

    def step() -> float:
        number = next(numbers)
        loss = F.cross_entropy(head(model.pooled(batch.tokens, pooling="mean")), batch.labels)
        loss.backward()
        total = loss.detach()
        if allocator is not None:
            total = total + allocator.add_orthogonality_gradient()
            allocator.after_backward(number)
        optimizer.step()
        if allocator is not None:
            allocator.after_step(number)
        optimizer.zero_grad()
        return float(total)

    return step


def probe_step(embeddings: Tensor, head: nn.Linear, labels: Tensor) -> Callable[[], float]:
    """An optimizer step of the head alone, on embeddings that are there already."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE)

    def step() -> float:
        loss = F.cross_entropy(head(embeddings), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def copied(head: nn.Linear) -> nn.Linear:
    twin = nn.Linear(head.in_features, head.out_features)
    twin.load_state_dict(head.state_dict())
    return twin


def medians(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of each side; all take turns within a round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with freed_memory_kept():
        for name, side in list(sides.items()) * rounds:
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def measure_step(
    base: Base, batch: Batch, dtype: str, *, method: str, dropout: float, rounds: int
) -> dict[str, float]:
    """Median seconds of a step on every side; equal first losses are asserted where they can be."""
    config = METHODS[method](dropout)
    model = load(base, dtype)
    prepare(model, config, pooler=False)
    randomise(model, "default", 1)
    tensors = saved(model, "default")
    sides = {"fastgenome": our_step(model, config, copied(base.head), batch)}
    for name, settings in peer_settings(dtype, batch.kind).items():
        theirs = with_peft(
            base.network,
            base.head,
            peft_config(config, base.shape.modules, TOTAL_STEPS),
            [tensors],
            dtype=getattr(torch, dtype),
            autocast=settings.autocast,
        )
        parts = padded_parts(batch.tokens, batch.labels, model.tokenizer, settings.parts)
        sides[name] = peer_step(theirs, parts, RATE)
    if method == "LoRA" and not dropout:
        embeddings = torch.from_numpy(model.embed(batch.tokens, pooling="mean"))
        sides["probe on cached embeddings"] = probe_step(embeddings, copied(base.head), batch.labels)
    first = {name: side() for name, side in sides.items()}
    if dtype == "float32" and not dropout:
        np.testing.assert_allclose(list(first.values()), first["fastgenome"], rtol=1e-4)
    return medians(sides, rounds)


def measure_prediction(base: Base, batch: Batch, dtype: str, rounds: int) -> dict[str, float]:
    """Median seconds to embed with no adapter, with one, and with another for each sequence."""
    sides: dict[str, Callable[[], Any]] = {}
    for name, config, merged in (
        ("base", None, False),
        ("LoRA merged", fg.LoRA(), True),
        ("IA3 merged", fg.IA3(), True),
        ("IA3", fg.IA3(), False),
    ):
        model = load(base, dtype)
        if config is not None:
            model.add_adapter(config)
            randomise(model, "default", 1)
        if merged:
            model.merge_adapter()
        sides[name] = partial(model.embed, batch.tokens, pooling="mean")
    mixed = load(base, dtype)
    for number in range(ADAPTERS):
        mixed.add_adapter(fg.LoRA(), name=str(number))
        randomise(mixed, str(number), number)
    names = [str(i) for i in np.random.default_rng(0).integers(ADAPTERS, size=len(batch.labels))]
    sides["mixed"] = partial(mixed.embed, batch.tokens, pooling="mean", adapter=names)
    tensors = [saved(mixed, str(number)) for number in range(ADAPTERS)]
    for name, settings in peer_settings(dtype, batch.kind).items():
        theirs = with_peft(
            base.network,
            base.head,
            peft_config(fg.LoRA(), base.shape.modules, TOTAL_STEPS),
            tensors,
            dtype=getattr(torch, dtype),
            autocast=settings.autocast,
        )
        parts = padded_parts(batch.tokens, batch.labels, mixed.tokenizer, settings.parts)
        sides[f"mixed, {name}"] = peer_embedding(theirs, parts, names)
    found = {name: side() for name, side in sides.items()}
    for name in (name for name in found if name.startswith("mixed, ")):
        assert cosine(found["mixed"], found[name]) > (0.999999 if dtype == "float32" else 0.995), name
    # Where two hundredths count, noise must be less.
    return medians(sides, 2 * rounds)


def stored_results(path: Path) -> dict[str, Any]:
    """Earlier results, unless they are of another machine or other versions."""
    versions = {module.__name__: module.__version__ for module in (torch, transformers, peft)}
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    head = {"command": "python benchmarks/tuning_steps.py", "machine": machine, "versions": versions}
    if path.is_file():
        earlier: dict[str, Any] = json.loads(path.read_text())
        if earlier["versions"] == versions and earlier["machine"] == machine:
            return earlier
    return head | {"steps": {}, "prediction": {}}


def store(results: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(results, indent=2) + "\n")


def measure(options: argparse.Namespace, results: dict[str, Any], keep: Callable[[], None]) -> None:
    """All cases of one model after the other; `keep` is called after each."""
    rounds = options.rounds
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            base = make_base(SHAPES[name], Path(folder), quick=options.quick)
            for kind, dtype in product(options.batches, options.dtypes):
                batch = make_batch(load(base, dtype), kind, options.tokens)
                about = {
                    "model": name, "kind": kind, "dtype": dtype, "rounds": rounds,
                    "sequences": len(batch.labels), "tokens": len(batch.tokens.ids),
                    "fill": fill(batch.tokens, len(batch.labels)),
                }  # fmt: skip
                for method, dropout in product(options.methods, (0.0, 0.1)):
                    seconds = measure_step(base, batch, dtype, method=method, dropout=dropout, rounds=rounds)
                    case = f"{name}, {kind}, {dtype}, {method}, dropout {dropout}"
                    results["steps"][case] = about | {
                        "method": method, "dropout": dropout, "seconds": seconds,
                    }  # fmt: skip
                    print(case, json.dumps(seconds), flush=True)
                    keep()
                if options.prediction:
                    seconds = measure_prediction(base, batch, dtype, rounds)
                    results["prediction"][f"{name}, {kind}, {dtype}"] = about | {"seconds": seconds}
                    print(name, kind, dtype, "prediction", json.dumps(seconds), flush=True)
                    keep()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=1024, help="about so many for each batch")
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--batches", nargs="+", choices=("equal", "mixed"), default=["equal", "mixed"])
    parser.add_argument(
        "--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"]
    )
    parser.add_argument("--prediction", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="file of results; another one leaves the page"
    )
    parser.add_argument("--quick", action="store_true", help="two layers and few tokens: does it run?")
    parser.add_argument("--render", action="store_true", help="write the table from the stored results")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tokens = 2, 400
        results: dict[str, Any] = {"steps": {}, "prediction": {}, "versions": {}}
        measure(options, results, keep=lambda: None)
        print(render(results), *judged(results), sep="\n")
        return
    if not options.render:
        results = stored_results(options.out)
        measure(options, results, partial(store, results, options.out))
    results = json.loads(options.out.read_text())
    if options.out == RESULTS:
        write_between(PAGE, BEGIN, END, render(results))
    print(*judged(results), sep="\n")


if __name__ == "__main__":
    main()
