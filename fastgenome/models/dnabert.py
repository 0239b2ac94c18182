"""DNABERT with k = 3 … 6 (Ji et al., Bioinformatics 2021): BERT over overlapping k-mers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fastgenome.errors import CheckpointError
from fastgenome.models.bert import (
    UNUSED,
    bert_config,
    bert_names,
    head_names,
    head_of,
    pooler_names,
    pooler_of,
    prefix_of,
    with_current_names,
)
from fastgenome.models.checkpoint import WeightFiles, read_tensors
from fastgenome.models.embeddings import EmbeddingDefaults
from fastgenome.models.key_map import assign_published
from fastgenome.models.model import Model, Network
from fastgenome.models.published_config import PublishedConfig
from fastgenome.models.transformer import Transformer
from fastgenome.tokenizers import Tokenizer, load_tokenizer
from fastgenome.vocabularies import is_special, longest_kmer, read_vocab_txt

FAMILY = "dnabert"
LICENCE = "Apache-2.0"

# Of a recurrent layer that was never published, and of an option to cut long inputs.
_DEAD = ("num_rnn_layer", "rnn", "rnn_dropout", "rnn_hidden", "split")


def recognises(config: Mapping[str, Any], directory: Path) -> bool:
    """Whether config.json is one of this family: BERT whose vocabulary is of k-mers alone."""
    return is_kmer_bert(config, directory, others=False)


def load_directory(directory: Path, values: Mapping[str, Any]) -> Model:
    """The model in `directory`, float32 on the CPU; `values` is its config.json."""
    name = f"dnabert-{longest_kmer(read_vocab_txt(directory))}"
    tokenizer = load_tokenizer(name, vocabulary=directory)
    return load_bert(directory, values, tokenizer=tokenizer, family=FAMILY, licence=LICENCE)


def is_kmer_bert(config: Mapping[str, Any], directory: Path, *, others: bool) -> bool:
    """Whether this is BERT over k-mers of one length, and has `others` (no k-mers, not special) or not."""
    if config.get("model_type") != "bert" or not (directory / "vocab.txt").is_file():
        return False
    tokens = {token for token in read_vocab_txt(directory) if not is_special(token)}
    kmers = {token for token in tokens if set(token) <= set("ACGT")}
    return len(set(map(len, kmers))) == 1 and bool(tokens - kmers) == others


def load_bert(
    directory: Path,
    values: Mapping[str, Any],
    *,
    tokenizer: Tokenizer,
    family: str,
    licence: str,
    defaults: EmbeddingDefaults | None = None,
) -> Model:
    """A model of BERT's layout with this tokenizer; its embedding is by default the last layer's mean."""
    fields = PublishedConfig(values, name=family)
    config = bert_config(fields)
    fields.ignore(*_DEAD)
    fields.finish()
    if tokenizer.vocabulary_size > config.vocabulary_size:
        raise CheckpointError(
            f"the vocabulary in {directory} has {tokenizer.vocabulary_size} ids, the model "
            f"{config.vocabulary_size} embeddings"
        )
    tensors = with_current_names(read_tensors(directory))
    prefix = prefix_of(tensors)
    with torch.device("meta"):
        network = Network(Transformer(config), head_of(config, tensors), pooler_of(config, tensors, prefix))
    names = bert_names(config.layers, prefix)
    if network.head:
        names |= head_names(prefix, "cls.predictions.bias")
    if network.pooler:
        names |= pooler_names(prefix)
    copies = {
        "cls.predictions.decoder.weight": f"{prefix}embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    assign_published(network, tensors, names, unused=UNUSED, copies=copies)
    return Model(
        name=family,
        network=network,
        tokenizer=tokenizer,
        licence=licence,
        config=dict(values),
        defaults=defaults,
        max_length=config.max_positions,
        key_map=names,
        files=WeightFiles(directory),
    )
