"""OPT's byte-level BPE, alone or in the prompt of Lingo."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgenome import _core
from fastgenome.byte_level import ByteLevelFile, as_texts, insert_ids, is_dna
from fastgenome.cleaning import as_batch, describe_invalid
from fastgenome.errors import ArgumentError, InputError
from fastgenome.tokenizers.tokenizer import Tokenizer, Tokens

MAX_LENGTH = 2048


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
            max_length=MAX_LENGTH,
        )
        self.special_token_ids |= {"bos": ids["</s>"], "eos": ids["</s>"]}
        self.prompt = prompt
        self._file = file

    def _encode(
        self,
        batch: tuple[str | bytes, ...],
        special_tokens: bool,
        clean: bool,
        dtype: np.dtype[Any],
        out: NDArray[Any] | None,
        threads: int,
    ) -> Tokens:
        if clean and self.prompt is None:
            return super()._encode(batch, special_tokens, clean, dtype, out, threads)
        texts = self._clean(batch) if clean else as_texts(batch)
        odd = [] if clean else [index for index, text in enumerate(texts) if not is_dna(text)]
        if self.prompt is not None:
            texts = [f" {text}" for text in texts]
        odd_texts = [texts[index] for index in odd]
        for index in odd:
            texts[index] = ""
        tokens = super()._encode(tuple(texts), special_tokens, False, dtype, None if odd else out, threads)
        if not odd:
            return tokens
        added = dict(zip(odd, self._file.encode(odd_texts), strict=True))
        return _into(out, Tokens(*insert_ids(*tokens, added, place=self.prefix_length)))

    def capacity(self, sequences: Any, *, special_tokens: bool = True) -> int:
        """Entries that `out` must have, see `Tokenizer`; characters beyond DNA may need several each."""
        sizes = [4 * len(sequence) + 1 for sequence in as_batch(sequences)]
        return sum(sizes) + special_tokens * len(sizes) * (self.prefix_length + self.suffix_length)

    @staticmethod
    def _clean(batch: tuple[str | bytes, ...]) -> list[str]:
        cleaned, counts = _core.clean(batch)
        invalid = np.flatnonzero(counts[:, 4])
        if invalid.size:
            index = int(invalid[0])
            raise InputError(describe_invalid(batch[index], index))
        texts: list[str] = cleaned
        return texts


def one_hot_opt(file: ByteLevelFile, *, prompt: str | None = None) -> Tokenizer:
    """Lingo's one-hot variant: the bases A, T, C, G as the ids 5, 6, 7, 8 of OPT's own embedding table.

    The prompt, as in `OptTokenizer`, is encoded apart from the sequence; other letters are `<unk>`.
    """
    ids = file.vocabulary
    before: list[int] = []
    behind: list[int] = []
    if prompt is not None:
        before, behind = file.encode([f"Domain: {prompt}\nSequence: ", "\nAnnotation:"])
    table = np.full(256, ids["<unk>"], np.int32)
    table[np.frombuffer(b"ATCG", np.uint8)] = range(5, 9)
    return Tokenizer(
        _core.Characters,
        {"ids": table, "literals": {}},
        name="opt-one-hot",
        vocabulary=ids,
        prefix=[ids["</s>"], *before],
        suffix=behind,
        max_length=MAX_LENGTH,
        bases_per_token=1,
    )


def _into(out: NDArray[Any] | None, tokens: Tokens) -> Tokens:
    """The same tokens with their ids in `out`, where there is one."""
    if out is None:
        return tokens
    if out.size < tokens.ids.size:
        raise ArgumentError(f"out holds {out.size} values, needed are {tokens.ids.size}")
    out[: tokens.ids.size] = tokens.ids
    return Tokens(out[: tokens.ids.size], tokens.offsets)
