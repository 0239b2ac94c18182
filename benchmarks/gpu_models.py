"""Published model shapes on a GPU, for gpu.py: random weights and random tokens, ids to pooled embedding."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_peers import DnaBert2, NucleotideTransformer, embed_padded
from models import BERT, cosine, fill, useful_gflop
from safetensors.torch import save_file

import fastgenome as fg
from fastgenome.models.model import Model
from fastgenome.tokenizers import Tokens

DNABERT2 = BERT | {"alibi_starting_size": 512, "vocab_size": 4096}
NT_500M = {
    "model_type": "esm", "position_embedding_type": "rotary", "add_bias_fnn": False, "vocab_size": 4107,
    "hidden_size": 1024, "num_hidden_layers": 29, "num_attention_heads": 16, "intermediate_size": 4096,
    "max_position_embeddings": 2050,
}  # fmt: skip

# DNABERT-2's file without merges: tokens are drawn, not read.
_SPECIAL = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "[MASK]": 4}
_AROUND = [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "[SEP]"}}]
_TOKENIZER = {
    "model": {
        "type": "BPE", "unk_token": "[UNK]", "merges": [],
        "vocab": _SPECIAL | {base: 5 + place for place, base in enumerate("ACGT")},
    },
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {
        "type": "TemplateProcessing", "single": _AROUND,
        "special_tokens": {name: {"ids": [number]} for name, number in _SPECIAL.items()},
    },
}  # fmt: skip


def load(config: dict[str, Any], weights: dict[str, torch.Tensor], device: torch.device, dtype: str) -> Model:
    """Our model with these weights under their published names."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.models.LicenceWarning)
        directory = Path(folder)
        (directory / "config.json").write_text(json.dumps(config))
        (directory / "tokenizer.json").write_text(json.dumps(_TOKENIZER))
        contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
        save_file(contiguous, directory / "model.safetensors")
        return fg.load(directory, device=str(device), dtype=dtype)


def draw(lengths: Any) -> Tokens:
    """Random tokens in sequences of these lengths."""
    lengths = np.asarray(lengths)
    ids = np.random.default_rng(0).integers(10, 4000, lengths.sum()).astype(np.int32)
    return fg.Tokens(ids, np.concatenate([[0], np.cumsum(lengths)]))


def shrunk(config: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The shape itself on a GPU; for a rehearsal on the CPU one layer of it."""
    return config if device.type == "cuda" else config | {"num_hidden_layers": 1}


def measure_models(
    device: torch.device, rounds: int, seconds: Callable[[Callable[[], object], torch.device, int], float]
) -> dict[str, Any]:
    """Times of DNABERT-2's and NT-500M's shapes beside their peers, with equal answers."""
    small = device.type == "cpu"
    rng = np.random.default_rng(0)
    count, budget = (4, 512) if small else (1024, 1 << 17)
    longest = 64 if small else 512
    batches = {
        "512 tokens": draw([longest] * count),
        "mixed": draw(rng.integers(longest // 16, longest + 1, count)),
    }
    results: dict[str, Any] = {}
    torch.manual_seed(0)
    peer = DnaBert2(shrunk(DNABERT2, device))
    ours = {d: load(shrunk(DNABERT2, device), peer.weights, device, d) for d in ("float32", "bfloat16")}
    for kind, tokens in batches.items():
        sides: dict[str, Callable[[], Any]] = {}
        for dtype, model in ours.items():
            sides[f"packed {dtype}"] = partial(model.embed, tokens, special_tokens=True, batch_tokens=budget)
            for way, eager in (("padded", False), ("eager", True)):
                network = peer.network(getattr(torch, dtype), device, eager=eager)
                sides[f"{way} {dtype}"] = partial(
                    embed_padded, network, tokens, batch_size=32, by_length=False, device=device
                )
        expected = sides["padded float32"]()
        agreement = {name: cosine(side(), expected) for name, side in sides.items()}
        assert min(agreement.values()) > 0.995, agreement
        times = {name: seconds(side, device, max(3, rounds // 4)) for name, side in sides.items()}
        results[f"DNABERT-2, {kind}"] = {"fill": fill(tokens, 32), "seconds": times, "cosine": agreement}
    config = shrunk(NT_500M, device)
    model = load(config, NucleotideTransformer(config).weights, device, "bfloat16")
    for kind, tokens in batches.items():
        run = partial(model.embed, tokens, special_tokens=True, batch_tokens=budget)
        time = seconds(run, device, max(3, rounds // 4))
        results[f"NT-500M, {kind}"] = {"bf16_tflop_s": useful_gflop(model, tokens) / time / 1e3}
    return {"models": results}
