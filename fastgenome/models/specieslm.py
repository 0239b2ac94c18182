"""SpeciesLM (Karollus et al., Genome Biology 2024): BERT over k-mers behind a token of the species.

The published embedding averages the last third of the layers (8 to 12 of 12), and all tokens with them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastgenome.models.dnabert import is_kmer_bert, load_kmer_bert
from fastgenome.models.embeddings import EmbeddingDefaults
from fastgenome.models.model import Model
from fastgenome.models.published_config import PublishedConfig
from fastgenome.tokenizers import load_tokenizer

FAMILY = "specieslm"
LICENCE = "MIT"
OPTIONS = ("species",)


def recognises(config: Mapping[str, Any], directory: Path) -> bool:
    """Whether config.json is one of this family: BERT whose vocabulary has k-mers and species."""
    return is_kmer_bert(config, directory, others=True)


def load_directory(directory: Path, values: Mapping[str, Any], *, species: str | None = None) -> Model:
    """The model in `directory`, float32 on the CPU; `values` is its config.json."""
    last = PublishedConfig(values, name=FAMILY).size("num_hidden_layers")
    return load_kmer_bert(
        directory,
        values,
        tokenizer=load_tokenizer("specieslm", vocabulary=directory, species=species),
        family=FAMILY,
        licence=LICENCE,
        defaults=EmbeddingDefaults(
            layers=tuple(range(2 * last // 3, last + 1)), special_tokens=True, average_layers=True
        ),
    )
