"""BERT's published layout: config fields and tensor names that DNABERT, SpeciesLM and DNABERT-2 share."""

from collections.abc import Mapping

from torch import Tensor

from fastgenome.models.key_map import Part, parts, with_affine
from fastgenome.models.published_config import PublishedConfig
from fastgenome.models.transformer import (
    FeedForward,
    MaskedLanguageHead,
    Pooler,
    TransformerConfig,
)

# hidden_act of transformers -> ours.
ACTIVATIONS: Mapping[str, FeedForward] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}

# Position numbers in the order of the table.
UNUSED = (r"(bert\.)?embeddings\.position_ids", r"cls\.seq_relationship\..*")


def bert_config(fields: PublishedConfig) -> TransformerConfig:
    """The network that a BertConfig describes; CheckpointError for what is not supported."""
    fields.expect("position_embedding_type", "absolute")
    fields.expect("tie_word_embeddings", True)
    return fields.build(
        TransformerConfig,
        vocabulary_size=fields.size("vocab_size"),
        dim=fields.size("hidden_size"),
        layers=fields.size("num_hidden_layers"),
        heads=fields.size("num_attention_heads"),
        ffn_dim=fields.size("intermediate_size"),
        positions="learned",
        max_positions=fields.size("max_position_embeddings"),
        norm="post",
        norm_eps=fields.take("layer_norm_eps", 1e-12),
        activation=fields.choose("hidden_act", ACTIVATIONS, "gelu"),
        embedding_norm=True,
        token_types=fields.size("type_vocab_size", 2),
    )


def bert_names(layers: int, prefix: str) -> dict[str, tuple[Part, ...]]:
    """Published names of an encoder's tensors; `prefix` is "bert." or nothing."""
    names = embedding_names(prefix)
    names |= {"encoder.position_embeddings.weight": parts(f"{prefix}embeddings.position_embeddings.weight")}
    for index in range(layers):
        ours, theirs = f"encoder.layers.{index}", f"{prefix}encoder.layer.{index}"
        attention = f"{theirs}.attention"
        names |= with_affine(
            f"{ours}.qkv", *(f"{attention}.self.{part}" for part in ("query", "key", "value"))
        )
        names |= with_affine(f"{ours}.output", f"{attention}.output.dense")
        names |= with_affine(f"{ours}.attention_norm", f"{attention}.output.LayerNorm")
        names |= with_affine(f"{ours}.up", f"{theirs}.intermediate.dense")
        names |= with_affine(f"{ours}.down", f"{theirs}.output.dense")
        names |= with_affine(f"{ours}.ffn_norm", f"{theirs}.output.LayerNorm")
    return names


def embedding_names(prefix: str) -> dict[str, tuple[Part, ...]]:
    """Published names of the token embeddings, the token types and their norm."""
    embeddings = f"{prefix}embeddings"
    return {
        "encoder.stem.embedding.weight": parts(f"{embeddings}.word_embeddings.weight"),
        "encoder.token_type_embeddings.weight": parts(f"{embeddings}.token_type_embeddings.weight"),
        **with_affine("encoder.embedding_norm", f"{embeddings}.LayerNorm"),
    }


def head_names(prefix: str, bias: str) -> dict[str, tuple[Part, ...]]:
    """Published names of the masked-language head, whose decoder is tied to the embeddings."""
    return {
        **with_affine("head.dense", "cls.predictions.transform.dense"),
        **with_affine("head.norm", "cls.predictions.transform.LayerNorm"),
        "head.decoder.weight": parts(f"{prefix}embeddings.word_embeddings.weight"),
        "head.decoder.bias": parts(bias),
    }


def pooler_names(prefix: str) -> dict[str, tuple[Part, ...]]:
    """Published names of the pooler."""
    return with_affine("pooler.dense", f"{prefix}pooler.dense")


def head_of(config: TransformerConfig, tensors: Mapping[str, Tensor]) -> MaskedLanguageHead | None:
    """A head for a checkpoint that holds one."""
    if not any(name.startswith("cls.predictions.") for name in tensors):
        return None
    return MaskedLanguageHead(config.dim, config.vocabulary_size, eps=config.norm_eps)


def pooler_of(config: TransformerConfig, tensors: Mapping[str, Tensor], prefix: str) -> Pooler | None:
    """A pooler for a checkpoint that holds one."""
    return Pooler(config.dim) if f"{prefix}pooler.dense.weight" in tensors else None


def prefix_of(tensors: Mapping[str, Tensor]) -> str:
    """What stands before the names of the encoder's tensors: "bert." where there is a head, or nothing."""
    return "bert." if any(name.startswith("bert.") for name in tensors) else ""


def with_current_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with "weight" and "bias" for the "gamma" and "beta" of norms in old checkpoints."""
    current = {".gamma": ".weight", ".beta": ".bias"}
    renamed = {}
    for name, tensor in tensors.items():
        stem, dot, kind = name.rpartition(".")
        renamed[stem + current.get(dot + kind, dot + kind)] = tensor
    return renamed
