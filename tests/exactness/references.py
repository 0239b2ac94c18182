"""What the ids of a text are, by definition: written out in NumPy, or by the libraries that define them.

Nothing here comes from fastgenome: neither code nor vocabularies nor special tokens. A reference takes texts
and gives Rows of ids without special tokens around them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray
from packed import Rows, code_points, from_lists, offsets_of

Reference = Callable[[Sequence[str]], Rows]


def kmer_names(k: int) -> list[str]:
    """k-mers in the order of the published vocabularies: A, T, C, G, the first letter changing slowest."""
    return ["".join(letters) for letters in product("ATCG", repeat=k)]


def sliding_kmers(k: int, vocabulary: dict[str, int], unknown: int) -> Reference:
    """DNABERT: one token per window of k letters, `unknown` where it holds another letter."""
    ids = np.array([vocabulary["".join(kmer)] for kmer in product("ACGT", repeat=k)])
    digits = _digits()

    def encode(texts: Sequence[str]) -> Rows:
        points = code_points(texts)
        lengths = np.diff(points.offsets)
        codes, is_known = window_codes(digits[points.values], k)
        # A window belongs to a text where it does not reach into the next one.
        inside = np.arange(codes.size) + k <= np.repeat(points.offsets[1:], lengths)[: codes.size]
        tokens = np.maximum(lengths - k + 1, 0)
        return Rows(np.where(is_known, ids[codes], unknown)[inside], offsets_of(tokens.tolist()))

    return encode


def window_codes(digits: NDArray[np.int64], k: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Codes in base 4 of all windows, and whether all digits of each are in 0 … 3."""
    size = max(0, digits.size - k + 1)
    codes = np.zeros(size, np.int64)
    known = np.ones(size, bool)
    for offset in range(k):
        part = digits[offset : offset + size]
        codes = codes * 4 + (part & 3)
        known &= part < 4
    return codes, known


def characters(
    vocabulary: dict[str, int], unknown: int, specials: Sequence[str], *, upper: bool
) -> Reference:
    """HyenaDNA and Caduceus: one token per character; spellings of special tokens are one token."""
    table = np.full(257, unknown)
    for token, number in vocabulary.items():
        if len(token) == 1:
            table[ord(token)] = number
            table[ord(token.lower() if upper else token)] = number

    def plain(texts: Sequence[str]) -> Rows:
        points = code_points(texts)
        # White space is a character like any other here.
        return Rows(table[points.values], points.offsets)

    return _with_specials(plain, {token: vocabulary[token] for token in specials})


def blocks(k: int, vocabulary: dict[str, int], unknown: int, specials: Sequence[str]) -> Reference:
    """Nucleotide Transformer: k-mers side by side; where none fits a single character; N begins anew.

    White space parts a text and has no token; what the vocabulary lacks is one `unknown` per run.
    """
    ids = np.array([vocabulary["".join(kmer)] for kmer in product("ACGT", repeat=k)])
    single = np.full(257, -1)
    for token, number in vocabulary.items():
        if len(token) == 1:
            single[ord(token)] = number
    digits = _digits()
    is_space = np.array([chr(point).isspace() for point in range(256)] + [False])

    def plain(texts: Sequence[str]) -> Rows:
        points = code_points(texts)
        place = np.arange(points.values.size)
        value = digits[points.values]
        is_base = value < 4
        starts_text = np.zeros(place.size + 1, bool)
        starts_text[points.offsets] = True
        begins = is_base & np.concatenate([[True], ~is_base[:-1]])[: place.size] | starts_text[:-1]
        run_begin = np.maximum.accumulate(np.where(begins, place, 0))
        ends = np.concatenate([~is_base[1:] | starts_text[1:-1], [True]])[: place.size]
        run_end = np.minimum.accumulate(np.where(ends, place + 1, place.size)[::-1])[::-1]
        in_run = place - run_begin
        covered = (run_end - run_begin) // k * k
        codes, _ = window_codes(value, k)
        codes = np.concatenate([codes, np.zeros(place.size - codes.size, np.int64)])
        out = np.where(is_base, single[points.values], -1)
        keep = is_base & ((in_run >= covered) | (in_run % k == 0))
        out = np.where(is_base & (in_run < covered), ids[codes], out)
        other = ~is_base
        named = other & (single[points.values] >= 0)
        strange = other & ~named & ~is_space[points.values]
        first = strange & (np.concatenate([[True], ~strange[:-1]])[: place.size] | starts_text[:-1])
        out = np.where(named, single[points.values], np.where(first, unknown, out))
        return Rows(out, points.offsets).keep(keep | named | first)

    return _with_specials(plain, {token: vocabulary[token] for token in specials})


def hugging_face(tokenizer, around: tuple[str, str] = ("", "")) -> Reference:
    """The `tokenizers` library itself, on each text between two others."""
    before, behind = around

    def encode(texts: Sequence[str]) -> Rows:
        whole = [f"{before}{text}{behind}" for text in texts] if before or behind else list(texts)
        encodings = tokenizer.encode_batch_fast(whole, add_special_tokens=False)
        return from_lists([encoding.ids for encoding in encodings])

    return encode


def cleaned(texts: Sequence[str]) -> tuple[list[str], NDArray[np.bool_]]:
    """Texts after cleaning, and which of them are not DNA.

    Letters become upper case, U becomes T in a text without T, IUPAC codes become N, gaps and white space
    go. Whatever else stands there, or a U beside a T, makes a text something else than DNA.
    """
    points = code_points(texts)
    upper = np.arange(257)
    upper[ord("a") : ord("z") + 1] -= 32
    letters = upper[points.values]
    row = points.row_of_value()
    count = points.offsets.size - 1

    def rows_with(letter: str) -> NDArray[np.bool_]:
        return np.bincount(row[letters == ord(letter)], minlength=count) > 0

    target = np.full(257, -1)
    for letter in "ACGTN":
        target[ord(letter)] = ord(letter)
    for letter in "RYSWKMBDHV":
        target[ord(letter)] = ord("N")
    target[ord("U")] = ord("T")
    removed = np.array([chr(point) in "-." or chr(point).isspace() for point in range(256)] + [False])
    kept = ~removed[letters]
    is_wrong = rows_with("U") & rows_with("T")
    is_wrong[row[kept & (target[letters] < 0)]] = True
    result = Rows(target[letters], points.offsets).keep(kept)
    text = result.values.astype(np.uint8).tobytes().decode("latin-1")
    ends = result.offsets.tolist()
    return [text[begin:end] for begin, end in pairwise(ends)], is_wrong


def _digits() -> NDArray[np.int64]:
    digits = np.full(257, 4)
    for digit, letter in enumerate("ACGT"):
        digits[ord(letter)] = digit
    return digits


def _with_specials(plain: Reference, specials: dict[str, int]) -> Reference:
    """A reference that gives each spelling of a special token its id and encodes what lies between."""
    longest_first = sorted(specials, key=len, reverse=True)

    def pieces(text: str) -> list[str | int]:
        parts: list[str | int] = []
        begin = place = 0
        while place < len(text):
            found = next((token for token in longest_first if text.startswith(token, place)), None)
            if found is None:
                place += 1
                continue
            parts += [text[begin:place], specials[found]]
            begin = place = place + len(found)
        return [*parts, text[begin:]]

    def encode(texts: Sequence[str]) -> Rows:
        candidates = [text for text in texts if "[" in text or "<" in text]
        if not any(token in text for text in candidates for token in specials):
            return plain(texts)
        parts = [pieces(text) for text in texts]
        between = plain([part for row in parts for part in row if isinstance(part, str)])
        rows: list[list[int]] = []
        number = 0
        for row in parts:
            ids: list[int] = []
            for part in row:
                if isinstance(part, int):
                    ids.append(part)
                else:
                    ids += between.row(number).tolist()
                    number += 1
            rows.append(ids)
        return from_lists(rows)

    return encode
