"""Scores of neighbouring windows of a genome, each from its own letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastgenome.genome import Genome
from fastgenome.scoring.scorer import Scorer, Scores
from fastgenome.scoring.window_plan import Piece, WindowOptions

_N = ord("N")
# Windows worked on at a time: enough for full batches, few enough that their inputs stay small.
_MOST_WINDOWS = 4096
_MOST_BASES = 1 << 21

_COMPLEMENT = np.arange(256, dtype=np.uint8)
_COMPLEMENT[np.frombuffer(b"ACGT", np.uint8)] = np.frombuffer(b"TGCA", np.uint8)


class PieceScores(NamedTuple):
    """The windows of a piece that are scored."""

    starts: NDArray[np.int64]  # (n,)
    values: Scores  # (n, dim)


class StretchScorer(Protocol):
    """Scores the windows of a piece on both strands of the genome, or on one."""

    def __call__(self, piece: Piece, wanted: NDArray[np.bool_]) -> Scores:
        """Scores (n, dim) of the n windows that are `wanted` (piece.windows,)."""
        ...


def fetch_letters(genome: Genome, contig: int, start: int, end: int) -> NDArray[np.uint8]:
    """The letters [start, end) of a contig, upper case, with N for those that lie beyond its end."""
    last = min(end, int(genome.lengths[contig]))
    letters = genome.fetch_packed(contig, start, last, threads=1).letters
    return np.pad(letters, (0, end - last), constant_values=_N) if end > last else letters


def reverse_complement(letters: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The other strand, read from its own beginning."""
    return _COMPLEMENT[letters[::-1]]


def mean_of_strands(scores: Sequence[Scores]) -> Scores:
    """The mean of the scores (n, dim) of one strand or two."""
    return np.asarray(np.mean(scores, axis=0, dtype=np.float32))


def known_windows(genome: Genome, piece: Piece, options: WindowOptions) -> NDArray[np.bool_]:
    """Which windows of a piece have few enough unknown bases, (count,)."""
    starts = piece.start + options.stride * np.arange(piece.windows, dtype=np.int64)
    ends = np.minimum(starts + options.window, genome.lengths[piece.contig])
    letters = fetch_letters(genome, piece.contig, piece.start, int(ends[-1]))
    unknown = np.concatenate([[0], np.cumsum(letters == _N)])
    counts = unknown[ends - piece.start] - unknown[starts - piece.start]
    return np.asarray(counts / (ends - starts) <= options.max_n)


class SeparateWindows:
    """Scores in which a window sees itself alone; features roll along."""

    def __init__(self, genome: Genome, scorer: Scorer, options: WindowOptions) -> None:
        self._genome = genome
        self._scorer = scorer
        self._options = options

    def __call__(self, piece: Piece, wanted: NDArray[np.bool_]) -> Scores:
        """See StretchScorer."""
        window, stride = self._options.window, self._options.stride
        end = piece.start + (piece.windows - 1) * stride + window
        letters = fetch_letters(self._genome, piece.contig, piece.start, end)
        scores = []
        if self._options.strand != "reverse":
            scores.append(self._one_strand(letters, wanted))
        if self._options.strand != "forward":
            # The last window of a strand is the first of the other one.
            scores.append(self._one_strand(reverse_complement(letters), wanted[::-1])[::-1])
        return mean_of_strands(scores)

    def _one_strand(self, letters: NDArray[np.uint8], wanted: NDArray[np.bool_]) -> Scores:
        window, stride = self._options.window, self._options.stride
        stretch = letters.tobytes()
        features = self._scorer.window_features(stretch, window, stride)[wanted]
        if self._scorer.model is None:
            return self._scorer.of_inputs(features)
        text = stretch.decode("ascii")
        starts = (np.flatnonzero(wanted) * stride).tolist()
        return self._scorer.scores([text[start : start + window] for start in starts], features)


def piece_scores(
    piece: Piece, genome: Genome, options: WindowOptions, score: StretchScorer
) -> Iterator[PieceScores]:
    """Score the windows of a piece, a part of them at a time; only those that are scored come."""
    at_a_time = max(1, min(_MOST_WINDOWS, _MOST_BASES // max(options.window, options.stride)))
    for first in range(0, piece.windows, at_a_time):
        start = piece.start + first * options.stride
        part = piece._replace(start=start, windows=min(at_a_time, piece.windows - first))
        wanted = known_windows(genome, part, options)
        if wanted.any():
            starts = part.start + options.stride * np.flatnonzero(wanted)
            yield PieceScores(starts, score(part, wanted))
