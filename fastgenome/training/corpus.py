"""DNA to pre-train on: sources cut into training and held-out blocks, crops of them, and what to hide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgenome.errors import ArgumentError, InputError

Bases = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_COMPLEMENT = np.arange(256, dtype=np.uint8)
_COMPLEMENT[list(b"ACGT")] = list(b"TGCA")

_CODE = np.full(256, -1, dtype=np.int8)
_CODE[list(b"ACGT")] = [0, 1, 2, 3]

# Records longer than this are cut, so that a part of every chromosome can be held out.
BLOCK = 50_000


def base_codes(bases: Bases) -> NDArray[np.int8]:
    """A 0, C 1, G 2, T 3, anything else -1; the shape is kept."""
    return _CODE[bases]


def known_bases(bases: Bases, context: int = 0) -> Mask:
    """Which bases are A, C, G or T and have `context` such bases just before them, (length,)."""
    known = base_codes(bases) >= 0
    seen = np.concatenate([[0], np.cumsum(known)])
    result = np.zeros(len(bases), dtype=bool)
    result[context:] = seen[context + 1 :] - seen[: -context - 1] == context + 1
    return result


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

    def blocks(self, first: int, last: int) -> Corpus:
        """The blocks first to last - 1; the bases are a view."""
        offsets = self.offsets[first : last + 1]
        return Corpus(self.bases[offsets[0] : offsets[-1]], offsets - offsets[0])


class SourceShare(NamedTuple):
    """What one source gives to a divided corpus.

    Attributes:
        held_out: its blocks among the held-out ones.
        train_bases: of its blocks that are trained on.
        repeated_bases: held-out bases in blocks that a training block of any source repeats as a whole, on
            either strand.
        blocks_too_short: blocks left out.
    """

    held_out: Corpus
    train_bases: int
    repeated_bases: int
    blocks_too_short: int


class DividedCorpus(NamedTuple):
    """The training and the held-out blocks of all sources, in their order, and the share of each source."""

    train: Corpus
    held_out: Corpus
    sources: tuple[SourceShare, ...]


def build_corpus(
    sources: Iterable[Iterable[str]], *, held_out: float, seed: int, minimum: int = 6
) -> DividedCorpus:
    """Cut the sequences of each source into blocks and hold a random share of the blocks out.

    Args:
        sources: cleaned sequences (A, C, G, T, N) of each source.
        held_out: share of the blocks that is kept from training, 0 to 0.5.
        seed: of the choice.
        minimum: blocks with fewer known bases are left out, and counted.

    Raises:
        ArgumentError: held_out is out of its range. InputError: nothing is long enough to train on.
    """
    if not 0 <= held_out <= 0.5:
        raise ArgumentError(f"held_out must lie between 0 and 0.5; got {held_out}")
    blocks: list[Bases] = []
    owners: list[int] = []
    too_short: list[int] = []
    for index, sequences in enumerate(sources):
        cut = list(_cut(sequences))
        usable = [block for block in cut if known_bases(block).sum() >= minimum]
        too_short.append(len(cut) - len(usable))
        blocks += usable
        owners += [index] * len(usable)
    if not blocks:
        raise InputError(f"no sequence of at least {minimum} known bases to train on")
    chosen = np.random.default_rng(seed).random(len(blocks)) < held_out
    if held_out > 0 and not chosen.any():
        chosen[-1] = len(blocks) > 1
    if chosen.all():
        raise InputError("every block was held out; give more sequences or a smaller held_out")
    return _divided(blocks, np.array(owners), chosen, too_short)


def _cut(sequences: Iterable[str]) -> Iterator[Bases]:
    for sequence in sequences:
        bases = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)
        for start in range(0, len(bases), BLOCK):
            yield bases[start : start + BLOCK]


def _divided(
    blocks: list[Bases], owners: NDArray[np.int64], chosen: Mask, too_short: list[int]
) -> DividedCorpus:
    train = _joined([block for block, held in zip(blocks, chosen, strict=True) if not held])
    held = [block for block, held in zip(blocks, chosen, strict=True) if held]
    rest = _joined(held)
    repeated = np.where(_repeats(held, train), rest.lengths, 0)
    shares = []
    for index, left_out in enumerate(too_short):
        first, last = np.searchsorted(owners[chosen], [index, index + 1]).tolist()
        trained = int(train.lengths[owners[~chosen] == index].sum())
        shares.append(
            SourceShare(rest.blocks(first, last), trained, int(repeated[first:last].sum()), left_out)
        )
    return DividedCorpus(train, rest, tuple(shares))


def _repeats(blocks: list[Bases], corpus: Corpus) -> Mask:
    """Which blocks the corpus holds as a whole block, on either strand."""
    places: dict[bytes, list[int]] = {}
    for index, block in enumerate(blocks):
        for strand in (block, reverse_complement(block)):
            places.setdefault(strand.tobytes(), []).append(index)
    result = np.zeros(len(blocks), dtype=bool)
    for index in range(len(corpus.lengths)):
        result[places.get(corpus.block(index).tobytes(), [])] = True
    return result


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


def hide_bases(crops: Sequence[Bases], rng: np.random.Generator, *, rate: float, span: int) -> list[Mask]:
    """Masks of the bases to hide in each crop: random spans; bases that are not known are never hidden."""
    return [mask_spans(len(crop), rng, rate=rate, span=span) & known_bases(crop) for crop in crops]


def mask_spans(length: int, rng: np.random.Generator, *, rate: float, span: int) -> Mask:
    """Positions to hide: random spans of ``span`` bases that together make about ``rate`` of the length."""
    mask = np.zeros(length, dtype=bool)
    count = max(1, round(rate * length / span))
    starts = rng.integers(0, max(1, length - span + 1), size=count)
    mask[(starts[:, None] + np.arange(span)).clip(max=length - 1)] = True
    return mask
