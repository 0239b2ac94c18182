"""The order in which training sees its data: a function of seed and epoch alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgenome.batching import token_budget_batches
from fastgenome.tokenizers import Tokens

# Batches whose sequences are sorted by length together.
_POOL = 16


class TuningData(NamedTuple):
    """Labelled sequences as the training loop takes them; n of them."""

    tokens: Tokens
    rows: NDArray[np.int64]  # (n,) rows of hidden states of each
    bases: NDArray[np.int64]  # (n,)
    features: NDArray[np.float32]  # (n, k), k = 0 where there are none
    targets: NDArray[Any]  # see Task.encode


def epoch_batches(
    lengths: NDArray[np.int64], *, batch_size: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Divide sequences into batches of `batch_size` in the random order of one epoch, the last one smaller.

    `lengths` is (n,). Sequences of similar length share a batch, within pools of a few batches: products over
    runs of equal length are faster. Returns index arrays that together hold 0 … n - 1 once each.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), _POOL * batch_size):
        pool = order[start : start + _POOL * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
    return [batches[index] for index in rng.permutation(len(batches))]


def parts_of_batch(
    lengths: NDArray[np.int64], batch: NDArray[np.int64], budget: int
) -> list[NDArray[np.int64]]:
    """Divide one batch into parts of at most `budget` rows (or one sequence) each."""
    return [batch[part] for part in token_budget_batches(lengths[batch], budget)]


def shares_of_batch(
    lengths: NDArray[np.int64], batch: NDArray[np.int64], budget: int, processes: int
) -> list[list[NDArray[np.int64]]]:
    """The parts of one batch that each process computes, equally many: empty ones make up the number."""
    shares = [parts_of_batch(lengths, batch[rank::processes], budget) for rank in range(processes)]
    most = max(map(len, shares))
    return [share + [batch[:0]] * (most - len(share)) for share in shares]


def held_out_split(
    sequences: list[str], labels: NDArray[np.int64] | None, *, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the training and of the held-out sequences, each in rising order.

    Equal sequences stay on one side. With classes (n,) as `labels` the share is taken of each class. Every
    class, and every value of each column of `labels` (n, columns), is trained on; of a regression, without
    `labels`, at least two distinct sequences are held out where there are three.
    """
    _, first, group = np.unique(np.array(sequences, dtype=object), return_index=True, return_inverse=True)
    least = 2 if labels is None else 1
    strata = labels[first] if labels is not None and labels.ndim == 1 else np.zeros(len(first), np.int64)
    rng = np.random.default_rng([seed, 2**31])
    chosen = np.zeros(len(first), dtype=bool)
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        chosen[members[: min(len(members) - 1, max(least, round(share * len(members))))]] = True
    group = group.reshape(-1)
    for column in () if labels is None else labels.reshape(len(sequences), -1).T:
        for value in np.unique(column):
            # Rare labels, and copies of a sequence that have another class than its first one.
            if chosen[group[column == value]].all():
                chosen[group[np.argmax(column == value)]] = False
    held = chosen[group]
    return np.flatnonzero(~held), np.flatnonzero(held)
