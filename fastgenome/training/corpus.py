"""DNA to pre-train on: one array of bases, cut into training and held-out blocks, and crops of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgenome.errors import ArgumentError, InputError

Bases = NDArray[np.uint8]

_COMPLEMENT = np.arange(256, dtype=np.uint8)
_COMPLEMENT[list(b"ACGT")] = list(b"TGCA")

_CODE = np.full(256, -1, dtype=np.int8)
_CODE[list(b"ACGT")] = [0, 1, 2, 3]

# Records longer than this are cut, so that a part of every chromosome can be held out.
BLOCK = 50_000


def base_codes(bases: Bases) -> NDArray[np.int8]:
    """A 0, C 1, G 2, T 3, anything else -1; the shape is kept."""
    return _CODE[bases]


def reverse_complement(bases: Bases) -> Bases:
    """The opposite strand of ASCII bases, read 5' to 3'."""
    return _COMPLEMENT[bases[::-1]]


class Corpus(NamedTuple):
    """ASCII bases (total,) of all records and offsets (n + 1,) of the blocks they were cut into."""

    bases: Bases
    offsets: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bases of each block, (n,)."""
        return np.diff(self.offsets)

    def block(self, index: int) -> Bases:
        """The bases of one block, a view."""
        return self.bases[self.offsets[index] : self.offsets[index + 1]]


def build_corpus(
    sequences: Iterable[str], *, held_out: float, seed: int, minimum: int = 6
) -> tuple[Corpus, Corpus]:
    """Cut sequences into blocks and hold a random share of them out.

    Args:
        sequences: cleaned sequences (A, C, G, T, N).
        held_out: share of the blocks that is kept from training, 0 to 0.5.
        seed: of the choice.
        minimum: shorter blocks are left out.

    Returns:
        The training corpus and the held-out corpus.

    Raises:
        ArgumentError: held_out is out of its range. InputError: nothing is long enough to train on.
    """
    if not 0 <= held_out <= 0.5:
        raise ArgumentError(f"held_out must lie between 0 and 0.5; got {held_out}")
    blocks = [
        np.frombuffer(sequence[start : start + BLOCK].encode("ascii"), dtype=np.uint8)
        for sequence in sequences
        for start in range(0, len(sequence), BLOCK)
    ]
    blocks = [block for block in blocks if len(block) >= minimum]
    if not blocks:
        raise InputError(f"no sequence of at least {minimum} bases to train on")
    chosen = np.random.default_rng(seed).random(len(blocks)) < held_out
    if held_out > 0 and not chosen.any():
        chosen[-1] = len(blocks) > 1
    train = [block for block, held in zip(blocks, chosen, strict=True) if not held]
    rest = [block for block, held in zip(blocks, chosen, strict=True) if held]
    if not train:
        raise InputError("every block was held out; give more sequences or a smaller held_out")
    return _joined(train), _joined(rest)


def _joined(blocks: list[Bases]) -> Corpus:
    offsets = np.zeros(len(blocks) + 1, dtype=np.int64)
    np.cumsum([len(block) for block in blocks], out=offsets[1:])
    return Corpus(np.concatenate([np.empty(0, dtype=np.uint8), *blocks]), offsets)


def sample_crops(corpus: Corpus, rng: np.random.Generator, *, bases: int, length: int) -> list[Bases]:
    """Draw crops of one length, each base equally likely, each on a random strand.

    Args:
        corpus: to draw from; a block shorter than the crop is taken whole.
        rng: the source of randomness.
        bases: the crops' total, reached or passed by less than one crop.
        length: bases of a crop.
    """
    crops: list[Bases] = []
    drawn = 0
    while drawn < bases:
        position = int(rng.integers(len(corpus.bases)))
        block = int(np.searchsorted(corpus.offsets, position, side="right")) - 1
        start, end = int(corpus.offsets[block]), int(corpus.offsets[block + 1])
        first = min(max(position - int(rng.integers(length)), start), max(end - length, start))
        crop = corpus.bases[first : min(first + length, end)]
        crops.append(reverse_complement(crop) if rng.random() < 0.5 else crop.copy())
        drawn += len(crop)
    return crops


def mask_spans(length: int, rng: np.random.Generator, *, rate: float, span: int) -> NDArray[np.bool_]:
    """Positions to hide: random spans of ``span`` bases that together make about ``rate`` of the length."""
    mask = np.zeros(length, dtype=bool)
    count = max(1, round(rate * length / span))
    starts = rng.integers(0, max(1, length - span + 1), size=count)
    mask[(starts[:, None] + np.arange(span)).clip(max=length - 1)] = True
    return mask
