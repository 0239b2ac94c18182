"""DNABERT-2 and DNABERT-S: MosaicBERT over byte pairs of DNA, ALiBi instead of positions.

Zhou et al., DNABERT-2 (ICLR 2024) and DNABERT-S (2024). The checkpoints of the first hold a masked-language
head and no pooler, those of the second a pooler and no head.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fastgenome.models.bert import (
    UNUSED,
    embedding_names,
    head_names,
    head_of,
    pooler_names,
    pooler_of,
    prefix_of,
    with_current_names,
)
from fastgenome.models.checkpoint import WeightFiles, read_tensors
from fastgenome.models.key_map import Part, assign_published, parts, with_affine
from fastgenome.models.model import Model, Network
from fastgenome.models.published_config import PublishedConfig
from fastgenome.models.transformer import Transformer, TransformerConfig
from fastgenome.tokenizers import load_tokenizer

FAMILY = "dnabert2"
LICENCE = "Apache-2.0"


def recognises(config: Mapping[str, Any], directory: Path) -> bool:
    """Whether config.json is one of this family."""
    return "alibi_starting_size" in config


def load_directory(directory: Path, values: Mapping[str, Any]) -> Model:
    """The model in `directory`, float32 on the CPU; `values` is its config.json."""
    config = _config(PublishedConfig(values, name=FAMILY))
    tensors = with_current_names(read_tensors(directory))
    prefix = prefix_of(tensors)
    with torch.device("meta"):
        network = Network(Transformer(config), head_of(config, tensors), pooler_of(config, tensors, prefix))
    names = _names(config.layers, prefix)
    if network.head:
        names |= head_names(prefix, "cls.predictions.decoder.bias")
    if network.pooler:
        names |= pooler_names(prefix)
    copies = {"cls.predictions.decoder.weight": f"{prefix}embeddings.word_embeddings.weight"}
    assign_published(network, tensors, names, unused=UNUSED, copies=copies)
    return Model(
        name=FAMILY,
        network=network,
        tokenizer=load_tokenizer("dnabert2", vocabulary=directory),
        licence=LICENCE,
        config=dict(values),
        key_map=names,
        files=WeightFiles(directory),
    )


def _config(fields: PublishedConfig) -> TransformerConfig:
    # There are no position embeddings, whatever the config says, and ALiBi reaches to any length.
    fields.ignore("alibi_starting_size", "max_position_embeddings", "position_embedding_type")
    fields.expect("hidden_act", "gelu")
    config = fields.build(
        TransformerConfig,
        vocabulary_size=fields.size("vocab_size"),
        dim=fields.size("hidden_size"),
        layers=fields.size("num_hidden_layers"),
        heads=fields.size("num_attention_heads"),
        ffn_dim=fields.size("intermediate_size"),
        positions="alibi",
        norm="post",
        norm_eps=fields.take("layer_norm_eps", 1e-12),
        activation="geglu",
        up_bias=False,
        embedding_norm=True,
        token_types=fields.size("type_vocab_size", 2),
    )
    fields.finish()
    return config


def _names(layers: int, prefix: str) -> dict[str, tuple[Part, ...]]:
    names = embedding_names(prefix)
    for index in range(layers):
        ours, theirs = f"encoder.layers.{index}", f"{prefix}encoder.layer.{index}"
        names |= with_affine(f"{ours}.qkv", f"{theirs}.attention.self.Wqkv")
        names |= with_affine(f"{ours}.output", f"{theirs}.attention.output.dense")
        names |= with_affine(f"{ours}.attention_norm", f"{theirs}.attention.output.LayerNorm")
        names |= {f"{ours}.up.weight": parts(f"{theirs}.mlp.gated_layers.weight")}
        names |= with_affine(f"{ours}.down", f"{theirs}.mlp.wo")
        names |= with_affine(f"{ours}.ffn_norm", f"{theirs}.mlp.layernorm")
    return names
