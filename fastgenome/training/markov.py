"""A k-mer Markov model of DNA: the baseline that a language model's perplexity stands beside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastgenome.training.corpus import Corpus, Mask, base_codes, known_bases, reverse_complement

# Bases counted at a time.
_CHUNK = 1 << 23


class MarkovModel:
    """P(base | the ``order`` bases before it), from counts on both strands.

    Orders are interpolated: the estimate of order k shrinks towards that of order k - 1 with
    ``strength`` pseudo-counts (a Dirichlet prior), down to the base composition.
    """

    def __init__(self, corpus: Corpus, order: int, *, strength: float = 20.0) -> None:
        self.order = order
        self._probability = np.full((1, 4), 0.25)
        counts = np.zeros((4**order, 4), dtype=np.int64)
        # N between the blocks keeps contexts from reaching across them.
        joined = np.insert(corpus.bases, corpus.offsets[1:-1], ord("N"))
        for strand in (joined, reverse_complement(joined)):
            for start in range(0, len(strand), _CHUNK):
                contexts, bases, valid = _contexts(strand[max(0, start - order) : start + _CHUNK], order)
                flat = contexts[valid] * 4 + bases[valid]
                counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)
        for k in range(order + 1):
            # The last k bases are the low 2k bits of a context, so summing over the rest gives order k.
            seen = counts.reshape(-1, 4**k, 4).sum(axis=0)
            prior = np.tile(self._probability, (len(seen) // len(self._probability), 1))
            total = seen.sum(axis=1, keepdims=True)
            self._probability = (seen + strength * prior) / (total + strength)

    def log_probability(self, bases: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Natural log P of each ASCII base given the bases before it, (length,); NaN where undefined.

        Undefined are the first ``order`` positions, bases that are not A, C, G or T, and bases
        with such a one in their context.
        """
        contexts, codes, valid = _contexts(bases, self.order)
        result = np.full(len(bases), np.nan)
        result[valid] = np.log(self._probability[contexts[valid], codes[valid]])
        return result


def _contexts(bases: NDArray[np.uint8], order: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Mask]:
    """Context code, base code and validity of every position."""
    codes = np.maximum(base_codes(bases), 0).astype(np.int64)
    contexts = np.zeros(len(codes), dtype=np.int64)
    for back in range(order, 0, -1):
        contexts[back:] = contexts[back:] * 4 + codes[: len(codes) - back]
    return contexts, codes, known_bases(bases, order)
