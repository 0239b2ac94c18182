"""The embedded default: single bases, a stem that joins six of them, and a small packed transformer.

config.json holds `family: "tiny"`, the fields of TinyConfig with `transformer` as an object, and optionally
`training`, a free object that says where the weights come from.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.models.checkpoint import WeightFiles, assign_tensors, read_tensors
from fastgenome.models.embeddings import EmbeddingDefaults
from fastgenome.models.heads import MaskedLanguageHead
from fastgenome.models.model import Model, Network
from fastgenome.models.transformer import Transformer, TransformerConfig, check_fields
from fastgenome.tokenizers import KmerTokenizer

FAMILY = "tiny"

# A, C, G, T and everything else, which is unknown.
_BASES = {"A": 0, "C": 1, "G": 2, "T": 3, "[UNK]": 4}

_SHAPE = TransformerConfig(
    vocabulary_size=len(_BASES),
    dim=256,
    layers=2,
    heads=4,
    ffn_dim=512,
    positions="rotary",
    norm_bias=False,
    activation="geglu",
    qkv_bias=False,
    output_bias=False,
    up_bias=False,
    down_bias=False,
    embedding_norm=True,
    final_norm=True,
    stem_stride=6,
    stem_k=6,
    stem_window=24,
)


@dataclass(frozen=True)
class TinyConfig:
    """A model of the tiny family: one token per base, `transformer.stem_stride` of them to a row.

    The head predicts four logits (A, C, G, T) for each base of a row. `max_length` is in bases.
    `default_pooling` and `default_layers` are those of `embed`.
    """

    transformer: TransformerConfig = _SHAPE
    max_length: int = 6144
    default_pooling: str = "mean"
    default_layers: tuple[int, ...] = (0, 1, 2)
    licence: str = "Apache-2.0"

    def __post_init__(self) -> None:
        check_fields(self)


def create(
    config: TinyConfig,
    *,
    device: str | torch.device = "cpu",
    training: dict[str, Any] | None = None,
) -> Model:
    """A float32 model with random weights, to be pre-trained; `training` is kept in its config.json."""
    with torch.device(device):
        encoder = Transformer(config.transformer)
        head = MaskedLanguageHead(config.transformer.dim, 4 * config.transformer.stem_stride)
    # Fields at their defaults are left out: a digest of the config outlives fields that are added later.
    shape = {f.name: getattr(config.transformer, f.name) for f in fields(TransformerConfig)}
    usual = {f.name: f.default for f in fields(TransformerConfig)}
    transformer = {name: value for name, value in shape.items() if value != usual[name]}
    described = {"family": FAMILY, **asdict(config), "transformer": transformer}
    described |= {"training": training} if training else {}
    return Model(
        name=FAMILY,
        network=Network(encoder, head),
        tokenizer=KmerTokenizer(1, letters="ACGT", vocabulary=_BASES, prefix=(), suffix=(), name="bases"),
        licence=config.licence,
        defaults=EmbeddingDefaults(config.default_pooling, config.default_layers),
        max_length=config.max_length,
        config=described,
    )


def config_from_dict(values: Mapping[str, Any]) -> TinyConfig:
    """TinyConfig of a config.json; CheckpointError names fields that are unknown, missing or not accepted."""
    known = {field.name for field in fields(TinyConfig)}
    ours = {key: value for key, value in values.items() if key not in ("family", "training")}
    if unknown := sorted(ours.keys() - known):
        raise CheckpointError(
            f"config.json has fields that the tiny family does not know: {', '.join(unknown)}"
        )
    try:
        ours["transformer"] = TransformerConfig(**ours["transformer"])
        ours["default_layers"] = tuple(ours["default_layers"])
        return TinyConfig(**ours)
    except (KeyError, TypeError, ArgumentError) as error:
        raise CheckpointError(f"config.json does not describe a model of the tiny family: {error}") from error


def recognises(config: Mapping[str, Any], directory: Path) -> bool:
    """Whether config.json is one of this family."""
    return config.get("family") == FAMILY


def load_directory(directory: Path, values: Mapping[str, Any]) -> Model:
    """The model in `directory`, float32 on the CPU; `values` is its config.json."""
    config = config_from_dict(values)
    try:
        model = create(config, device="meta", training=values.get("training"))
    except ArgumentError as error:
        raise CheckpointError(f"config.json does not describe a model of the tiny family: {error}") from error
    assign_tensors(model.network, read_tensors(directory))
    model.files = WeightFiles(directory)
    return model
