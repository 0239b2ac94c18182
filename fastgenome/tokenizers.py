"""Tokenizers of the published DNA models: sequences in, packed ids and offsets out.

The C++ core encodes on all cores without the GIL; nothing is padded and nothing is cut off. With `clean=True`
(the default) a sequence is first upper-cased, U becomes T where it holds no T, IUPAC codes become N, and gaps
and white space are removed. With `clean=False` the ids are those of the reference tokenizer for the text as
it stands, where lower case is mostly unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgenome import _core
from fastgenome.byte_level import ByteLevelFile, as_texts, insert_ids, is_dna, read_byte_level
from fastgenome.cleaning import as_batch, describe_invalid
from fastgenome.errors import ArgumentError, InputError, ModelError
from fastgenome.vocabularies import (
    PUBLISHED_LETTERS,
    character_ids,
    ids_of,
    is_special,
    kmers,
    longest_kmer,
    numbered,
    read_tokenizer_json,
    read_vocab_txt,
    special_token_ids,
)


class Tokens(NamedTuple):
    """Token ids of many sequences, one behind the other.

    Sequence i has the ids `ids[offsets[i]:offsets[i + 1]]`.
    """

    ids: NDArray[np.int32]  # (total,)
    offsets: NDArray[np.int64]  # (n + 1,)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each sequence, special tokens included: (n,)."""
        return np.diff(self.offsets)


class Tokenizer:
    """Turns sequences into token ids; made by `load_tokenizer`, or as a `KmerTokenizer`.

    Attributes:
        name: the family, such as "dnabert-6".
        vocabulary: token → id.
        vocabulary_size: highest id + 1, special tokens included.
        special_token_ids: ids under the names pad, unk, cls, sep, mask, bos, eos, as far as they exist.
        max_length: most tokens, special ones included, that the published models accept, or None.
        bases_per_token: bases from the beginning of one token to that of the next, or None where it varies.
    """

    def __init__(
        self,
        encoder: Callable[..., Any],
        arguments: Mapping[str, Any],
        *,
        name: str,
        vocabulary: Mapping[str, int],
        prefix: Iterable[int] = (),
        suffix: Iterable[int] = (),
        max_length: int | None = None,
        bases_per_token: int | None = None,
    ) -> None:
        """`encoder(**arguments)` makes the encoder of the C++ core; prefix and suffix are token ids."""
        self.name = name
        self.vocabulary = dict(vocabulary)
        self.vocabulary_size = max(self.vocabulary.values()) + 1
        self.special_token_ids = special_token_ids(self.vocabulary)
        self.max_length = max_length
        self.bases_per_token = bases_per_token
        self._prefix = list(prefix)
        self._suffix = list(suffix)
        self._recipe = (encoder, dict(arguments))
        self._encoder = encoder(**arguments)

    @property
    def prefix_length(self) -> int:
        """Number of special tokens before each sequence."""
        return len(self._prefix)

    @property
    def suffix_length(self) -> int:
        """Number of special tokens after each sequence."""
        return len(self._suffix)

    def __call__(
        self, sequences: Iterable[str | bytes], *, special_tokens: bool = True, clean: bool = True
    ) -> Tokens:
        """Encodes sequences.

        Args:
            sequences: DNA, one str (or bytes) each.
            special_tokens: whether to put the prefix and suffix of the family around each sequence.
            clean: whether to clean sequences first, see the module; without it characters outside of the
                vocabulary become the unknown token.

        Returns:
            Tokens in the order of `sequences`.

        Raises:
            InputError: with `clean`, a sequence holds a character that is no nucleotide code.
            ArgumentError: `sequences` is one str.
        """
        batch = as_batch(sequences)
        prefix, suffix = (self._prefix, self._suffix) if special_tokens else ([], [])
        ids, offsets, invalid = self._encoder.encode(batch, prefix=prefix, suffix=suffix, clean=clean, dtype=np.dtype(np.int32))
        if invalid >= 0:
            raise InputError(describe_invalid(batch[invalid], invalid))
        return Tokens(ids, offsets)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, vocabulary_size={self.vocabulary_size})"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_encoder"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        encoder, arguments = self._recipe
        self._encoder = encoder(**arguments)


class KmerTokenizer(Tokenizer):
    """Sliding k-mers: token t covers the bases [t·stride, t·stride + k), and only whole k-mers count.

    A k-mer with anything but A, C, G, T is the unknown token, without cleaning lower case too; a sequence
    shorter than k has no k-mer at all. Stride 1 is the tokenization of DNABERT (Ji et al. 2021).
    """

    def __init__(
        self,
        k: int,
        stride: int = 1,
        *,
        letters: str = PUBLISHED_LETTERS,
        vocabulary: Mapping[str, int] | None = None,
        prefix: Iterable[str] = ("[CLS]",),
        suffix: Iterable[str] = ("[SEP]",),
        max_length: int | None = None,
        name: str | None = None,
    ) -> None:
        """Makes the tokenizer.

        Args:
            k: 1 to 8.
            stride: bases from one token to the next, at least 1.
            letters: the order of A, C, G, T in a generated vocabulary.
            vocabulary: token → id; without it [PAD], [UNK], [CLS], [SEP], [MASK] and then all k-mers.
            prefix: special tokens put before each sequence.
            suffix: special tokens put after each sequence.
            max_length: tokens of one sequence that the model accepts.
            name: a name for messages, by default from k and stride.

        Raises:
            ArgumentError: k, stride or letters out of range.
            CheckpointError: `vocabulary` lacks a k-mer or a special token.
        """
        if not 1 <= k <= 8:
            raise ArgumentError(f"k={k!r}: expected 1 to 8")
        if stride < 1:
            raise ArgumentError(f"stride={stride!r}: expected at least 1")
        if sorted(letters) != ["A", "C", "G", "T"]:
            raise ArgumentError(f"letters={letters!r}: expected A, C, G and T in some order")
        name = name or f"kmer-{k}-stride-{stride}"
        tokens = (
            dict(vocabulary) if vocabulary is not None else numbered([*_BERT_SPECIAL, *kmers(k, letters)])
        )
        arguments = {
            "k": k,
            "stride": stride,
            "letters": letters,
            "ids": ids_of(kmers(k, letters), tokens, name),
            "unknown": int(ids_of(["[UNK]"], tokens, name)[0]),
        }
        super().__init__(
            _core.SlidingKmers,
            arguments,
            name=name,
            vocabulary=tokens,
            prefix=ids_of(prefix, tokens, name).tolist(),
            suffix=ids_of(suffix, tokens, name).tolist(),
            max_length=max_length,
            bases_per_token=stride,
        )
        self.k = k
        self.stride = stride


class OptTokenizer(Tokenizer):
    """OPT's byte-level BPE (Zhang et al. 2022), with `</s>` first, alone or in the prompt of Lingo.

    With a prompt each sequence is encoded in `Domain: {prompt}\\nSequence: {sequence}\\nAnnotation:`. GPT-2's
    pattern always cuts before the space that comes before the sequence and before the line break behind it,
    so the rest is a constant prefix and suffix, and the space belongs to the sequence's own tokens.
    """

    def __init__(self, file: ByteLevelFile, *, prompt: str | None = None) -> None:
        """Makes the tokenizer; `prompt` is the domain of the prompt, such as "DNA Promoter"."""
        before: list[int] = []
        behind: list[int] = []
        if prompt is not None:
            before, behind = file.encode([f"Domain: {prompt}\nSequence:", "\nAnnotation:"])
        ids = file.vocabulary
        super().__init__(
            _core.Bpe,
            file.dna_bpe(),
            name="opt",
            vocabulary=ids,
            prefix=[ids["</s>"], *before],
            suffix=behind,
            max_length=2048,
        )
        self.special_token_ids |= {"bos": ids["</s>"], "eos": ids["</s>"]}
        self.prompt = prompt
        self._file = file

    def __call__(
        self, sequences: Iterable[str | bytes], *, special_tokens: bool = True, clean: bool = True
    ) -> Tokens:
        """Encodes sequences, see `Tokenizer`; `special_tokens` stands for the prompt too."""
        batch = as_batch(sequences)
        if clean and self.prompt is None:
            return super().__call__(batch, special_tokens=special_tokens)
        texts = self._clean(batch) if clean else as_texts(batch)
        odd = [] if clean else [index for index, text in enumerate(texts) if not is_dna(text)]
        if self.prompt is not None:
            texts = [f" {text}" for text in texts]
        odd_texts = [texts[index] for index in odd]
        for index in odd:
            texts[index] = ""
        tokens = super().__call__(texts, special_tokens=special_tokens, clean=False)
        if not odd:
            return tokens
        added = dict(zip(odd, self._file.encode(odd_texts), strict=True))
        return Tokens(*insert_ids(*tokens, added, place=self.prefix_length))

    @staticmethod
    def _clean(batch: tuple[str | bytes, ...]) -> list[str]:
        cleaned, counts = _core.clean(batch)
        invalid = np.flatnonzero(counts[:, 4])
        if invalid.size:
            index = int(invalid[0])
            raise InputError(describe_invalid(batch[index], index))
        texts: list[str] = cleaned
        return texts


def load_tokenizer(
    name: str,
    *,
    vocabulary: str | Path | None = None,
    species: str = "candida_glabrata",
    prompt: str | None = None,
) -> Tokenizer:
    """Loads the tokenizer of a published model family.

    Args:
        name: one of TOKENIZERS: "dnabert-3" … "dnabert-6", "specieslm", "dnabert2", "nt-v1", "nt-v2",
            "nt-v2-3mer", "hyenadna" (CLS, sequence, SEP), "hyenadna-train" (sequence, SEP), "caduceus",
            "opt".
        vocabulary: vocab.txt or tokenizer.json of the model, or the folder that holds it; for "opt"
            vocab.json, with merges.txt beside it, or tokenizer.json. "specieslm", "dnabert2" and "opt" need
            it; for the others the published order is generated without it.
        species: the species token of "specieslm", put after CLS.
        prompt: only for "opt": the domain, such as "DNA Promoter", of Lingo's prompt around each sequence.

    Raises:
        ArgumentError: unknown name, or a vocabulary or prompt for a family that has none.
        ModelError: the family needs `vocabulary`.
        CheckpointError: the vocabulary's file is missing, damaged or not of this family.
    """
    if name == "opt":
        return _load_opt(vocabulary, prompt)
    if prompt is not None:
        raise ArgumentError(f'prompt={prompt!r}: only "opt" takes a prompt, {name!r} has none')
    if name == "specieslm":
        return _load_specieslm(vocabulary, species)
    if name not in _LOADERS:
        raise ArgumentError(f"name={name!r}: no such tokenizer, expected one of {', '.join(TOKENIZERS)}")
    return _LOADERS[name](name, vocabulary)


_BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
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
        "literals": {token: number for token, number in vocabulary.items() if is_special(token)},
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
    literals = {token: vocabulary[token] for token in _HYENA_SPECIAL}
    return Tokenizer(
        _core.Characters,
        {"ids": table, "literals": literals},
        name=name,
        vocabulary=vocabulary,
        prefix=[vocabulary["[CLS]"]] if name == "hyenadna" else [],
        suffix=[vocabulary["[SEP]"]],
        bases_per_token=1,
    )


def _load_opt(source: str | Path | None, prompt: str | None) -> Tokenizer:
    if source is None:
        raise ModelError(
            '"opt" needs vocabulary=: the folder with the vocab.json and merges.txt of the model'
        )
    return OptTokenizer(read_byte_level(source), prompt=prompt)


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
        "literals": file.literals,
    }
    return Tokenizer(_core.Bpe, arguments, name=name, vocabulary=ids, prefix=file.prefix, suffix=file.suffix)


_LOADERS: dict[str, Callable[[str, str | Path | None], Tokenizer]] = {
    **{f"dnabert-{k}": _load_dnabert for k in (3, 4, 5, 6)},
    "dnabert2": _load_bpe,
    **dict.fromkeys(("nt-v1", "nt-v2", "nt-v2-3mer"), _load_nucleotide_transformer),
    **dict.fromkeys(("hyenadna", "hyenadna-train", "caduceus"), _load_characters),
}

#: Names that `load_tokenizer` knows.
TOKENIZERS = (*_LOADERS, "specieslm", "opt")
