"""OPT (Zhang et al. 2022), which Lingo (2024) reads DNA with behind a prompt.

OPT-350M differs: its norms come after the residual connections, there is no last one, and its embeddings are
narrower than its layers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fastgenome.models.checkpoint import WeightFiles, read_tensors
from fastgenome.models.heads import Projection
from fastgenome.models.key_map import Part, assign_published, parts, with_affine
from fastgenome.models.model import Model, Network
from fastgenome.models.published_config import PublishedConfig
from fastgenome.models.transformer import Transformer, TransformerConfig
from fastgenome.tokenizers import load_tokenizer

FAMILY = "opt"
LICENCE = "OPT-175B licence (non-commercial)"
OPTIONS = ("prompt",)


def recognises(config: Mapping[str, Any], directory: Path) -> bool:
    """Whether config.json is one of this family."""
    return config.get("model_type") == FAMILY


def load_directory(directory: Path, values: Mapping[str, Any], *, prompt: str | None = None) -> Model:
    """The model in `directory`, float32 on the CPU; `values` is its config.json."""
    fields = PublishedConfig(values, name=FAMILY)
    tied = fields.take("tie_word_embeddings", True)
    config = _config(fields)
    tensors = read_tensors(directory)
    prefix = "model.decoder." if any(name.startswith("model.") for name in tensors) else "decoder."
    has_head = tied or "lm_head.weight" in tensors
    with torch.device("meta"):
        head = Projection(config.embedding_dim or config.dim, config.vocabulary_size) if has_head else None
        network = Network(Transformer(config), head)
    embeddings = f"{prefix}embed_tokens.weight"
    names = _names(config, prefix)
    if has_head:
        names["head.decoder.weight"] = parts(embeddings if tied else "lm_head.weight")
    assign_published(network, tensors, names, copies={"lm_head.weight": embeddings} if tied else {})
    return Model(
        name=FAMILY,
        network=network,
        tokenizer=load_tokenizer("opt", vocabulary=directory, prompt=prompt),
        licence=LICENCE,
        config=dict(values),
        max_length=config.max_positions,
        key_map=names,
        files=WeightFiles(directory),
    )


def _config(fields: PublishedConfig) -> TransformerConfig:
    fields.ignore("activation_dropout", "attention_dropout", "dropout", "init_std", "layerdrop")
    fields.expect("activation_function", "relu")
    fields.expect("layer_norm_elementwise_affine", True)
    fields.expect("_remove_final_layer_norm", False)
    dim = fields.size("hidden_size")
    embedding_dim = fields.size("word_embed_proj_dim", dim)
    norm_first = fields.take("do_layer_norm_before", True)
    bias = fields.take("enable_bias", True)
    config = fields.build(
        TransformerConfig,
        vocabulary_size=fields.size("vocab_size"),
        dim=dim,
        layers=fields.size("num_hidden_layers"),
        heads=fields.size("num_attention_heads"),
        ffn_dim=fields.size("ffn_dim"),
        positions="learned",
        max_positions=fields.size("max_position_embeddings"),
        position_offset=2,
        norm="pre" if norm_first else "post",
        activation="relu",
        causal=True,
        qkv_bias=bias,
        output_bias=bias,
        up_bias=bias,
        down_bias=bias,
        final_norm=norm_first,
        embedding_dim=embedding_dim if embedding_dim != dim else None,
    )
    fields.finish()
    return config


def _names(config: TransformerConfig, prefix: str) -> dict[str, tuple[Part, ...]]:
    names = {
        "encoder.stem.embedding.weight": parts(f"{prefix}embed_tokens.weight"),
        "encoder.position_embeddings.weight": parts(f"{prefix}embed_positions.weight"),
    }
    if config.embedding_dim:
        names |= with_affine("encoder.project_in", f"{prefix}project_in", bias=False)
        names |= with_affine("encoder.project_out", f"{prefix}project_out", bias=False)
    for index in range(config.layers):
        ours, theirs = f"encoder.layers.{index}", f"{prefix}layers.{index}"
        attention = f"{theirs}.self_attn"
        fused = (f"{attention}.{part}_proj" for part in "qkv")
        names |= with_affine(f"{ours}.qkv", *fused, bias=config.qkv_bias)
        names |= with_affine(f"{ours}.output", f"{attention}.out_proj", bias=config.output_bias)
        names |= with_affine(f"{ours}.attention_norm", f"{theirs}.self_attn_layer_norm")
        names |= with_affine(f"{ours}.up", f"{theirs}.fc1", bias=config.up_bias)
        names |= with_affine(f"{ours}.down", f"{theirs}.fc2", bias=config.down_bias)
        names |= with_affine(f"{ours}.ffn_norm", f"{theirs}.final_layer_norm")
    if config.final_norm:
        names |= with_affine("encoder.final_norm", f"{prefix}final_layer_norm")
    return names
