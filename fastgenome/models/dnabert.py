"""DNABERT with k = 3 … 6 (Ji et al., Bioinformatics 2021): BERT over overlapping k-mers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastgenome.models.bert import bert_config, layer_names, load_bert
from fastgenome.models.embeddings import EmbeddingDefaults
from fastgenome.models.model import Model
from fastgenome.models.published_config import PublishedConfig
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
    return load_kmer_bert(directory, values, tokenizer=tokenizer, family=FAMILY, licence=LICENCE)


def is_kmer_bert(config: Mapping[str, Any], directory: Path, *, others: bool) -> bool:
    """Whether this is BERT over k-mers of one length, and has `others` (no k-mers, not special) or not."""
    if config.get("model_type") != "bert" or not (directory / "vocab.txt").is_file():
        return False
    tokens = {token for token in read_vocab_txt(directory) if not is_special(token)}
    kmers = {token for token in tokens if set(token) <= set("ACGT")}
    return len(set(map(len, kmers))) == 1 and bool(tokens - kmers) == others


def load_kmer_bert(
    directory: Path,
    values: Mapping[str, Any],
    *,
    tokenizer: Tokenizer,
    family: str,
    licence: str,
    defaults: EmbeddingDefaults | None = None,
) -> Model:
    """BERT over k-mers with this tokenizer; by default its embedding is the mean of the last layer."""
    fields = PublishedConfig(values, name=family)
    config = bert_config(fields)
    tied = fields.take("tie_word_embeddings", True)
    fields.ignore(*_DEAD)
    fields.finish()
    return load_bert(
        directory,
        values,
        config=config,
        layer_names=layer_names,
        decoder_bias="cls.predictions.bias",
        tied=tied,
        tokenizer=tokenizer,
        family=family,
        licence=licence,
        defaults=defaults,
        min_length=longest_kmer(tokenizer.vocabulary),
    )
