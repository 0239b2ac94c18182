"""Byte-level byte-pair vocabularies with the ids of OPT (Zhang et al. 2022): files, and any text at all.

The merges are those of GPT-2; the ids are OPT's own, which stand in its vocab.json as they are. Before the
merges, GPT-2's pattern cuts a text into pieces, and a run of letters, with the one space before it, is a
single piece. So DNA needs the merges over its letters only, which `dna_bpe` gives to the C++ core. Other
texts go to the Hugging Face `tokenizers` library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgenome.errors import CheckpointError
from fastgenome.vocabularies import (
    added_tokens,
    check_supported,
    find_file,
    integers,
    merge_pairs,
    read_json,
    read_text,
)

#: How the vocabulary spells the bytes of DNA and of the space before it.
DNA_SPELLING = {**{letter: letter for letter in "ACGTNacgtn"}, " ": "Ġ"}

_DNA = re.compile("[ACGTNacgtn]*")
_OPT_SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
_GPT2_CUTTING = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
# The special tokens that OPT's tokenizer recognises in raw text, where no tokenizer.json lists them.
_LITERALS = ("<pad>", "</s>")


@dataclass(frozen=True)
class ByteLevelFile:
    """A byte-level vocabulary with its merges in rank order."""

    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    literals: tuple[str, ...]  # special tokens that are recognised in raw text

    def dna_bpe(self) -> dict[str, Any]:
        """Arguments of the C++ core's BPE for texts of DNA_SPELLING, from the merges that they can use."""
        ids = self.vocabulary
        characters = np.full(256, -1, dtype=np.int32)
        for letter, token in DNA_SPELLING.items():
            characters[ord(letter)] = ids[token]
        letters = set(DNA_SPELLING.values())
        used = [
            (ids[left], ids[right], ids[left + right])
            for left, right in self.merges
            if letters.issuperset(left + right)
        ]
        merges = np.array(used, dtype=np.int32).reshape(-1, 3)
        return {"bytes": characters, "merges": merges, "unknown": ids["<unk>"], "literals": {}}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of any texts, without special tokens around them, by the Hugging Face library."""
        encodings = self._reference.encode_batch(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    @cached_property
    def _reference(self) -> Any:
        from tokenizers import AddedToken, Tokenizer
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel

        reference = Tokenizer(BPE(vocab=self.vocabulary, merges=self.merges))
        reference.pre_tokenizer = ByteLevel(add_prefix_space=False)
        reference.add_special_tokens([AddedToken(token, normalized=False) for token in self.literals])
        return reference


def read_byte_level(source: str | Path) -> ByteLevelFile:
    """Reads OPT's vocabulary.

    Args:
        source: vocab.json with merges.txt beside it (both may have a beginning in common, as
            gpt2-vocab.json and gpt2-merges.txt), or tokenizer.json, or the folder that holds them.

    Raises:
        CheckpointError: a file is missing or damaged, sets what would change the ids, or does not number the
            tokens as OPT does; GPT-2's own vocab.json has the same tokens under other ids.
    """
    path = _find(Path(source))
    content = read_json(path)
    if path.name.endswith("vocab.json"):
        file = ByteLevelFile(integers(content, path), _read_merges(path), _LITERALS)
    else:
        file = _from_tokenizer_json(content, path)
    if not _OPT_SPECIAL.items() <= file.vocabulary.items():
        raise CheckpointError(
            f"{path}: these are not the ids of OPT, which begin with <s> 0, <pad> 1, </s> 2, <unk> 3; "
            "GPT-2's own vocab.json numbers the same tokens in another order"
        )
    parts = (part for left, right in file.merges for part in (left, right, left + right))
    for token in [*DNA_SPELLING.values(), *parts]:
        if token not in file.vocabulary:
            raise CheckpointError(f"{path}: the token {token!r} is used but stands not in the vocabulary")
    return file


def as_texts(batch: Sequence[str | bytes]) -> list[str]:
    """The sequences of a batch as str; bytes are read as UTF-8. TypeError for anything else."""
    for index, text in enumerate(batch):
        if not isinstance(text, str | bytes):
            raise TypeError(f"sequences[{index}] is {type(text).__name__}, expected str or bytes")
    return [text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in batch]


def is_dna(text: str) -> bool:
    """Whether a text has no other letters than A, C, G, T and N, of either case, nor anything else."""
    return _DNA.fullmatch(text) is not None


def insert_ids(
    ids: NDArray[Any], offsets: NDArray[np.int64], added: Mapping[int, list[int]], place: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Packed ids and offsets after `added[i]` is put into row i, `place` ids from its beginning.

    Into a shorter row it comes at the end.
    """
    rows = np.split(ids, offsets[1:-1])
    for index, new in added.items():
        rows[index] = np.concatenate([rows[index][:place], np.array(new, ids.dtype), rows[index][place:]])
    return np.concatenate(rows), np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)


def _find(source: Path) -> Path:
    """The file that holds the vocabulary."""
    if source.is_dir():
        for name in ("vocab.json", "gpt2-vocab.json", "tokenizer.json"):
            if (source / name).is_file():
                return source / name
    return find_file(source, "vocab.json")


def _read_merges(vocabulary: Path) -> list[tuple[str, str]]:
    """The merges of the merges.txt beside a vocab.json."""
    path = vocabulary.with_name(vocabulary.name.removesuffix("vocab.json") + "merges.txt")
    lines = read_text(find_file(path, path.name)).split("\n")
    try:
        return merge_pairs(line for line in lines if line and not line.startswith("#version"))
    except ValueError as error:
        raise CheckpointError(f"{path}: expected two tokens in each line ({error})") from error


def _from_tokenizer_json(content: dict[str, Any], path: Path) -> ByteLevelFile:
    try:
        model = content["model"]
        check_supported(content, model, path)
        cutting = {"use_regex": True, **content["pre_tokenizer"]}
        if any(cutting.get(key) != value for key, value in _GPT2_CUTTING.items()):
            raise CheckpointError(f"{path}: pre_tokenizer is {cutting!r}, supported is {_GPT2_CUTTING!r}")
        added = added_tokens(content, path)
        vocabulary = integers(model["vocab"], path) | added
        return ByteLevelFile(vocabulary, merge_pairs(model["merges"]), tuple(added))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a usable byte-level tokenizer.json ({error!r})") from error
