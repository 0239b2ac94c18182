"""Token-budget batches of similar length, and the packed ids of one batch."""

import numpy as np
from numpy.typing import NDArray

from fastgenome.errors import ArgumentError


def token_budget_batches(lengths: NDArray[np.int64], budget: int) -> list[NDArray[np.int64]]:
    """Divide sequences into batches of similar length with at most `budget` tokens each.

    `lengths` is (n,). Returns index arrays that together hold 0 … n - 1 once each, the longest sequences
    first (the highest memory use comes at once) and equal lengths in their given order. A sequence longer
    than the budget is a batch of its own. Raises ArgumentError for a budget below 1.
    """
    if budget < 1:
        raise ArgumentError(f"the token budget must be at least 1, got {budget}")
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    reach = np.cumsum(lengths[order])
    batches = []
    start = 0
    while start < len(order):
        used = reach[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(reach, used + budget, side="right")))
        batches.append(order[start:stop])
        start = stop
    return batches


def take_sequences(
    ids: NDArray[np.int32], offsets: NDArray[np.int64], indices: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Pack the chosen sequences, in the given order: their ids and (len(indices) + 1,) offsets."""
    chosen = np.zeros(len(indices) + 1, dtype=np.int64)
    np.cumsum(offsets[indices + 1] - offsets[indices], out=chosen[1:])
    pieces = [ids[offsets[i] : offsets[i + 1]] for i in indices]
    return (np.concatenate(pieces) if pieces else ids[:0]), chosen
