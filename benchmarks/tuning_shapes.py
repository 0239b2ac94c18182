"""What the tuning benchmark runs: published shapes in random weights, methods, and batches of real DNA."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from models import DATA, sequences
from torch import Tensor, nn

import fastgenome as fg
from fastgenome.adapters.adalora import AdaLoRA
from fastgenome.models.model import Model
from fastgenome.tokenizers import Tokens

COMMON = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "attn_implementation": "sdpa",
}  # fmt: skip
TINY = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 64,
    "ffn_dim": 128, "intermediate_size": 128,
}  # fmt: skip


class Shape(NamedTuple):
    """A network of transformers, its vocabulary's files and how its modules' names end by role."""

    network: str
    config: dict[str, Any]
    vocabulary: dict[str, str]
    modules: dict[str, str]


SHAPES = {
    "OPT-125M": Shape(
        "OPTModel",
        COMMON | {
            "vocab_size": 50272, "ffn_dim": 3072, "word_embed_proj_dim": 768, "max_position_embeddings": 2048,
            "dropout": 0.0, "attention_dropout": 0.0,
        },
        {"vocab.json": "opt/gpt2-vocab.json", "merges.txt": "opt/gpt2-merges.txt"},
        {
            "query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj",
            "ffn_in": "fc1", "ffn_out": "fc2",
        },
    ),
    "BERT-base": Shape(
        "BertModel",
        COMMON | {
            "vocab_size": 4101, "intermediate_size": 3072, "max_position_embeddings": 512,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        },
        {"vocab.txt": "dnabert/vocab_6.txt"},
        {
            "query": "query", "key": "key", "value": "value", "output": r"attention\.output\.dense",
            "ffn_in": r"intermediate\.dense", "ffn_out": r"layer\.\d+\.output\.dense",
        },
    ),
}  # fmt: skip

# Every matrix of a layer: 72 in all.
TARGETS = ("query", "key", "value", "output", "ffn_in", "ffn_out")

METHODS: dict[str, Callable[[float], Any]] = {
    "LoRA": lambda dropout: fg.LoRA(dropout=dropout, targets=TARGETS),
    "DoRA": lambda dropout: fg.DoRA(dropout=dropout, targets=TARGETS),
    "AdaLoRA": lambda dropout: AdaLoRA(
        dropout=dropout,
        targets=TARGETS,
        allocation_warmup=0,
        allocation_final=0,
        allocation_interval=1,
    ),
}


class Base(NamedTuple):
    """A network of transformers, the folder of its files and the head of all sides."""

    shape: Shape
    network: nn.Module
    folder: Path
    head: nn.Linear


class Batch(NamedTuple):
    """Tokens of real sequences and a label for each."""

    kind: str
    tokens: Tokens
    labels: Tensor


def make_base(shape: Shape, folder: Path, *, quick: bool) -> Base:
    """Random weights, saved as published."""
    torch.manual_seed(0)
    cls = getattr(transformers, shape.network)
    known = {name: value for name, value in TINY.items() if name in shape.config} if quick else {}
    options = {"add_pooling_layer": False} if shape.network == "BertModel" else {}
    network = cls(cls.config_class(**shape.config | known), **options).eval().requires_grad_(False)
    network.save_pretrained(folder)
    for name, source in shape.vocabulary.items():
        shutil.copyfile(DATA / "tokenizers" / source, folder / name)
    return Base(shape, network, folder, nn.Linear(network.config.hidden_size, 2))


def make_batch(model: Model, kind: str, tokens: int) -> Batch:
    """About so many tokens of sequences of one length, or of four."""
    mean = model.tokenizer(sequences(kind, 64)).lengths.mean()
    chosen = sequences(kind, max(4, round(tokens / mean / 4) * 4))
    return Batch(kind, model.tokenizer(chosen), torch.arange(len(chosen)) % 2)


def load(base: Base, dtype: str) -> Model:
    return fg.load(base.folder, device="cpu", dtype=dtype)
