"""The peers of our tokenizers: what their users run today, each a function from sequences to an array of ids.

A peer that gives lists of Python ints pays for turning them into an array, as its users do.
"""

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Ids = NDArray[Any]
Encode = Callable[[list[str]], Ids]


def flat(rows: Any) -> Ids:
    return np.fromiter(chain.from_iterable(rows), np.int32)


def word_level(vocabulary: Mapping[str, int], k: int = 6) -> Encode:
    """DNABERT's input: k-mers joined by spaces, through tokenizers' fast batch."""
    import tokenizers

    peer = tokenizers.Tokenizer(tokenizers.models.WordLevel(dict(vocabulary), unk_token="[UNK]"))
    peer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()

    def encode(sequences: list[str]) -> Ids:
        texts = [" ".join(text[i : i + k] for i in range(len(text) - k + 1)) for text in sequences]
        return flat(encoding.ids for encoding in peer.encode_batch_fast(texts))

    return encode


def numpy_kmers(sequences: list[str], k: int = 6) -> Ids:
    """Ids of sequences of one length, all at once: each code from the one of a base less."""
    digits = np.zeros(256, np.int32)
    digits[np.frombuffer(b"ATCG", np.uint8)] = range(4)
    bases = digits[np.frombuffer("".join(sequences).encode(), np.uint8).reshape(len(sequences), -1)]
    width = bases.shape[1] - k + 1
    codes = bases[:, :width].copy()
    for offset in range(1, k):
        codes *= 4
        codes += bases[:, offset : offset + width]
    codes += 5
    return codes.ravel()


def rolling_numba(out: Ids, k: int = 6) -> Encode:
    """One sequence in a compiled loop that rolls the code along, into `out`."""
    numba = pytest.importorskip("numba")
    digits = np.full(256, 4, np.uint8)
    digits[np.frombuffer(b"ATCG", np.uint8)] = range(4)

    @numba.njit
    def roll(bases: Ids, digits: Ids, k: int, out: Ids) -> None:
        code, known = 0, 0
        for i in range(bases.size):
            digit = digits[bases[i]]
            if digit < 4:
                code = ((code << 2) | digit) & ((1 << (2 * k)) - 1)
                known += 1
            else:
                known = 0
            if i >= k - 1:
                out[i - k + 1] = code + 5 if known >= k else 1

    def encode(sequences: list[str]) -> Ids:
        (sequence,) = sequences
        roll(np.frombuffer(sequence.encode(), np.uint8), digits, k, out)
        return out

    encode(["A" * (out.size + k - 1)])
    return encode


def fixed_length(vocabulary: Mapping[str, int]) -> Encode:
    """tokenizers cuts into blocks of six; it has no rule for a remainder."""
    import tokenizers

    peer = tokenizers.Tokenizer(tokenizers.models.WordLevel(dict(vocabulary), unk_token="<unk>"))
    peer.pre_tokenizer = tokenizers.pre_tokenizers.FixedLength(6)
    return lambda sequences: flat(encoding.ids for encoding in peer.encode_batch_fast(sequences))


def esm(vocabulary: Mapping[str, int], folder: Path) -> Encode:
    """The tokenizer that Nucleotide Transformer publishes."""
    transformers = pytest.importorskip("transformers")
    path = folder / "vocab.txt"
    path.write_text("\n".join(vocabulary))
    peer = transformers.EsmTokenizer(str(path), eos_token=None)
    return lambda sequences: flat(peer(sequences, add_special_tokens=False)["input_ids"])


def translate(vocabulary: Mapping[str, int], unknown: int) -> Encode:
    """Python's own table lookup, a byte for each character."""
    table = bytes(vocabulary.get(chr(byte), unknown) for byte in range(256))

    def encode(sequences: list[str]) -> Ids:
        return np.frombuffer(b"".join([text.encode().translate(table) for text in sequences]), np.uint8)

    return encode


def character_tokenizer(vocabulary: Mapping[str, int]) -> Encode:
    """HyenaDNA's way: a tokenizer of transformers whose tokens are the characters."""
    transformers = pytest.importorskip("transformers")
    numbers = dict(vocabulary)

    class Characters(transformers.PreTrainedTokenizer):  # type: ignore[misc]
        @property
        def vocab_size(self) -> int:
            return len(numbers)

        def get_vocab(self) -> dict[str, int]:
            return numbers

        def _tokenize(self, text: str) -> list[str]:
            return list(text)

        def _convert_token_to_id(self, token: str) -> int:
            return numbers.get(token, numbers["[UNK]"])

        def _convert_id_to_token(self, index: int) -> str:
            return list(numbers)[index]

    peer = Characters(unk_token="[UNK]", pad_token="[PAD]")
    return lambda sequences: flat(peer(sequences, add_special_tokens=False)["input_ids"])


def hugging_face(path: Path) -> Encode:
    """tokenizers, from a tokenizer.json."""
    import tokenizers

    peer = tokenizers.Tokenizer.from_file(str(path))
    return lambda sequences: flat(
        encoding.ids for encoding in peer.encode_batch_fast(sequences, add_special_tokens=False)
    )


def tokie(path: Path) -> Encode:
    """tokie, from a tokenizer.json."""
    peer = pytest.importorskip("tokie").Tokenizer.from_json(str(path))
    return lambda sequences: np.asarray(peer.encode_batch_flat(sequences, add_special_tokens=False)[0])
