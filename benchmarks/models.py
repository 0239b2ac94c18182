"""Measures published model shapes beside padded peers: `python benchmarks/models.py`.

Random weights in the shapes of DNABERT-6, DNABERT-2 and NT-v2-50M; real sequences; ids to pooled embedding.
Every round runs each side once, so that all see the same machine; figures are medians. Leave the machine
alone meanwhile: with 4,000 tokens three rounds take a quarter of an hour on two cores. The results go to
results/models.json and, between its two marks, to the README.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from model_peers import DnaBert, DnaBert2, NucleotideTransformer, embed_padded
from numpy.typing import NDArray
from pages import write_between
from torch import Tensor

import fastgenome as fg
from fastgenome.models.model import Model
from fastgenome.tokenizers import Tokens

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
RESULTS = HERE / "results" / "models.json"
DATA = Path(os.environ.get("FASTGENOME_DATA", HERE.parents[1] / "shared" / "data"))
BEGIN, END = "<!-- model table: written by benchmarks/models.py -->", "<!-- end of model table -->"

BERT = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


class Shape(NamedTuple):
    """A published model's config.json, its vocabulary in the data folder, its peer and its batch size."""

    config: dict[str, Any]
    vocabulary: str
    peer: Callable[..., Any]
    batch_size: int


SHAPES = {
    "DNABERT-6": Shape(
        BERT | {"model_type": "bert", "vocab_size": 4101, "max_position_embeddings": 512},
        "dnabert/vocab_6.txt",
        DnaBert,
        8,
    ),
    "DNABERT-2": Shape(
        BERT | {"alibi_starting_size": 512, "vocab_size": 4096}, "dnabert2/tokenizer.json", DnaBert2, 32
    ),
    "NT-v2-50M": Shape(
        {
            "model_type": "esm", "position_embedding_type": "rotary", "add_bias_fnn": False,
            "hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 16, "intermediate_size": 2048,
            "max_position_embeddings": 2050, "vocab_size": 4107,
        },
        "",
        NucleotideTransformer,
        32,
    ),
}  # fmt: skip


def make_checkpoint(shape: Shape, weights: dict[str, Tensor], folder: Path) -> None:
    """A directory in the published layout."""
    from safetensors.torch import save_file

    (folder / "config.json").write_text(json.dumps(shape.config))
    if shape.vocabulary:
        source = DATA / "tokenizers" / shape.vocabulary
        (folder / ("vocab.txt" if source.suffix == ".txt" else source.name)).write_bytes(source.read_bytes())
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / "model.safetensors")


def sequences(kind: str, count: int) -> list[str]:
    """Real sequences: yeast histone marks of 500 bp, or 70, 200, 300 and 500 bp in turn."""
    parts = {
        500: _column("gue/H3/test.csv.gz"),
        300: _column("gue/prom_300_tata/test.csv.gz"),
        200: _fasta("iEnhancer2L/test_enhancers.fa.gz"),
        70: _column("gue/prom_core_all/test.csv.gz"),
    }
    lengths = [500] if kind == "equal" else [70, 200, 300, 500]
    chosen = [parts[lengths[i % len(lengths)]][i // len(lengths)] for i in range(count)]
    return [chosen[i] for i in np.random.default_rng(0).permutation(count)]


def _column(path: str) -> list[str]:
    with gzip.open(DATA / path, "rt") as file:
        return [row["sequence"] for row in csv.DictReader(file)]


def _fasta(path: str) -> list[str]:
    with gzip.open(DATA / path, "rt") as file:
        return ["".join(record.split("\n")[1:]) for record in file.read().split(">")[1:]]


def useful_gflop(model: Model, tokens: Tokens) -> float:
    """Products of the layers over real tokens: 2 per weight and token, and 4 · length² · dim of attention."""
    config = model.encoder.config
    weights = sum(p.weight.numel() for p in model.encoder.modules() if isinstance(p, torch.nn.Linear))
    lengths = tokens.lengths.astype(float)
    return float(2 * weights * lengths.sum() + 4 * config.layers * config.dim * (lengths**2).sum()) / 1e9


def matrix_rate(dtype: torch.dtype) -> Callable[[], float]:
    """GFLOP/s of a product of 2048 × 2048 matrices, when called."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))

    def measure() -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - start)
        return 2 * 2048**3 / min(times) / 1e9

    return measure


def fill(tokens: Tokens, batch_size: int) -> float:
    """Share of real tokens in padded batches in the given order."""
    batches = [tokens.lengths[i : i + batch_size] for i in range(0, len(tokens.lengths), batch_size)]
    return float(tokens.lengths.sum() / sum(len(batch) * batch.max() for batch in batches))


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Smallest cosine between rows."""
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def measure_kind(
    shape: Shape, ours: dict[str, Model], peers: dict[str, Any], kind: str, count: int, rounds: int
) -> dict[str, Any]:
    """Median seconds of every side, in turn within each round, and the machine's matrix rates beside them."""
    tokens = ours["float32"].tokenizer(sequences(kind, count))
    sides: dict[str, Callable[[], NDArray[np.float32]]] = {}
    for dtype, model in ours.items():
        sides[f"fastgenome {dtype}"] = partial(model.embed, tokens, special_tokens=True)
        for name, by_length in (("padded", False), ("padded, sorted", True)):
            sides[f"{name} {dtype}"] = partial(
                embed_padded, peers[dtype], tokens, batch_size=shape.batch_size, by_length=by_length
            )
    rates = {dtype: matrix_rate(getattr(torch, dtype)) for dtype in ours}
    expected = sides["padded float32"]()
    cosines = {}
    for name, side in sides.items():
        found = side()
        cosines[name] = cosine(found, expected)
        assert cosines[name] > (0.999999 if "float32" in name else 0.995), (name, cosines[name])
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    matrix: dict[str, list[float]] = {dtype: [] for dtype in rates}
    for _ in range(rounds):
        for dtype, rate in rates.items():
            matrix[dtype].append(rate())
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
    gflop = useful_gflop(ours["float32"], tokens)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "sequences": count,
        "tokens": int(tokens.lengths.sum()),
        "fill": fill(tokens, shape.batch_size),
        "useful_gflop": gflop,
        "matrix_gflop_s": {dtype: statistics.median(values) for dtype, values in matrix.items()},
        "seconds": medians,
        "gflop_s": {name: gflop / value for name, value in medians.items()},
        "cosine": cosines,
    }


def measure_loading(folder: Path, tokens: Tokens, rounds: int) -> dict[str, float]:
    """Seconds from nothing to a first embedding, over those of reading the file plus one forward pass.

    The file is read by safetensors, every number of it; medians of rounds that take both in turn.
    """
    from safetensors.torch import load_file

    ratios: dict[str, float] = {}
    for dtype in ("float32", "bfloat16"):
        ready = fg.load(folder, device="cpu", dtype=dtype)
        ready.embed(tokens)
        found = []
        for _ in range(rounds):
            start = time.perf_counter()
            for weight in load_file(folder / "model.safetensors").values():
                weight.sum()
            ready.embed(tokens)
            middle = time.perf_counter()
            fg.load(folder, device="cpu", dtype=dtype).embed(tokens)
            found.append((time.perf_counter() - middle) / (middle - start))
        ratios[dtype] = statistics.median(found)
    return ratios


def measure(rounds: int, tokens: int, names: list[str]) -> dict[str, Any]:
    models: dict[str, Any] = {}
    loading: dict[str, float] = {}
    for name in names:
        shape = SHAPES[name]
        torch.manual_seed(0)
        peer = shape.peer(shape.config)
        with tempfile.TemporaryDirectory() as folder:
            make_checkpoint(shape, peer.weights, Path(folder))
            dtypes = ("float32", "bfloat16")
            ours = {dtype: fg.load(folder, device="cpu", dtype=dtype) for dtype in dtypes}
            peers = {dtype: peer.network(getattr(torch, dtype)) for dtype in dtypes}
            for kind in ("equal", "mixed"):
                mean = ours["float32"].tokenizer(sequences(kind, 64)).lengths.mean()
                count = max(2 * shape.batch_size, round(tokens / mean / 4) * 4)
                models[f"{name}, {kind}"] = measure_kind(shape, ours, peers, kind, count, rounds)
                print(json.dumps({name: models[f"{name}, {kind}"]}, indent=1), flush=True)
            if name == "DNABERT-2":
                few = ours["float32"].tokenizer(sequences("equal", 8))
                loading = measure_loading(Path(folder), few, rounds)
    return {
        "command": f"python benchmarks/models.py --rounds {rounds} --tokens {tokens}",
        "machine": {"processor": platform.processor(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "rounds": rounds,
        "models": models,
        "load_and_embed_over_read_and_embed": loading,
    }


def render(results: dict[str, Any]) -> str:
    """The table: our times, and each peer's as a multiple of ours in the same precision."""
    head = "| model, sequences | precision | fastgenome | of the matrix rate | padded | padded, sorted |"
    lines = [head, "|---|---|---|---|---|---|"]
    for name, found in results["models"].items():
        what = f"{name}: {found['sequences']} sequences, {found['tokens']:,} tokens, fill {found['fill']:.2f}"
        for dtype, rate in found["matrix_gflop_s"].items():
            ours = found["seconds"][f"fastgenome {dtype}"]
            share = found["gflop_s"][f"fastgenome {dtype}"] / rate
            times = [found["seconds"][f"{side} {dtype}"] for side in ("padded", "padded, sorted")]
            cells = [f"{seconds:.2f} s ({seconds / ours:.2f}×)" for seconds in times]
            lines.append(f"| {what} | {dtype} | {ours:.2f} s | {share:.0%} | {' | '.join(cells)} |")
    loading = results["load_and_embed_over_read_and_embed"]
    ratios = " and ".join(f"{ratio:.2f} ({dtype})" for dtype, ratio in loading.items())
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    note = f"Loading DNABERT-2's shape and embedding 8 sequences: {ratios} × reading the file plus embedding."
    return "\n".join([*lines, "", f"{note} {versions}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=16_000, help="about so many tokens for each figure")
    parser.add_argument("--models", default=",".join(SHAPES))
    parser.add_argument("--render", action="store_true", help="write the table from the stored results")
    arguments = parser.parse_args()
    if not arguments.render:
        results = measure(arguments.rounds, arguments.tokens, arguments.models.split(","))
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    write_between(README, BEGIN, END, render(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
