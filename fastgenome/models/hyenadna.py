"""HyenaDNA of every size: causal Hyena layers over single bases.

Nguyen et al., HyenaDNA (NeurIPS 2023). Two layouts of the same networks are published: that for transformers
with an untied head, and the earlier one of training with nested settings and a head tied to the embeddings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastgenome.models.checkpoint import WeightFiles, read_tensors
from fastgenome.models.heads import Projection
from fastgenome.models.hyena import Hyena, HyenaConfig
from fastgenome.models.key_map import Part, assign_published, parts, with_affine
from fastgenome.models.model import Model, Network
from fastgenome.models.published_config import PublishedConfig
from fastgenome.tokenizers import load_tokenizer

FAMILY = "hyenadna"
LICENCE = "BSD-3-Clause"

_PREFIXES = ("hyena.backbone.", "model.backbone.", "backbone.")
_EMBEDDING = "embeddings.word_embeddings.weight"


def recognises(config: Mapping[str, Any], directory: Path) -> bool:
    """Whether config.json is one of this family, in either layout."""
    return config.get("model_type") == "hyenadna" or _is_early(config)


def load_directory(directory: Path, values: Mapping[str, Any]) -> Model:
    """The model in `directory`, float32 on the CPU; `values` is its config.json."""
    early = _is_early(values)
    config = _early_config(values) if early else _config(PublishedConfig(values, name=FAMILY))
    tensors = read_tensors(directory)
    prefix = next((p for p in _PREFIXES if f"{p}{_EMBEDDING}" in tensors), _PREFIXES[0])
    names, copies = _names(config, prefix, tensors)
    published_head = "model.lm_head.weight" if prefix.startswith("model.") else "lm_head.weight"
    head = None
    with torch.device("meta"):
        encoder = Hyena(config)
        if early or published_head in tensors:
            head = Projection(config.dim, config.vocabulary_size)
    if head:
        names["head.decoder.weight"] = parts(f"{prefix}{_EMBEDDING}" if early else published_head)
    if early:
        copies[published_head] = f"{prefix}{_EMBEDDING}"
    network = Network(encoder, head)
    assign_published(network, tensors, names, copies=copies)
    encoder.settle_tables()
    return Model(
        name=FAMILY,
        network=network,
        tokenizer=load_tokenizer("hyenadna-train"),
        licence=LICENCE,
        config=dict(values),
        max_length=config.max_length,
        key_map=names,
        files=WeightFiles(directory),
    )


def _is_early(config: Mapping[str, Any]) -> bool:
    layer = config.get("layer")
    return isinstance(layer, dict) and "l_max" in layer and layer.get("_name_", "hyena") == "hyena"


def _config(fields: PublishedConfig) -> HyenaConfig:
    fields.expect("hyena_order", 2)
    fields.expect("short_filter_order", 3)
    fields.expect("tie_word_embeddings", False)
    # The frequencies of the sines stand in the checkpoint, and the bias of the filter is always applied.
    fields.expect("train_freq", True)
    fields.ignore("activation_freq", "embed_dropout", "hyena_dropout", "hyena_filter_dropout", "use_bias")
    config = HyenaConfig(
        vocabulary_size=_padded_vocabulary(fields),
        dim=fields.size("d_model"),
        layers=fields.size("n_layer"),
        ffn_dim=fields.size("d_inner"),
        max_length=fields.size("max_seq_len"),
        filter_features=fields.size("emb_dim"),
        filter_dim=fields.size("filter_order"),
        filter_layers=fields.size("num_inner_mlps", 2),
        # The norms within the layers keep their default whatever the config says.
        final_eps=fields.positive("layer_norm_epsilon", 1e-5),
    )
    fields.finish()
    return config


def _early_config(values: Mapping[str, Any]) -> HyenaConfig:
    fields = PublishedConfig(values, name=FAMILY)
    layer = PublishedConfig(values["layer"], name=f"{FAMILY}, in layer")
    fields.ignore(
        "layer", "resid_dropout", "embed_dropout", "fused_mlp", "fused_dropout_add_ln", "return_hidden_state",
        "checkpoint_mixer", "checkpoint_mlp",
    )  # fmt: skip
    fields.expect("residual_in_fp32", True)
    fields.expect("max_position_embeddings", 0)
    eps = fields.positive("layer_norm_epsilon", 1e-5)
    layer.expect("order", 2)
    layer.expect("short_filter_order", 3)
    layer.expect("local_order", 3)
    layer.expect("modulate", True)
    layer.expect("train_freq", True)
    # `w` is where the frequencies of the sines began; the others are for training.
    layer.ignore("_name_", "w", "lr", "wd", "lr_pos_emb", "dropout", "filter_dropout")
    config = HyenaConfig(
        vocabulary_size=_padded_vocabulary(fields),
        dim=fields.size("d_model"),
        layers=fields.size("n_layer"),
        ffn_dim=fields.size("d_inner"),
        max_length=layer.size("l_max"),
        filter_features=layer.size("emb_dim", 3),
        filter_dim=layer.size("filter_order", 64),
        filter_layers=layer.size("num_inner_mlps", 2),
        norm_eps=eps,
        final_eps=eps,
    )
    fields.finish()
    layer.finish()
    return config


def _padded_vocabulary(fields: PublishedConfig) -> int:
    multiple = fields.size("pad_vocab_size_multiple", 1)
    return -(-fields.size("vocab_size") // multiple) * multiple


def _names(
    config: HyenaConfig, prefix: str, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, tuple[Part, ...]], dict[str, str]]:
    """The key map of the encoder, and the names under which a file may repeat a tensor."""
    names = {"encoder.embedding.weight": parts(f"{prefix}{_EMBEDDING}")}
    names |= with_affine("encoder.final_norm", f"{prefix}ln_f")
    copies: dict[str, str] = {}
    sines = config.filter_layers + 1
    for index in range(config.layers):
        ours, theirs = f"encoder.layers.{index}", f"{prefix}layers.{index}"
        names |= with_affine(f"{ours}.mixer_norm", f"{theirs}.norm1")
        names |= with_affine(f"{ours}.ffn_norm", f"{theirs}.norm2")
        mlp = _within(f"{theirs}.mlp", tensors)
        names |= with_affine(f"{ours}.up", f"{mlp}.fc1")
        names |= with_affine(f"{ours}.down", f"{mlp}.fc2")
        mixer = _within(f"{theirs}.mixer", tensors)
        names |= _mixer_names(f"{ours}.mixer", mixer, config.filter_layers)
        # One frequency serves all sines of a filter; some files hold it once for each.
        sine, *others = (f"{mixer}.filter_fn.implicit_filter.{2 * i + 1}.freq" for i in range(sines))
        copies |= dict.fromkeys(others, sine)
    return names, copies


def _mixer_names(ours: str, theirs: str, filter_layers: int) -> dict[str, tuple[Part, ...]]:
    names = with_affine(f"{ours}.in_proj", f"{theirs}.in_proj")
    names |= with_affine(f"{ours}.out_proj", f"{theirs}.out_proj")
    published = {
        "short_weight": "short_filter.weight",
        "short_bias": "short_filter.bias",
        "long.bias": "filter_fn.bias",
        "long.freq": "filter_fn.implicit_filter.1.freq",
        "long.deltas": "filter_fn.modulation.deltas",
        "long.last.weight": f"filter_fn.implicit_filter.{2 * filter_layers + 2}.weight",
    }
    names |= {f"{ours}.{name}": parts(f"{theirs}.{source}") for name, source in published.items()}
    for index in range(filter_layers + 1):
        names |= with_affine(f"{ours}.long.layers.{index}", f"{theirs}.filter_fn.implicit_filter.{2 * index}")
    for table in ("z", "t"):
        # Layers share one table, but a file holds it for each.
        part = Part(f"{theirs}.filter_fn.pos_emb.{table}", to_published=Tensor.clone)
        names[f"{ours}.long.positions.{table}"] = (part,)
    return names


def _within(name: str, tensors: Mapping[str, Tensor]) -> str:
    """The name, or that of the module inside it where training recomputed activations."""
    return f"{name}.layer" if any(tensor.startswith(f"{name}.layer.") for tensor in tensors) else name
