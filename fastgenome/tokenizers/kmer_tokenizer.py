"""Sliding k-mers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastgenome import _core
from fastgenome.errors import ArgumentError
from fastgenome.tokenizers.tokenizer import Tokenizer
from fastgenome.vocabularies import PUBLISHED_LETTERS, ids_of, kmers, numbered

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


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
        tokens = dict(vocabulary) if vocabulary is not None else numbered([*_SPECIAL, *kmers(k, letters)])
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
