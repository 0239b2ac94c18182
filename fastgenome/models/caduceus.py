"""Caduceus: bidirectional Mamba over single bases, of one strand (PH) or equivariant to both (PS).

Schiff et al., Caduceus: Bi-Directional Equivariant Long-Range DNA Sequence Modeling (ICML 2024). Checkpoints
of the language model hold a head that is tied to the embeddings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastgenome.errors import CheckpointError
from fastgenome.models.checkpoint import WeightFiles, read_tensors
from fastgenome.models.heads import Projection
from fastgenome.models.key_map import Part, assign_published, parts, with_affine
from fastgenome.models.mamba import BidirectionalMamba, BothStrandsHead, MambaConfig
from fastgenome.models.model import Model, Network
from fastgenome.models.published_config import PublishedConfig
from fastgenome.tokenizers import KmerTokenizer, Tokenizer, load_tokenizer

FAMILY = "caduceus"
LICENCE = "Apache-2.0"

# PlantCaduceus (Zhai et al. 2025): its tokens, and the rows of its embeddings.
_PLANT_TOKENS = {"[PAD]": 0, "[MASK]": 1, "[UNK]": 2, "A": 3, "C": 4, "G": 5, "T": 6}
_PLANT_ROWS = 8

# Before the names of the encoder's tensors in a language model.
_PREFIX = "caduceus."

# Name in our mixer -> name in each way's own module.
_OF_EACH_WAY = {
    "conv_weight": "conv1d.weight",
    "conv_bias": "conv1d.bias",
    "x_proj": "x_proj.weight",
    "delta_weight": "dt_proj.weight",
    "delta_bias": "dt_proj.bias",
    "a_log": "A_log",
    "skip": "D",
}
_TIED = ("in_proj.weight", "out_proj.weight")


def recognises(config: Mapping[str, Any], directory: Path) -> bool:
    """Whether config.json is one of this family."""
    return config.get("model_type") == "caduceus"


def load_directory(directory: Path, values: Mapping[str, Any]) -> Model:
    """The model in `directory`, float32 on the CPU; `values` is its config.json."""
    config = _config(values)
    tokenizer = _tokenizer(config)
    tensors = read_tensors(directory)
    prefix = _PREFIX if any(name.startswith(_PREFIX) for name in tensors) else ""
    with torch.device("meta"):
        network = Network(BidirectionalMamba(config), _head(config) if prefix else None)
    names = _names(config, f"{prefix}backbone", head=bool(prefix))
    assign_published(network, tensors, names, copies=_copies(config, f"{prefix}backbone"))
    _check_complements(network, config.vocabulary_size)
    return Model(
        name=FAMILY,
        network=network,
        tokenizer=tokenizer,
        licence=LICENCE,
        config=dict(values),
        key_map=names,
        files=WeightFiles(directory),
    )


def _config(values: Mapping[str, Any]) -> MambaConfig:
    fields = PublishedConfig(values, name=FAMILY)
    # How weights start, a type that differs below float32 only, and what the checkpoint holds as a tensor.
    fields.ignore("initializer_cfg", "residual_in_fp32", "complement_map")
    fields.expect("tie_word_embeddings", True)
    fields.expect("bidirectional", True)
    fields.expect("bidirectional_strategy", "add", None)
    fields.expect("bidirectional_weight_tie", True)
    dim, both_strands = fields.size("d_model"), fields.take("rcps", False)
    # The published code's fused path swaps the strands at every layer, its other path does not.
    fused = fields.take("fused_add_norm", True)
    multiple = fields.size("pad_vocab_size_multiple", 8)
    fields.ignore("ssm_cfg")
    mixer = _mixer_fields(values.get("ssm_cfg"))
    rank_given = (values.get("ssm_cfg") or {}).get("dt_rank", "auto") != "auto"
    mixer.ignore("dt_rank")
    config = MambaConfig(
        vocabulary_size=-(-fields.size("vocab_size") // multiple) * multiple,
        dim=dim,
        layers=fields.size("n_layer"),
        inner_dim=mixer.size("expand", 2) * dim,
        states=mixer.size("d_state", 16),
        kernel=mixer.size("d_conv", 4),
        rank=mixer.size("dt_rank") if rank_given else -(-dim // 16),
        norm_type="rms" if fields.take("rms_norm", True) else "layer",
        norm_eps=fields.positive("norm_epsilon", 1e-5),
        both_strands=both_strands,
        swap_strands=both_strands and fused,
    )
    fields.finish()
    mixer.finish()
    return config


def _mixer_fields(values: Any) -> PublishedConfig:
    """The fields of ssm_cfg, less those that only say how weights start or which kernel runs."""
    if not isinstance(values, dict | None):
        raise CheckpointError(f"config.json of {FAMILY}: ssm_cfg is {values!r}, expected an object")
    mixer = PublishedConfig(values or {}, name=f"{FAMILY} (ssm_cfg)")
    mixer.ignore("dt_init", "dt_init_floor", "dt_max", "dt_min", "dt_scale", "use_fast_path")
    mixer.expect("bias", False)
    mixer.expect("conv_bias", True)
    return mixer


def _head(config: MambaConfig) -> nn.Module:
    kind = BothStrandsHead if config.both_strands else Projection
    return kind(config.dim, config.vocabulary_size)


def _names(config: MambaConfig, backbone: str, *, head: bool) -> dict[str, tuple[Part, ...]]:
    # Modules of one strand are wrapped in those of both; the fused path uses the norm without its wrapper.
    wrapped = ".submodule" if config.both_strands else ""
    norm = wrapped if not config.swap_strands else ""
    bias = config.norm_type == "layer"
    names = {"encoder.embedding.weight": parts(_embedding(config, backbone))}
    names |= with_affine("encoder.final_norm", f"{backbone}.norm_f{norm}", bias=bias)
    for index in range(config.layers):
        ours, theirs = f"encoder.layers.{index}", f"{backbone}.layers.{index}"
        mixer = f"{theirs}.mixer{wrapped}"
        names |= with_affine(f"{ours}.norm", f"{theirs}.norm{norm}", bias=bias)
        names |= {f"{ours}.mixer.{tied}": parts(f"{mixer}.mamba_fwd.{tied}") for tied in _TIED}
        for name, published in _OF_EACH_WAY.items():
            ways = parts(f"{mixer}.mamba_fwd.{published}", f"{mixer}.mamba_rev.{published}")
            names[f"{ours}.mixer.{name}"] = ways
    if config.both_strands:
        complements = f"{backbone}.embeddings.word_embeddings.complement_map"
        names["encoder.complement_map"] = parts(complements)
    if head:
        names["head.decoder.weight"] = names["encoder.embedding.weight"]
    if head and config.both_strands:
        names["head.complement_map"] = parts("lm_head.complement_map")
    return names


def _embedding(config: MambaConfig, backbone: str) -> str:
    inside = "embedding." if config.both_strands else ""
    return f"{backbone}.embeddings.word_embeddings.{inside}weight"


def _copies(config: MambaConfig, backbone: str) -> dict[str, str]:
    """Second copies of tied tensors, which some files hold."""
    wrapped = ".submodule" if config.both_strands else ""
    head = "lm_head.lm_head.weight" if config.both_strands else "lm_head.weight"
    copies = {head: _embedding(config, backbone)}
    for index in range(config.layers):
        mixer = f"{backbone}.layers.{index}.mixer{wrapped}"
        copies |= {f"{mixer}.mamba_rev.{tied}": f"{mixer}.mamba_fwd.{tied}" for tied in _TIED}
    return copies


def _tokenizer(config: MambaConfig) -> Tokenizer:
    """The tokenizer of the vocabulary's size: PlantCaduceus has the four bases only and no separator."""
    if config.vocabulary_size == _PLANT_ROWS:
        return KmerTokenizer(1, vocabulary=_PLANT_TOKENS, prefix=(), suffix=(), name="plantcaduceus")
    tokenizer = load_tokenizer("caduceus")
    if config.vocabulary_size < tokenizer.vocabulary_size:
        raise CheckpointError(
            f"config.json of {FAMILY}: vocab_size is {config.vocabulary_size}, which is that of another "
            f"tokenizer; supported are {_PLANT_ROWS} and, with rows to spare, {tokenizer.vocabulary_size}"
        )
    return tokenizer


def _check_complements(network: Network, vocabulary_size: int) -> None:
    for name, complements in network.named_buffers():
        if not ((complements >= 0) & (complements < vocabulary_size)).all():
            raise CheckpointError(f"the tensor of {name} names ids outside 0 … {vocabulary_size - 1}")
