"""DNABERT-2 and DNABERT-S: MosaicBERT over byte pairs of DNA, ALiBi instead of positions.

Zhou et al., DNABERT-2 (ICLR 2024) and DNABERT-S (2024). The checkpoints of the first hold a masked-language
head and no pooler, those of the second a pooler and no head.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastgenome.models.bert import Names, load_bert, sizes
from fastgenome.models.key_map import parts, with_affine
from fastgenome.models.model import Model
from fastgenome.models.published_config import PublishedConfig
from fastgenome.models.transformer import TransformerConfig
from fastgenome.tokenizers import load_tokenizer

FAMILY = "dnabert2"
LICENCE = "Apache-2.0"


def recognises(config: Mapping[str, Any], directory: Path) -> bool:
    """Whether config.json is one of this family."""
    return "alibi_starting_size" in config


def load_directory(directory: Path, values: Mapping[str, Any]) -> Model:
    """The model in `directory`, float32 on the CPU; `values` is its config.json."""
    fields = PublishedConfig(values, name=FAMILY)
    tied = fields.take("tie_word_embeddings", True)
    return load_bert(
        directory,
        values,
        config=_config(fields),
        layer_names=_layer_names,
        decoder_bias="cls.predictions.decoder.bias",
        tied=tied,
        tokenizer=load_tokenizer("dnabert2", vocabulary=directory),
        family=FAMILY,
        licence=LICENCE,
    )


def _config(fields: PublishedConfig) -> TransformerConfig:
    # There are no position embeddings, whatever the config says, and ALiBi reaches to any length.
    fields.ignore("alibi_starting_size", "max_position_embeddings", "position_embedding_type")
    fields.expect("hidden_act", "gelu")
    config = fields.build(
        TransformerConfig,
        **sizes(fields),
        positions="alibi",
        norm="post",
        norm_eps=fields.positive("layer_norm_eps", 1e-12),
        activation="geglu",
        up_bias=False,
        embedding_norm=True,
        token_types=fields.size("type_vocab_size", 2),
    )
    fields.finish()
    return config


def _layer_names(index: int, prefix: str) -> Names:
    ours, theirs = f"encoder.layers.{index}", f"{prefix}encoder.layer.{index}"
    return {
        **with_affine(f"{ours}.qkv", f"{theirs}.attention.self.Wqkv"),
        **with_affine(f"{ours}.output", f"{theirs}.attention.output.dense"),
        **with_affine(f"{ours}.attention_norm", f"{theirs}.attention.output.LayerNorm"),
        f"{ours}.up.weight": parts(f"{theirs}.mlp.gated_layers.weight"),
        **with_affine(f"{ours}.down", f"{theirs}.mlp.wo"),
        **with_affine(f"{ours}.ffn_norm", f"{theirs}.mlp.layernorm"),
    }
