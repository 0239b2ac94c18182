"""What the convolutional families share: their input, their config.json, and how they are made and loaded.

config.json holds `family`, the fields of the family's config and optionally `training`, a free object that
says where the weights come from. Input is one token per base, or the byte pairs of a tokenizer.json in the
format of DNABERT-2 that lies in the directory too.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import nn

from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.models.checkpoint import WeightFiles, assign_tensors, read_tensors
from fastgenome.models.embeddings import EmbeddingDefaults
from fastgenome.models.model import Model, Network
from fastgenome.models.stem import BASES, UNKNOWN
from fastgenome.models.transformer import check_fields
from fastgenome.tokenizers import KmerTokenizer, Tokenizer, load_tokenizer
from fastgenome.vocabularies import find_file


@dataclass(frozen=True)
class ConvolutionConfig:
    """Input and defaults of a convolutional model.

    `vocabulary_size` is 5 for bases (A, C, G, T, anything else) and that of the tokenizer for byte pairs.
    Kernels have `kernel_size` taps, an odd number. `max_length` is in tokens.
    """

    input: Literal["base", "bpe"] = "base"
    vocabulary_size: int = BASES + 1
    kernel_size: int = 9
    max_length: int = 16384
    default_pooling: str = "mean"
    default_layers: tuple[int, ...] = (-1,)
    licence: str = "Apache-2.0"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ArgumentError(f"kernel_size must be an odd number, got {self.kernel_size}")
        if self.max_length < 1:
            raise ArgumentError(f"max_length must be at least 1, got {self.max_length}")
        if (self.vocabulary_size == BASES + 1) != (self.input == "base") or self.vocabulary_size < BASES + 1:
            raise ArgumentError(
                f"vocabulary_size must be {BASES + 1} for input='base' and larger for input='bpe', got "
                f"{self.vocabulary_size} for {self.input!r}"
            )

    @property
    def outputs(self) -> int:
        """Logits of each token: A, C, G, T, or the vocabulary of byte pairs."""
        return BASES if self.input == "base" else self.vocabulary_size


Config = TypeVar("Config", bound=ConvolutionConfig)


def check_sizes(name: str, values: tuple[int, ...]) -> None:
    """ArgumentError unless there is a value and all are whole numbers of at least 1."""
    if not values or not all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in values):
        raise ArgumentError(f"{name} must hold whole numbers of at least 1, got {values}")


@dataclass(frozen=True)
class ConvolutionFamily(Generic[Config]):
    """How models of one family are made and loaded; `make_network` gives encoder and head of a config."""

    name: str
    kind: type[Config]
    make_network: Callable[[Config], tuple[nn.Module, nn.Module]]

    def create(
        self,
        config: Config,
        *,
        device: str | torch.device = "cpu",
        vocabulary: str | Path | None = None,
        training: dict[str, Any] | None = None,
    ) -> Model:
        """A float32 model with random weights, to be pre-trained; `training` is kept in its config.json.

        `vocabulary` is the tokenizer.json of byte pairs, or the folder that holds it; `Model.save` copies it.
        Raises ArgumentError where it is missing, not wanted or of another size.
        """
        tokenizer = _tokenizer(config, vocabulary)
        with torch.device(device):
            encoder, head = self.make_network(config)
        described = {"family": self.name, **asdict(config)}
        described |= {"training": training} if training else {}
        model = Model(
            name=self.name,
            network=Network(encoder, head),
            tokenizer=tokenizer,
            licence=config.licence,
            defaults=EmbeddingDefaults(config.default_pooling, config.default_layers),
            max_length=config.max_length,
            config=described,
        )
        if vocabulary is not None:
            model.vocabulary_source = find_file(vocabulary, "tokenizer.json").resolve()
        return model

    def recognises(self, config: Mapping[str, Any], directory: Path) -> bool:
        """Whether config.json is one of this family."""
        return config.get("family") == self.name

    def load_directory(self, directory: Path, values: Mapping[str, Any]) -> Model:
        """The model in `directory`, float32 on the CPU; `values` is its config.json."""
        try:
            config = _config_from_dict(self.name, self.kind, values)
            vocabulary = directory if config.input == "bpe" else None
            training = values.get("training")
            model = self.create(config, device="meta", vocabulary=vocabulary, training=training)
        except (ArgumentError, TypeError) as error:
            raise CheckpointError(
                f"config.json does not describe a model of the {self.name} family: {error}"
            ) from error
        assign_tensors(model.network, read_tensors(directory))
        model.files = WeightFiles(directory)
        return model


def _config_from_dict(family: str, kind: type[Config], values: Mapping[str, Any]) -> Config:
    known = {field.name for field in fields(kind)}
    ours = {key: value for key, value in values.items() if key not in ("family", "training")}
    if unknown := sorted(ours.keys() - known):
        raise CheckpointError(
            f"config.json has fields that the {family} family does not know: {', '.join(unknown)}"
        )
    arguments: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in ours.items()}
    return kind(**arguments)


def _tokenizer(config: ConvolutionConfig, vocabulary: str | Path | None) -> Tokenizer:
    if config.input == "base":
        if vocabulary is not None:
            raise ArgumentError(f"vocabulary={str(vocabulary)!r}: input='base' takes none")
        bases = {**{base: code for code, base in enumerate("ACGT")}, "[UNK]": UNKNOWN}
        return KmerTokenizer(1, letters="ACGT", vocabulary=bases, prefix=(), suffix=(), name="bases")
    if vocabulary is None:
        raise ArgumentError("input='bpe' needs vocabulary=: a tokenizer.json in the format of DNABERT-2")
    tokenizer = load_tokenizer("dnabert2", vocabulary=vocabulary)
    if tokenizer.vocabulary_size != config.vocabulary_size:
        raise ArgumentError(
            f"vocabulary_size is {config.vocabulary_size}, the tokenizer has {tokenizer.vocabulary_size}"
        )
    return tokenizer
