"""Everything that needs a GPU, in one run: checks first, then figures, written as one JSON file.

    python benchmarks/gpu.py --out benchmarks/results/gpu.json
    TRITON_INTERPRET=1 python benchmarks/gpu.py --device cpu      # rehearsal: small shapes, no claim

Kernels are compared with float64 on the same input before anything is timed; times are medians.
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
from typing import Any

import numpy as np
import torch
from attention_peers import output_and_gradients, packed_inputs, packed_ways, padded_attention
from gpu_adapters import check_adapters, measure_adapters
from gpu_genome import measure_genome
from gpu_models import measure_models
from gpu_pooling import check_pooling, measure_pooling
from padded_peer import PaddedPeer

import fastgenome as fg
from fastgenome.kernels import reference
from fastgenome.models.attention import alibi_slopes


def seconds(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median time of one call, after a warm-up."""
    times = []
    for number in range(rounds + 2):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def check_packed_attention(device: torch.device) -> dict[str, float]:
    """Largest error over that of PyTorch run by run in the same type, both norms against float64.

    Of the output and of each gradient, for the kernel and for what the package chooses on this device.
    """
    on_cpu = device.type == "cpu"
    types = [torch.float32] if on_cpu else [torch.float32, torch.float16, torch.bfloat16]
    worst: dict[str, float] = {}
    for dtype, dim in itertools.product(types, [16] if on_cpu else [9, 16, 40, 48, 64, 80, 128]):
        inputs, offsets, gradient = packed_inputs([1, 31, 64, 65, 100], 3, dim, dtype, device)
        exact = [x.double() for x in inputs]
        for alibi, causal in itertools.product((False, True), repeat=2):
            slopes = alibi_slopes(3).to(device) if alibi else None
            define = partial(reference.packed_attention, offsets=offsets, causal=causal, slopes=slopes)
            truth = output_and_gradients(define, exact, gradient.double())
            errors = {
                name: [
                    float((x.double() - y).norm())
                    for x, y in zip(output_and_gradients(way, inputs, gradient), truth, strict=True)
                ]
                for name, way in packed_ways(inputs, offsets, causal=causal, alibi=alibi).items()
            }
            for name in ("kernel", "chosen"):
                ratio = max(a / b for a, b in zip(errors[name], errors["by_runs"], strict=True))
                assert ratio <= 2, (name, dtype, dim, alibi, causal, errors)
                label = f"{name} {str(dtype)[6:]}"
                worst[label] = max(worst.get(label, 0.0), ratio)
    return worst


def measure_packed_attention(device: torch.device, rounds: int) -> dict[str, Any]:
    """Milliseconds, forward and with backward, on the heads of DNABERT-2: 512 tokens, mixed lengths."""
    on_cpu = device.type == "cpu"
    heads, dim, count, longest = (2, 16, 2, 33) if on_cpu else (12, 64, 128, 512)
    mixed = np.random.default_rng(0).integers(longest // 16, longest + 1, count).tolist()
    times: dict[str, Any] = {}
    for dtype in (torch.float32,) if on_cpu else (torch.bfloat16, torch.float32):
        for alibi, (batch, lengths) in itertools.product(
            (True, False), {"equal": [longest] * count, "mixed": mixed}.items()
        ):
            inputs, offsets, gradient = packed_inputs(lengths, heads, dim, dtype, device)
            ways = packed_ways(inputs, offsets, causal=False, alibi=alibi)
            ways["padded"] = padded_attention(inputs, offsets, alibi=alibi)
            results = [way(*inputs).view(gradient.shape).float() for way in ways.values()]
            bound = 2e-2 if dtype == torch.bfloat16 else 1e-4
            for result in results:
                torch.testing.assert_close(result, results[0], rtol=0, atol=bound)
            times[f"{batch} {'alibi' if alibi else 'plain'} {str(dtype)[6:]}"] = {
                name: [
                    1e3 * seconds(partial(way, *inputs), device, rounds),
                    1e3 * seconds(partial(output_and_gradients, way, inputs, gradient), device, rounds),
                ]
                for name, way in ways.items()
            }
    return {"packed_attention_ms": times}


def measure_products(device: torch.device, rounds: int) -> dict[str, float]:
    """Rate of a large bfloat16 matrix product, TFLOP/s."""
    n = 512 if device.type == "cpu" else 8192
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    return {"bf16_tflop_s": 2 * n**3 / seconds(lambda: a @ a, device, rounds) / 1e12}


def measure_embedding(device: torch.device, rounds: int) -> dict[str, float]:
    """kbp/s of tiny on sequences of 100 to 2,000 bp, packed and padded, with equal answers."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(100, 2001, 16 if device.type == "cpu" else 2048)
    sequences = ["".join(rng.choice(list("ACGT"), n)) for n in lengths]
    exact, fast = (fg.load("tiny", device=str(device), dtype=dtype) for dtype in ("float32", "auto"))
    peer = PaddedPeer(exact)
    budget = 4096 if device.type == "cpu" else 1 << 18

    def packed(model: Any) -> Any:
        return model.embed(sequences, pooling="mean", layer=-1, batch_tokens=budget)

    np.testing.assert_allclose(packed(exact), peer.embed(sequences), rtol=0, atol=1e-4)
    times = {
        "padded_float32": seconds(lambda: peer.embed(sequences), device, rounds),
        "packed_float32": seconds(lambda: packed(exact), device, rounds),
        "packed_auto": seconds(lambda: packed(fast), device, rounds),
    }
    bases = int(lengths.sum())
    fill = float(np.mean([b.mean() / b.max() for b in np.array_split(lengths, max(1, len(lengths) // 32))]))
    return {"fill": fill, **{f"{name}_kbp_s": bases / value / 1e3 for name, value in times.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    rounds = 3 if device.type == "cpu" else 20
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, rehearsal"
    results: dict[str, Any] = {"device": name, "torch": torch.__version__}
    results["range_pool_error"] = check_pooling(device)
    results["packed_attention_error"] = check_packed_attention(device)
    results["adapter_error"] = check_adapters(device)
    for measure in (measure_products, measure_packed_attention, measure_embedding):
        results |= measure(device, rounds)
    results |= measure_pooling(device, rounds, seconds)
    results |= measure_adapters(device, rounds, seconds)
    results |= measure_models(device, rounds, seconds)
    results |= measure_genome(device)
    print(json.dumps(results, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
