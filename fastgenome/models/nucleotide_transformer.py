"""Nucleotide Transformer v1 and v2 (Dalla-Torre et al., Nature Methods 2024): ESM over blocks of k bases.

v1 has learned positions, GELU and, as ESM does, embeddings scaled for masked tokens; v2 has rotary positions
and SwiGLU.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fastgenome.errors import CheckpointError
from fastgenome.models.attention import interleave_rotary, separate_rotary
from fastgenome.models.bert import sizes, with_current_names
from fastgenome.models.checkpoint import WeightFiles, read_tensors
from fastgenome.models.heads import MaskedLanguageHead
from fastgenome.models.key_map import Part, assign_published, parts, with_affine
from fastgenome.models.model import Model, Network
from fastgenome.models.published_config import PublishedConfig
from fastgenome.models.transformer import Transformer, TransformerConfig
from fastgenome.tokenizers import load_tokenizer
from fastgenome.vocabularies import longest_kmer, read_vocab_txt

FAMILY = "nucleotide_transformer"
LICENCE = "CC-BY-NC-SA-4.0"

# ids of the vocabulary -> tokenizer, for directories without vocab.txt.
_TOKENIZERS = {4105: "nt-v1", 4107: "nt-v2", 75: "nt-v2-3mer"}

# Contacts are predicted from attention maps, no published checkpoint has a trained pooler, and the rotary
# tables are made anew.
_UNUSED = (
    r"(esm\.)?(contact_head|pooler)\..*",
    r"(esm\.)?embeddings\.position_ids",
    r".*\.rotary_embeddings\.inv_freq",
)


def recognises(config: Mapping[str, Any], directory: Path) -> bool:
    """Whether config.json is one of this family: ESM whose vocabulary is of DNA."""
    architectures, size = config.get("architectures"), config.get("vocab_size")
    named = isinstance(architectures, list) and "EsmForMaskedLM" in architectures
    if config.get("model_type") != "esm" and not named:
        return False
    if not (directory / "vocab.txt").is_file():
        return isinstance(size, int) and size in _TOKENIZERS
    return any(len(token) > 1 and set(token) <= set("ACGT") for token in read_vocab_txt(directory))


def load_directory(directory: Path, values: Mapping[str, Any]) -> Model:
    """The model in `directory`, float32 on the CPU; `values` is its config.json."""
    fields = PublishedConfig(values, name=FAMILY)
    tied = fields.take("tie_word_embeddings", True)
    config, max_length = _config(fields)
    tensors = with_current_names(read_tensors(directory))
    prefix = "esm." if any(name.startswith("esm.") for name in tensors) else ""
    has_head = any(name.startswith("lm_head.") for name in tensors)
    with torch.device("meta"):
        head = MaskedLanguageHead(config.dim, config.vocabulary_size, config.norm_eps) if has_head else None
        network = Network(Transformer(config), head)
    names = _names(config, prefix)
    embeddings = f"{prefix}embeddings.word_embeddings.weight"
    if has_head:
        names |= _head_names(embeddings if tied else "lm_head.decoder.weight")
    unused = list(_UNUSED)
    if config.positions == "rotary":
        unused.append(r"(esm\.)?embeddings\.position_embeddings\.weight")
    copies = {"lm_head.decoder.weight": embeddings} if tied else {}
    assign_published(network, tensors, names, unused=unused, copies=copies)
    return Model(
        name=FAMILY,
        network=network,
        tokenizer=_tokenizer(directory, config),
        licence=LICENCE,
        config=dict(values),
        max_length=max_length,
        key_map=names,
        files=WeightFiles(directory),
    )


def _config(fields: PublishedConfig) -> tuple[TransformerConfig, int]:
    """The network, and the most tokens that it takes."""
    for name in ("esmfold_config", "vocab_list"):
        fields.expect(name, None)
    fields.expect("is_folding_model", False)
    fields.expect("emb_layer_norm_before", False, None)
    fields.expect("hidden_act", "gelu")
    learned = fields.choose("position_embedding_type", {"absolute": True, "rotary": False}, "absolute")
    # The field came with v2's gated layers.
    gated = fields.has("add_bias_fnn")
    ffn_bias = fields.take("add_bias_fnn", True)
    base = fields.positive("rope_theta", 10000.0)
    pad_id = fields.take("pad_token_id", 1)
    mask_id = fields.take("mask_token_id", 2)
    # Positions are counted from behind the id of the pad token.
    max_length = fields.size("max_position_embeddings") - pad_id - 1
    if pad_id < 0 or max_length < 1:
        raise CheckpointError(
            f"config.json of {fields.name}: pad_token_id is {pad_id}, which leaves no positions"
        )
    config = fields.build(
        TransformerConfig,
        **sizes(fields),
        positions="learned" if learned else "rotary",
        max_positions=max_length if learned else None,
        position_offset=pad_id + 1 if learned else 0,
        pad_id=pad_id if learned else None,
        rotary_base=base,
        norm_eps=fields.positive("layer_norm_eps", 1e-12),
        activation="swiglu" if gated else "gelu",
        up_bias=ffn_bias,
        down_bias=ffn_bias,
        final_norm=True,
        mask_id=mask_id if fields.take("token_dropout", False) else None,
    )
    fields.finish()
    return config, max_length


def _names(config: TransformerConfig, prefix: str) -> dict[str, tuple[Part, ...]]:
    names = {"encoder.stem.embedding.weight": parts(f"{prefix}embeddings.word_embeddings.weight")}
    if config.positions == "learned":
        names["encoder.position_embeddings.weight"] = parts(f"{prefix}embeddings.position_embeddings.weight")
    for index in range(config.layers):
        ours, theirs = f"encoder.layers.{index}", f"{prefix}encoder.layer.{index}"
        names |= {f"{ours}.qkv.{kind}": _query_key_value(theirs, kind, config) for kind in ("weight", "bias")}
        names |= with_affine(f"{ours}.output", f"{theirs}.attention.output.dense")
        names |= with_affine(f"{ours}.attention_norm", f"{theirs}.attention.LayerNorm")
        names |= with_affine(f"{ours}.up", f"{theirs}.intermediate.dense", bias=config.up_bias)
        names |= with_affine(f"{ours}.down", f"{theirs}.output.dense", bias=config.down_bias)
        names |= with_affine(f"{ours}.ffn_norm", f"{theirs}.LayerNorm")
    return names | with_affine("encoder.final_norm", f"{prefix}encoder.emb_layer_norm_after")


def _query_key_value(layer: str, kind: str, config: TransformerConfig) -> tuple[Part, ...]:
    query, key, value = (f"{layer}.attention.self.{part}.{kind}" for part in ("query", "key", "value"))
    if config.positions != "rotary":
        return parts(query, key, value)
    to_ours = partial(interleave_rotary, heads=config.heads)
    to_published = partial(separate_rotary, heads=config.heads)
    return (*(Part(name, to_ours, to_published) for name in (query, key)), Part(value))


def _head_names(decoder: str) -> dict[str, tuple[Part, ...]]:
    return {
        **with_affine("head.dense", "lm_head.dense"),
        **with_affine("head.norm", "lm_head.layer_norm"),
        "head.decoder.weight": parts(decoder),
        "head.decoder.bias": parts("lm_head.bias"),
    }


def _tokenizer(directory: Path, config: TransformerConfig) -> Any:
    if not (directory / "vocab.txt").is_file():
        return load_tokenizer(_TOKENIZERS[config.vocabulary_size])
    if config.positions == "learned":
        return load_tokenizer("nt-v1", vocabulary=directory)
    k = longest_kmer(read_vocab_txt(directory))
    return load_tokenizer("nt-v2-3mer" if k == 3 else "nt-v2", vocabulary=directory)
