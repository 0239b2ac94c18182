"""Tokenizers of the published model families by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastgenome import _core
from fastgenome.byte_level import read_byte_level
from fastgenome.errors import ArgumentError, ModelError
from fastgenome.tokenizers.kmer_tokenizer import KmerTokenizer
from fastgenome.tokenizers.opt_tokenizer import OptTokenizer, one_hot_opt
from fastgenome.tokenizers.tokenizer import Tokenizer
from fastgenome.vocabularies import (
    PUBLISHED_LETTERS,
    character_ids,
    ids_of,
    is_special,
    kmers,
    literal_spellings,
    longest_kmer,
    numbered,
    read_tokenizer_json,
    read_vocab_txt,
)


def load_tokenizer(
    name: str,
    *,
    vocabulary: str | Path | None = None,
    species: str | None = None,
    prompt: str | None = None,
) -> Tokenizer:
    """Loads the tokenizer of a published model family.

    Args:
        name: one of TOKENIZERS: "dnabert-3" … "dnabert-6", "specieslm", "dnabert2", "nt-v1", "nt-v2",
            "nt-v2-3mer", "hyenadna" (CLS, sequence, SEP), "hyenadna-train" (sequence, SEP), "caduceus",
            "opt", "opt-one-hot" (Lingo's one-hot variant).
        vocabulary: vocab.txt or tokenizer.json of the model, or the folder that holds it; for OPT's
            vocab.json, with merges.txt beside it, or tokenizer.json. "specieslm", "dnabert2" and OPT's need
            it; for the others the published order is generated without it.
        species: only for "specieslm": its species token, put after CLS; "candida_glabrata" unless given.
        prompt: only for OPT's: the domain, such as "DNA Promoter", of Lingo's prompt around each sequence.

    Raises:
        ArgumentError: unknown name, or a vocabulary or prompt for a family that has none.
        ModelError: the family needs `vocabulary`.
        CheckpointError: the vocabulary's file is missing, damaged or not of this family.
    """
    if name in ("opt", "opt-one-hot") and species is None:
        return _load_opt(name, vocabulary, prompt)
    if prompt is not None:
        raise ArgumentError(
            f'prompt={prompt!r}: only "opt" and "opt-one-hot" take a prompt, {name!r} has none'
        )
    if name == "specieslm":
        return _load_specieslm(vocabulary, species or "candida_glabrata")
    if species is not None:
        raise ArgumentError(f"species={species!r}: only specieslm takes a species, {name!r} has none")
    if name not in _LOADERS:
        raise ArgumentError(f"name={name!r}: no such tokenizer, expected one of {', '.join(TOKENIZERS)}")
    return _LOADERS[name](name, vocabulary)


_HYENA_SPECIAL = ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]")


def _load_dnabert(name: str, source: str | Path | None) -> Tokenizer:
    vocabulary = None if source is None else read_vocab_txt(source)
    return KmerTokenizer(int(name[-1]), vocabulary=vocabulary, max_length=512, name=name)


def _load_specieslm(source: str | Path | None, species: str) -> Tokenizer:
    if source is None:
        raise ModelError(
            '"specieslm" needs vocabulary=: the ids of the species tokens stand only in its vocab.txt'
        )
    vocabulary = read_vocab_txt(source)
    if species not in vocabulary:
        known = [token for token in vocabulary if not is_special(token) and not set(token) <= set("ACGT")]
        raise ArgumentError(f"species={species!r} is not in the vocabulary, which has {', '.join(known)}")
    return KmerTokenizer(
        longest_kmer(vocabulary), vocabulary=vocabulary, prefix=("[CLS]", species), name="specieslm"
    )


def _load_nucleotide_transformer(name: str, source: str | Path | None) -> Tokenizer:
    if source is not None:
        vocabulary = read_vocab_txt(source)
    else:
        special = ["<unk>", "<pad>", "<mask>", "<cls>", *(() if name == "nt-v1" else ("<eos>", "<bos>"))]
        vocabulary = numbered([*special, *kmers(3 if name == "nt-v2-3mer" else 6), *"ATCGN"])
    k = longest_kmer(vocabulary)
    arguments = {
        "k": k,
        "letters": PUBLISHED_LETTERS,
        "ids": ids_of(kmers(k), vocabulary, name),
        "unknown": int(ids_of(["<unk>"], vocabulary, name)[0]),
        "characters": character_ids(vocabulary, unknown=-1),
        "literals": literal_spellings({token: vocabulary[token] for token in filter(is_special, vocabulary)}),
    }
    return Tokenizer(
        _core.BlockKmers,
        arguments,
        name=name,
        vocabulary=vocabulary,
        prefix=ids_of(["<cls>"], vocabulary, name).tolist(),
        max_length=1000 if name == "nt-v1" else 2048,
        bases_per_token=k,
    )


def _load_characters(name: str, source: str | Path | None) -> Tokenizer:
    if source is not None:
        raise ArgumentError(f"vocabulary={str(source)!r}: {name!r} has a fixed vocabulary and takes none")
    vocabulary = numbered([*_HYENA_SPECIAL, *"ACGTN"])
    table = character_ids(vocabulary, unknown=vocabulary["[UNK]"])
    if name == "caduceus":
        # Its reference upper-cases every text.
        table[ord("a") : ord("z") + 1] = table[ord("A") : ord("Z") + 1]
    literals = literal_spellings({token: vocabulary[token] for token in _HYENA_SPECIAL})
    return Tokenizer(
        _core.Characters,
        {"ids": table, "literals": literals},
        name=name,
        vocabulary=vocabulary,
        prefix=[vocabulary["[CLS]"]] if name == "hyenadna" else [],
        suffix=[vocabulary["[SEP]"]],
        bases_per_token=1,
    )


def _load_opt(name: str, source: str | Path | None, prompt: str | None) -> Tokenizer:
    if source is None:
        raise ModelError(
            f"{name!r} needs vocabulary=: the folder with the vocab.json and merges.txt of the model"
        )
    file = read_byte_level(source)
    return OptTokenizer(file, prompt=prompt) if name == "opt" else one_hot_opt(file, prompt=prompt)


def _load_bpe(name: str, source: str | Path | None) -> Tokenizer:
    if source is None:
        raise ModelError(f"{name!r} needs vocabulary=: the tokenizer.json that is published with the model")
    file = read_tokenizer_json(source)
    ids = file.vocabulary
    merges = [(ids[left], ids[right], ids[left + right]) for left, right in file.merges]
    arguments = {
        "bytes": character_ids(ids, unknown=-1),
        "merges": np.array(merges, dtype=np.int32).reshape(-1, 3),
        "unknown": ids[file.unknown],
        "literals": literal_spellings(file.literals),
    }
    return Tokenizer(_core.Bpe, arguments, name=name, vocabulary=ids, prefix=file.prefix, suffix=file.suffix)


_LOADERS: dict[str, Callable[[str, str | Path | None], Tokenizer]] = {
    **{f"dnabert-{k}": _load_dnabert for k in (3, 4, 5, 6)},
    "dnabert2": _load_bpe,
    **dict.fromkeys(("nt-v1", "nt-v2", "nt-v2-3mer"), _load_nucleotide_transformer),
    **dict.fromkeys(("hyenadna", "hyenadna-train", "caduceus"), _load_characters),
}

#: Names that `load_tokenizer` knows.
TOKENIZERS = (*_LOADERS, "specieslm", "opt", "opt-one-hot")
