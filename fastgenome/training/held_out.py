"""Held-out figures: the network and Markov models are asked for the same hidden bases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgenome.training.corpus import Bases, Corpus, Mask, hide_bases, known_bases, sample_crops
from fastgenome.training.markov import MarkovModel
from fastgenome.training.masked_language import masked_nats

if TYPE_CHECKING:
    from fastgenome.models.model import Model

# Orders of the Markov models that stand beside the network.
ORDERS = (3, 5, 8, 10)
_STREAM = 2**31


class HiddenBases(NamedTuple):
    """Crops, which of their bases are hidden, and which of those are scored.

    A hidden base is scored where all bases that the highest Markov order looks back on are known, so that
    the network and every order are scored on the same bases.
    """

    crops: list[Bases]
    hidden: list[Mask]
    scored: list[Mask]

    @property
    def n_scored(self) -> int:
        """Bases that are scored."""
        return sum(int(mask.sum()) for mask in self.scored)


def sample_hidden_bases(
    corpus: Corpus, *, bases: int, length: int, rate: float, span: int, seed: int
) -> HiddenBases:
    """Draw crops and hide bases of them: the same at every call, more of them when more bases are asked for.

    Args:
        corpus: to draw from; an empty one gives no crops.
        bases: the crops' total.
        length: bases of a crop.
        rate, span: share of the bases that is hidden, in spans of this many.
        seed: of the crops and what is hidden.
    """
    rng = np.random.default_rng([seed, _STREAM])
    crops = sample_crops(corpus, rng, bases=bases, length=length) if len(corpus.bases) else []
    hidden = hide_bases(crops, rng, rate=rate, span=span)
    scored = [mask & known_bases(crop, max(ORDERS)) for crop, mask in zip(crops, hidden, strict=True)]
    return HiddenBases(crops, hidden, scored)


def nats_per_base(
    model: Model, markov: Sequence[MarkovModel], sample: HiddenBases, *, batch_bases: int
) -> NDArray[np.float64]:
    """Mean cross-entropy of the scored bases under the network and under each Markov model, nats, (1 + n,).

    The network sees the crop without its hidden bases; a Markov model sees every base before the scored one,
    hidden ones too. InputError where no base is scored.
    """
    nats = [masked_nats(model, sample, batch_bases=batch_bases)]
    for baseline in markov:
        scores = [
            baseline.log_probability(crop)[mask]
            for crop, mask in zip(sample.crops, sample.scored, strict=True)
        ]
        nats.append(-float(np.concatenate(scores).mean()))
    return np.array(nats)


def perplexities(nats: NDArray[np.float64] | None) -> tuple[float | None, dict[int, float]]:
    """exp of what nats_per_base gave: the network's, and the Markov models' by order; nothing for None."""
    if nats is None:
        return None, {}
    network, *markov = nats.tolist()
    return math.exp(network), {order: math.exp(value) for order, value in zip(ORDERS, markov, strict=True)}


def pooled(nats: Sequence[NDArray[np.float64] | None], weights: Sequence[int]) -> NDArray[np.float64] | None:
    """Mean over sources by weight; sources without figures are left out, None where there are none."""
    known = [(row, weight) for row, weight in zip(nats, weights, strict=True) if row is not None]
    if not known:
        return None
    rows, sizes = zip(*known, strict=True)
    mean: NDArray[np.float64] = np.average(np.stack(rows), axis=0, weights=sizes)
    return mean
