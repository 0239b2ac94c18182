"""Small networks of transformers with random weights, saved as published, and our models of their files."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fastgenome as fg
from fastgenome.models.model import Model

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
# Class of transformers, its config, and the ends of the names of the modules of each role.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "opt": (
        "OPTForCausalLM",
        SIZES | {"vocab_size": 20, "ffn_dim": 48, "word_embed_proj_dim": 32},
        {
            "query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj", "ffn_in": "fc1",
            "ffn_out": "fc2",
        },
    ),
    "bert": (
        "BertModel",
        SIZES | {"vocab_size": 69, "intermediate_size": 48},
        {
            "query": "query", "key": "key", "value": "value", "output": "attention.output.dense",
            "ffn_in": "intermediate.dense", "ffn_out": r"layer\.\d+\.output\.dense",
        },
    ),
    "esm": (
        "EsmForMaskedLM",
        SIZES | {
            "vocab_size": 4105, "intermediate_size": 48, "pad_token_id": 1, "mask_token_id": 2,
            "position_embedding_type": "rotary",
        },
        {
            "query": "query", "key": "key", "value": "value", "output": "attention.output.dense",
            "ffn_in": "intermediate.dense", "ffn_out": r"layer\.\d+\.output\.dense",
        },
    ),
}  # fmt: skip


def write_network(kind: str, directory: Path, *, seed: int = 0) -> nn.Module:
    """A network of one of KINDS in evaluation mode, saved with what our loader needs beside it."""
    import transformers

    cls = getattr(transformers, KINDS[kind][0])
    torch.manual_seed(seed)
    network: nn.Module = cls(cls.config_class(**KINDS[kind][1])).eval()
    for name, parameter in network.named_parameters():
        # A norm without a weight would leave gradients of rounding errors alone.
        nn.init.normal_(parameter, float("norm" in name.lower() and name.endswith("weight")), std=0.1)
    network.save_pretrained(directory)  # type: ignore[operator]
    if kind == "bert":
        kmers = map("".join, product("ACGT", repeat=3))
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *kmers]
        (directory / "vocab.txt").write_text("\n".join(words) + "\n")
    if kind == "opt":
        words = ["<s>", "<pad>", "</s>", "<unk>", *"ACGTNacgtn", "Ġ", "AC"]
        (directory / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
        (directory / "merges.txt").write_text("#version: 0.2\nA C\n")
    return network


def load(directory: Path) -> Model:
    return fg.load(directory, device="cpu", dtype="float32")


def module_pattern(kind: str, roles: tuple[str, ...]) -> str:
    """A regular expression of the whole names of the modules that play some roles."""
    ends = KINDS[kind][2]
    return rf"(.*\.)?({'|'.join(ends[role] for role in roles)})"
