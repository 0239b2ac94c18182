"""Texts that a tokenizer may meet, random and adversarial, drawn from a seed.

Each kind is a function `(source, bases) -> list of str` of about that many characters in all; `batches` goes
round them until its budget is spent. `source` is the random generator with what the kinds draw on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Every length from 0 to this one occurs.
LONGEST_OF_EVERY_LENGTH = 4096

IUPAC = "RYSWKMBDHV"
SPACES = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0"
BEYOND_LATIN = "é日αж\u3000\u2028\u00ad\u200b\U0001f9ec\ufeffĀġ\u1680"


class Batch(NamedTuple):
    """Texts of one kind."""

    kind: str
    texts: list[str]


@dataclass
class Source:
    """Where texts come from.

    Attributes:
        random: the generator; the same seed gives the same texts.
        tokens: pieces of the tokenizer's vocabulary, special tokens left out.
        specials: spellings of special tokens.
        genome: a real sequence, or "" where there is none.
    """

    random: np.random.Generator
    tokens: Sequence[str]
    specials: Sequence[str]
    genome: str = ""

    def letters(self, alphabet: str, count: int) -> str:
        """`count` letters of an alphabet, all alike probable."""
        table = np.array([ord(letter) for letter in alphabet], np.uint32)
        return _text(table[self.random.integers(0, len(table), count)])

    def lengths(self, bases: int, most: int, least: int = 0) -> NDArray[np.int64]:
        """Lengths that add up to about `bases`."""
        return self.random.integers(least, most + 1, max(1, 2 * bases // (least + most)))

    def sprinkled(self, alphabet: str, share: float, bases: int, most: int = 2000) -> list[str]:
        """DNA in which a share of the letters is replaced from `alphabet`."""
        lengths = self.lengths(bases, most)
        points = _points(self.letters("ACGT", int(lengths.sum())))
        places = np.flatnonzero(self.random.random(points.size) < share)
        points[places] = _points(self.letters(alphabet, places.size))
        return _cut(_text(points), lengths)


def random_dna(source: Source, bases: int) -> list[str]:
    """Each base alike probable."""
    lengths = source.lengths(bases, 2000, 200)
    return _cut(source.letters("ACGT", int(lengths.sum())), lengths)


def real_dna(source: Source, bases: int) -> list[str]:
    """Pieces of a genome, or skewed random bases where there is none."""
    if not source.genome:
        return _cut(source.letters("AAAAATTTTTCCGGG", bases), source.lengths(bases, 2000))
    lengths = source.lengths(bases, 2000)
    starts = source.random.integers(0, len(source.genome) - 2000, lengths.size)
    return [
        source.genome[start : start + n] for start, n in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]


def long_dna(source: Source, bases: int) -> list[str]:
    """One text, which threads have to share; a few odd letters in it."""
    points = _points(source.letters("ACGT", bases))
    odd = source.random.integers(0, max(1, bases), 8)
    points[odd[odd < bases]] = ord("N")
    return [_text(points)]


def tiny_dna(source: Source, bases: int) -> list[str]:
    """Up to 20 letters, shorter than most k-mers."""
    lengths = source.lengths(bases // 8, 20)
    return _cut(source.letters("ACGTACGTACGTN", int(lengths.sum())), lengths)


def runs_of_n(source: Source, bases: int) -> list[str]:
    """Runs of N, from single ones to hundreds, between runs of bases."""
    lengths = np.geomspace(1, 500, 24).astype(int)
    pieces: list[str] = []
    size = 0
    while size < bases:
        run, gap = source.random.choice(lengths, 2)
        pieces += [source.letters("ACGT", int(run)), "N" * int(gap)]
        size += int(run + gap)
    return _cut("".join(pieces), source.lengths(bases, 3000))


def soft_masked(source: Source, bases: int) -> list[str]:
    """Upper and lower case in runs, and letter by letter."""
    lengths = source.lengths(bases, 2000)
    points = _points(source.letters("ACGTACGTACGTN", int(lengths.sum())))
    by_run = np.repeat(source.random.random(points.size // 40 + 1) < 0.4, 40)[: points.size]
    by_letter = source.random.random(points.size) < 0.01
    points[by_run ^ by_letter] |= 0x20
    return _cut(_text(points), lengths)


def periodic(source: Source, bases: int) -> list[str]:
    """Poly-A and repeats of period 1 to 12, some with one letter changed."""
    texts: list[str] = []
    size = 0
    while size < bases:
        unit = source.letters("ACGT", int(source.random.integers(1, 13)))
        text = unit * int(source.random.integers(1, 300))
        if source.random.random() < 0.5:
            place = int(source.random.integers(0, len(text)))
            text = text[:place] + source.letters("ACGTN", 1) + text[place + 1 :]
        texts.append(text)
        size += len(text)
    return texts


def joined_tokens(source: Source, bases: int) -> list[str]:
    """Tokens of the vocabulary one behind the other, whole and cut short at their ends."""
    texts: list[str] = []
    size = 0
    while size < bases:
        chosen = source.random.integers(0, len(source.tokens), int(source.random.integers(1, 60)))
        text = "".join(source.tokens[i] for i in chosen)
        texts.append(text[int(source.random.integers(0, 4)) :])
        size += len(text) + 1
    return texts


def special_spellings(source: Source, bases: int) -> list[str]:
    """Spellings of special tokens, whole, nested and broken, between bases and odd characters."""
    pieces = [
        *source.specials,
        *(text[:-1] for text in source.specials),
        *(text[1:] for text in source.specials),
    ]
    pieces += [
        "ACGTAC",
        "A",
        "acg",
        "NN",
        "[",
        "]",
        "<",
        ">",
        "[[",
        "<<",
        " ",
        "\t",
        "日",
        "x",
        "[CLS][",
        "<mask",
    ]
    texts: list[str] = []
    size = 0
    while size < bases // 4:
        chosen = source.random.integers(0, len(pieces), int(source.random.integers(1, 16)))
        texts.append("".join(pieces[i] for i in chosen))
        size += len(texts[-1]) + 1
    return texts


def any_byte(source: Source, bases: int) -> list[str]:
    """All characters of Latin-1, and each between bases."""
    alphabet = "".join(map(chr, range(256)))
    lengths = source.lengths(bases // 4, 600)
    texts = _cut(source.letters(alphabet, int(lengths.sum())), lengths)
    return texts + [f"ACGTAC{letter}GTTGCA{letter}{letter}" for letter in alphabet]


_KINDS: dict[str, Callable[[Source, int], list[str]]] = {
    "random": random_dna,
    "real": real_dna,
    "long": long_dna,
    "tiny": tiny_dna,
    "N runs": runs_of_n,
    "soft-masked": soft_masked,
    "IUPAC": lambda source, bases: source.sprinkled(IUPAC + IUPAC.lower(), 0.02, bases),
    "gaps": lambda source, bases: source.sprinkled("-." + SPACES, 0.02, bases),
    "RNA": lambda source, bases: [text.replace("T", "U") for text in random_dna(source, bases)],
    "U and T": lambda source, bases: source.sprinkled("Uu", 0.001, bases // 4),
    "periodic": periodic,
    "tokens": joined_tokens,
    "specials": special_spellings,
    "any byte": any_byte,
    "odd bytes": lambda source, bases: source.sprinkled("".join(map(chr, range(256))), 0.01, bases),
    "beyond Latin-1": lambda source, bases: source.sprinkled(BEYOND_LATIN, 0.01, bases // 4),
}

# More than half of each round is plain DNA, as in use.
_WEIGHTS = {"random": 8, "real": 8, "long": 4}


def batches(source: Source, bases: int, first_round: int = 0) -> Iterator[Batch]:
    """Batches of every kind, again and again, until `bases` characters were given.

    A quarter of the lengths 0 to 4096 comes with each round, so that four rounds hold all of them.
    """
    size = int(np.clip(bases // 100, 10_000, 1_000_000))
    given = 0
    for number in count(first_round):
        first = number % 4 * LONGEST_OF_EVERY_LENGTH // 4
        quarter = range(first, first + LONGEST_OF_EVERY_LENGTH // 4 + (number % 4 == 3))
        text = source.letters("ACGT", sum(quarter))
        yield Batch("every length", _cut(text, np.array(quarter)))
        given += sum(quarter)
        for kind, make in _KINDS.items():
            texts = make(source, size * _WEIGHTS.get(kind, 1))
            given += sum(map(len, texts))
            yield Batch(kind, texts)
        if given >= bases:
            return


def _points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).copy()


def _text(points: NDArray[np.uint32]) -> str:
    return points.tobytes().decode("utf-32-le")


def _cut(text: str, lengths: NDArray[np.int64]) -> list[str]:
    ends = np.minimum(np.cumsum(lengths), len(text)).tolist()
    return [text[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
