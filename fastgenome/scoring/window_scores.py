"""Scores of neighbouring windows of a genome, each from its own letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastgenome.genome import Genome
from fastgenome.scoring.scorer import Scorer, Scores
from fastgenome.scoring.window_plan import Piece, WindowOptions

_N = ord("N")
# Windows worked on at a time: enough for full batches, few enough that their inputs stay small.
_MOST_WINDOWS = 4096
_MOST_BASES = 1 << 21

_T = TypeVar("_T")

_OTHER_STRAND = str.maketrans("ACGT", "TGCA")
_COMPLEMENT = np.arange(256, dtype=np.uint8)
_COMPLEMENT[np.frombuffer(b"ACGT", np.uint8)] = np.frombuffer(b"TGCA", np.uint8)


class Part(NamedTuple):
    """Neighbouring windows, of which some are scored."""

    piece: Piece
    wanted: NDArray[np.bool_]  # (piece.windows,)
    letters: NDArray[np.uint8]  # of all its windows, N beyond the contig's end

    @property
    def windows(self) -> int:
        """How many are scored."""
        return int(np.count_nonzero(self.wanted))


class WindowScorer(Protocol):
    """Scores the wanted windows of some parts, in two steps: the second alone needs the model."""

    def prepare(self, parts: Sequence[Part]) -> Any:
        """What the second step needs: letters, tokens, features."""
        ...

    def __call__(self, prepared: Any) -> Scores:
        """Scores (n, dim) of the n wanted windows, in order."""
        ...


def fetch_letters(genome: Genome, contig: int, start: int, end: int) -> NDArray[np.uint8]:
    """The letters [start, end) of a contig, upper case, with N for those that lie beyond its end."""
    last = min(end, int(genome.lengths[contig]))
    letters = genome.fetch_packed(contig, start, last, threads=1).letters
    return np.pad(letters, (0, end - last), constant_values=_N) if end > last else letters


def reverse_complement(letters: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The other strand, read from its own beginning."""
    return _COMPLEMENT[letters[::-1]]


def other_strand(text: str) -> str:
    """`reverse_complement` of a text."""
    return text[::-1].translate(_OTHER_STRAND)


def mean_of_strands(scores: Sequence[Scores]) -> Scores:
    """The mean of the scores (n, dim) of one strand or two."""
    return np.asarray(np.mean(scores, axis=0, dtype=np.float32))


def strands_of(options: WindowOptions) -> tuple[bool, ...]:
    """The strands that are read: False for the genome's own, True for the other one."""
    return {"forward": (False,), "reverse": (True,), "both": (False, True)}[options.strand]


def features_of(part: Part, scorer: Scorer, options: WindowOptions, *, reverse: bool) -> NDArray[np.float32]:
    """Features of the wanted windows of a part (n, k), in the order of the genome."""
    # The last window of a strand is the first of the other one.
    letters = reverse_complement(part.letters) if reverse else part.letters
    wanted = part.wanted[::-1] if reverse else part.wanted
    found = scorer.window_features(letters.tobytes(), options.window, options.stride)[wanted]
    return found[::-1] if reverse else found


class SeparateWindows:
    """Scores in which a window sees itself alone; features roll along."""

    def __init__(self, scorer: Scorer, options: WindowOptions) -> None:
        self._scorer = scorer
        self._options = options

    def prepare(self, parts: Sequence[Part]) -> list[tuple[list[str], NDArray[np.float32]]]:
        """For each strand the letters of the windows and their features."""
        return [self._one_strand(parts, reverse=reverse) for reverse in strands_of(self._options)]

    def __call__(self, prepared: list[tuple[list[str], NDArray[np.float32]]]) -> Scores:
        """See WindowScorer."""
        if self._scorer.model is None:
            return mean_of_strands([self._scorer.of_inputs(features) for _, features in prepared])
        return mean_of_strands([self._scorer.scores(texts, features) for texts, features in prepared])

    def _one_strand(self, parts: Sequence[Part], *, reverse: bool) -> tuple[list[str], NDArray[np.float32]]:
        window, stride = self._options.window, self._options.stride
        features = [features_of(part, self._scorer, self._options, reverse=reverse) for part in parts]
        texts: list[str] = []
        for part in parts if self._scorer.model is not None else ():
            text = part.letters.tobytes().decode("ascii")
            starts = (np.flatnonzero(part.wanted) * stride).tolist()
            texts += [text[start : start + window] for start in starts]
        if reverse:
            texts = [other_strand(text) for text in texts]
        return texts, np.concatenate(features)


def scored_parts(
    pieces: Sequence[Piece], genome: Genome, options: WindowOptions, score: WindowScorer, *, ahead: bool
) -> Iterator[tuple[list[Part], Scores]]:
    """Score the windows of some pieces, so many at a time; only parts with scored windows come.

    Windows of several short pieces go through the model together. With `ahead` a thread prepares the next
    ones meanwhile: a GPU would wait for them.
    """
    prepared = (
        (parts, score.prepare(parts))
        for group in _groups(pieces, options)
        if (parts := [part for part in (_part(piece, genome, options) for piece in group) if part.windows])
    )
    for parts, inputs in _one_ahead(prepared) if ahead else prepared:
        yield parts, score(inputs)


def _groups(pieces: Sequence[Piece], options: WindowOptions) -> Iterator[list[Piece]]:
    """Pieces, cut where necessary, whose windows are scored together."""
    most = max(1, min(_MOST_WINDOWS, _MOST_BASES // max(options.window, options.stride)))
    group: list[Piece] = []
    room = most
    for piece in pieces:
        first = 0
        while first < piece.windows:
            windows = min(room, piece.windows - first)
            group.append(piece._replace(start=piece.start + first * options.stride, windows=windows))
            first += windows
            room -= windows
            if not room:
                yield group
                group, room = [], most
    if group:
        yield group


def _part(piece: Piece, genome: Genome, options: WindowOptions) -> Part:
    """The letters of a piece, and which of its windows have few enough unknown bases."""
    starts = options.stride * np.arange(piece.windows, dtype=np.int64)
    letters = fetch_letters(genome, piece.contig, piece.start, piece.start + int(starts[-1]) + options.window)
    # Filling does not count.
    ends = np.minimum(starts + options.window, genome.lengths[piece.contig] - piece.start)
    unknown = np.concatenate([[0], np.cumsum(letters == _N)])
    wanted = (unknown[ends] - unknown[starts]) / (ends - starts) <= options.max_n
    return Part(piece, np.asarray(wanted), letters)


def _one_ahead(items: Iterator[_T]) -> Iterator[_T]:
    """The items, of which a thread finds the next while one is worked on."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
