"""BERT's published layout, which DNABERT, SpeciesLM and, in part, DNABERT-2 share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from fastgenome.errors import CheckpointError
from fastgenome.models.checkpoint import WeightFiles, read_tensors
from fastgenome.models.embeddings import EmbeddingDefaults
from fastgenome.models.heads import MaskedLanguageHead, Pooler
from fastgenome.models.key_map import Part, assign_published, parts, with_affine
from fastgenome.models.model import Model, Network
from fastgenome.models.published_config import PublishedConfig
from fastgenome.models.transformer import FeedForward, Transformer, TransformerConfig
from fastgenome.ops import Activation
from fastgenome.tokenizers import Tokenizer

Names = dict[str, tuple[Part, ...]]

# hidden_act of transformers -> ours.
ACTIVATIONS: Mapping[str, FeedForward] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}

# Position numbers in the order of the table.
UNUSED = (r"(bert\.)?embeddings\.position_ids", r"cls\.seq_relationship\..*")


def sizes(fields: PublishedConfig) -> dict[str, int]:
    """The sizes of a network that transformers' configs of encoders hold under common names."""
    return {
        "vocabulary_size": fields.size("vocab_size"),
        "dim": fields.size("hidden_size"),
        "layers": fields.size("num_hidden_layers"),
        "heads": fields.size("num_attention_heads"),
        "ffn_dim": fields.size("intermediate_size"),
    }


def bert_config(fields: PublishedConfig) -> TransformerConfig:
    """The network that a BertConfig describes; CheckpointError for what is not supported."""
    fields.expect("position_embedding_type", "absolute")
    return fields.build(
        TransformerConfig,
        **sizes(fields),
        positions="learned",
        max_positions=fields.size("max_position_embeddings"),
        norm="post",
        norm_eps=fields.positive("layer_norm_eps", 1e-12),
        activation=fields.choose("hidden_act", ACTIVATIONS, "gelu"),
        embedding_norm=True,
        token_types=fields.size("type_vocab_size", 2),
    )


def layer_names(index: int, prefix: str) -> Names:
    """Published names of one layer's tensors."""
    ours, theirs = f"encoder.layers.{index}", f"{prefix}encoder.layer.{index}"
    attention = f"{theirs}.attention"
    return {
        **with_affine(f"{ours}.qkv", *(f"{attention}.self.{part}" for part in ("query", "key", "value"))),
        **with_affine(f"{ours}.output", f"{attention}.output.dense"),
        **with_affine(f"{ours}.attention_norm", f"{attention}.output.LayerNorm"),
        **with_affine(f"{ours}.up", f"{theirs}.intermediate.dense"),
        **with_affine(f"{ours}.down", f"{theirs}.output.dense"),
        **with_affine(f"{ours}.ffn_norm", f"{theirs}.output.LayerNorm"),
    }


def load_bert(
    directory: Path,
    values: Mapping[str, Any],
    *,
    config: TransformerConfig,
    layer_names: Callable[[int, str], Names],
    decoder_bias: str,
    tied: bool,
    tokenizer: Tokenizer,
    family: str,
    licence: str,
    defaults: EmbeddingDefaults | None = None,
    min_length: int = 1,
) -> Model:
    """A model of the network `config` with the tensors in `directory`, whose config.json is `values`.

    `layer_names` gives the published names of one layer's tensors from its number and the encoder's prefix,
    `decoder_bias` is that of the bias of the head's last product, whose weight may be `tied` to the
    embeddings. Head and pooler are there where the checkpoint has them.
    """
    if tokenizer.vocabulary_size > config.vocabulary_size:
        raise CheckpointError(
            f"the vocabulary in {directory} has {tokenizer.vocabulary_size} ids, the model "
            f"{config.vocabulary_size} embeddings"
        )
    tensors = with_current_names(read_tensors(directory))
    prefix = "bert." if any(name.startswith("bert.") for name in tensors) else ""
    has_head = any(name.startswith("cls.predictions.") for name in tensors)
    has_pooler = f"{prefix}pooler.dense.weight" in tensors
    activation: Activation = "gelu" if config.activation == "geglu" else cast(Activation, config.activation)
    with torch.device("meta"):
        size = (config.dim, config.vocabulary_size)
        head = MaskedLanguageHead(*size, eps=config.norm_eps, activation=activation) if has_head else None
        network = Network(Transformer(config), head, Pooler(config.dim) if has_pooler else None)
    names = _embedding_names(prefix, learned=config.positions == "learned")
    for index in range(config.layers):
        names |= layer_names(index, prefix)
    embeddings = f"{prefix}embeddings.word_embeddings.weight"
    decoder = "cls.predictions.decoder"
    unused: tuple[str, ...] = UNUSED
    if not tied and f"{decoder}.bias" in tensors:
        # The other one belongs to the tied product alone.
        decoder_bias, unused = f"{decoder}.bias", (*UNUSED, r"cls\.predictions\.bias")
    if has_head:
        names |= _head_names(embeddings if tied else f"{decoder}.weight", decoder_bias)
    if has_pooler:
        names |= with_affine("pooler.dense", f"{prefix}pooler.dense")
    copies = {f"{decoder}.weight": embeddings} if tied else {}
    if decoder_bias != f"{decoder}.bias":
        copies[f"{decoder}.bias"] = decoder_bias
    assign_published(network, tensors, names, unused=unused, copies=copies)
    return Model(
        name=family,
        network=network,
        tokenizer=tokenizer,
        licence=licence,
        config=dict(values),
        defaults=defaults,
        min_length=min_length,
        max_length=config.max_positions,
        key_map=names,
        files=WeightFiles(directory),
    )


def _embedding_names(prefix: str, *, learned: bool) -> Names:
    embeddings = f"{prefix}embeddings"
    names = {
        "encoder.stem.embedding.weight": parts(f"{embeddings}.word_embeddings.weight"),
        "encoder.token_type_embeddings.weight": parts(f"{embeddings}.token_type_embeddings.weight"),
        **with_affine("encoder.embedding_norm", f"{embeddings}.LayerNorm"),
    }
    if learned:
        names["encoder.position_embeddings.weight"] = parts(f"{embeddings}.position_embeddings.weight")
    return names


def _head_names(decoder: str, bias: str) -> Names:
    return {
        **with_affine("head.dense", "cls.predictions.transform.dense"),
        **with_affine("head.norm", "cls.predictions.transform.LayerNorm"),
        "head.decoder.weight": parts(decoder),
        "head.decoder.bias": parts(bias),
    }


def with_current_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with "weight" and "bias" for the "gamma" and "beta" of norms in old checkpoints."""
    current = {".gamma": ".weight", ".beta": ".bias"}
    renamed = {}
    for name, tensor in tensors.items():
        stem, dot, kind = name.rpartition(".")
        renamed[stem + current.get(dot + kind, dot + kind)] = tensor
    return renamed
