"""Scores of overlapping windows from one pass of the model: each is a range of the tokens of a block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgenome.errors import ArgumentError
from fastgenome.genome import Genome
from fastgenome.models.model import BATCH_TOKENS, Model
from fastgenome.pooling import parse_pooling
from fastgenome.scoring.scorer import Scorer, Scores
from fastgenome.scoring.window_plan import Piece, WindowOptions
from fastgenome.scoring.window_scores import (
    Part,
    features_of,
    fetch_letters,
    mean_of_strands,
    reverse_complement,
    strands_of,
)
from fastgenome.tokenizers import KmerTokenizer, Tokens

# Of a block, this share at either end is only read, so that no window lacks neighbours on one side.
_FLANK = 16


class _Block(NamedTuple):
    """Letters of a block on one strand, and where its windows begin in them."""

    letters: NDArray[np.uint8]
    starts: NDArray[np.int64]  # (windows,)


class _Batch(NamedTuple):
    """Tokens of some blocks, and the rows [start, end) of them that are each window's."""

    tokens: Tokens
    starts: NDArray[np.int64]  # (windows,)
    ends: NDArray[np.int64]


class SharedContext:
    """Scores in which the windows of a block share its token states.

    A block is `context` bases. Its windows lie within its middle part, so that each sees at least a sixteenth
    of the block on both sides, but at the ends of a contig. A window's tokens are those whose middle lies in
    it; its features are its own.

    Raises:
        ArgumentError: there is no model, its pooling is not of ranges (mean or max), or `context` is more
            than it takes at a time.
    """

    def __init__(self, genome: Genome, scorer: Scorer, options: WindowOptions) -> None:
        if scorer.model is None:
            raise ArgumentError("context= needs a model: features are those of a window in any case")
        assert options.context is not None
        self._genome = genome
        self._scorer = scorer
        self._model: Model = scorer.model
        self._options = options
        self._pooling = scorer.predictor.pooling if scorer.predictor is not None else None
        self._layer = scorer.predictor.layer if scorer.predictor is not None else None
        poolings = parse_pooling(self._pooling or self._model.defaults.pooling)
        if not set(poolings) <= {"mean", "max"}:
            raise ArgumentError(
                f"context= pools ranges of tokens by mean or max; not by {'+'.join(poolings)}"
            )
        self._model.check_window(options.context)
        flank = options.context // _FLANK
        room = options.context - 2 * flank - options.window
        self._flank = flank if room >= 0 else 0
        self._per_block = max(
            1, (room if room >= 0 else options.context - options.window) // options.stride + 1
        )
        self._row_places = _RowPlaces(self._model)
        self._projection, self._of_features = _projections(scorer, poolings)

    def prepare(self, parts: Sequence[Part]) -> list[tuple[list[_Batch], NDArray[np.float32]]]:
        """For each strand the tokens of the blocks, batch by batch, and the features of the windows."""
        return [
            (
                self._batches(parts, reverse=reverse),
                np.concatenate(
                    [features_of(part, self._scorer, self._options, reverse=reverse) for part in parts]
                ),
            )
            for reverse in strands_of(self._options)
        ]

    def __call__(self, prepared: list[tuple[list[_Batch], NDArray[np.float32]]]) -> Scores:
        """See WindowScorer."""
        return mean_of_strands([self._one_strand(*strand) for strand in prepared])

    def _one_strand(self, batches: list[_Batch], features: NDArray[np.float32]) -> Scores:
        embedded = np.concatenate(
            [
                self._model.embed_ranges(
                    *batch, pooling=self._pooling, layer=self._layer, projection=self._projection
                )
                for batch in batches
            ]
        )
        if self._of_features is None:
            return self._scorer.of_inputs(np.hstack([embedded, features]))
        weight, bias = self._of_features
        return self._scorer.of_linear(embedded + features @ weight + bias)

    def _batches(self, parts: Sequence[Part], *, reverse: bool) -> list[_Batch]:
        """The blocks of some parts, so many in a batch as the model takes at a time."""
        assert self._options.context is not None
        together = max(1, BATCH_TOKENS * self._model.encoder.stride // self._options.context)
        blocks = [
            block
            for part in parts
            for first in range(0, part.piece.windows, self._per_block)
            if len((block := self._block(part.piece, part.wanted, first, reverse=reverse)).starts)
        ]
        return [self._batch(blocks[first : first + together]) for first in range(0, len(blocks), together)]

    def _block(self, piece: Piece, wanted: NDArray[np.bool_], first: int, *, reverse: bool) -> _Block:
        """The block of the windows [first, first + per_block) of a piece."""
        options = self._options
        stop = min(first + self._per_block, piece.windows)
        places = piece.start + options.stride * (first + np.flatnonzero(wanted[first:stop]))
        if not len(places):
            return _Block(np.empty(0, np.uint8), places)
        begin = max(0, piece.start + first * options.stride - self._flank)
        behind = piece.start + (stop - 1) * options.stride + options.window
        contig_end = int(self._genome.lengths[piece.contig])
        # Filling stands only for the bases that a window lacks.
        end = max(behind, min(behind + self._flank, contig_end))
        letters = fetch_letters(self._genome, piece.contig, begin, end)
        if reverse:
            return _Block(reverse_complement(letters), end - places - options.window)
        return _Block(letters, places - begin)

    def _batch(self, blocks: list[_Block]) -> _Batch:
        """The tokens of some blocks, and which rows of them are a window's."""
        model, window = self._model, self._options.window
        tokens = model.tokenizer([block.letters.tobytes() for block in blocks])
        rows = -(-tokens.lengths // model.encoder.stride)
        first_rows = np.concatenate([[0], np.cumsum(rows)])
        starts, ends = [], []
        for index, block in enumerate(blocks):
            middles, row_ends = self._row_places(tokens, index, len(block.letters))
            begin = np.searchsorted(middles, block.starts)
            end = np.searchsorted(middles, block.starts + window)
            # A window shorter than a row may have no middle in it: it takes the row that has the window's.
            own = np.searchsorted(row_ends, block.starts + window / 2, side="right")
            begin = np.where(begin < end, begin, np.minimum(own, len(middles) - 1))
            offset = first_rows[index] + model.tokenizer.prefix_length
            starts.append(begin + offset)
            ends.append(np.maximum(end, begin + 1) + offset)
        return _Batch(tokens, np.concatenate(starts), np.concatenate(ends))


def _projections(
    scorer: Scorer, poolings: tuple[str, ...]
) -> tuple[NDArray[np.float32] | None, tuple[NDArray[np.float64], NDArray[np.float64]] | None]:
    """A linear head before the pooling: its part for the embedding, and that for features, with the bias.

    A mean of tokens and a linear map may change places, so that windows pool the head's few numbers instead
    of whole hidden states. None where the head is not linear or the pooling not the mean.
    """
    head = scorer.linear_head
    if head is None or poolings != ("mean",):
        return None, None
    weight, bias = head.unstandardised()
    assert scorer.predictor is not None
    features = scorer.predictor.feature_matrix([""]).shape[1]
    width = weight.shape[1] - features
    of_embedding = np.ascontiguousarray(weight[:, :width].T, dtype=np.float32)
    return of_embedding, (np.ascontiguousarray(weight[:, width:].T), bias)


class _RowPlaces:
    """Middles and ends of a sequence's rows, special tokens left out, in bases from its beginning."""

    def __init__(self, model: Model) -> None:
        self._model = model
        # One for what is not spelled in bases: each unknown base is a token.
        self._lengths = np.ones(model.tokenizer.vocabulary_size, dtype=np.int64)
        for token, number in model.tokenizer.vocabulary.items():
            if set(token) <= set("ACGTN"):
                self._lengths[number] = len(token)

    def __call__(
        self, tokens: Tokens, index: int, bases: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        starts, ends = self._tokens(tokens, index, bases)
        middles, joined = (starts + ends) / 2, self._model.encoder.stride
        first = np.arange(0, len(middles), joined)
        last = np.minimum(first + joined, len(middles)) - 1
        return np.asarray((middles[first] + middles[last]) / 2), ends[last]

    def _tokens(self, tokens: Tokens, index: int, bases: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First bases of the tokens, and those behind their last."""
        tokenizer = self._model.tokenizer
        first = int(tokens.offsets[index]) + tokenizer.prefix_length
        last = int(tokens.offsets[index + 1]) - tokenizer.suffix_length
        if isinstance(tokenizer, KmerTokenizer):
            starts = tokenizer.stride * np.arange(last - first)
            return starts, starts + tokenizer.k
        lengths = self._lengths[tokens.ids[first:last]]
        ends = np.cumsum(lengths)
        if ends[-1] != bases:
            raise ArgumentError(
                f"context= cannot tell which bases the tokens of model {self._model.name!r} stand for: "
                f"{len(lengths)} tokens spell {ends[-1]} of {bases} bases; score without it"
            )
        return ends - lengths, ends
