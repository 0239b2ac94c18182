"""Token-budget batches lose no sequence and stay within the budget."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgenome.batching import take_sequences, token_budget_batches
from fastgenome.errors import ArgumentError


@given(st.lists(st.integers(0, 60), max_size=80), st.integers(1, 100))
def test_token_budget_batches_hold_every_sequence_once_within_the_budget(
    sizes: list[int], budget: int
) -> None:
    lengths = np.array(sizes, dtype=np.int64)
    batches = token_budget_batches(lengths, budget)
    held = np.concatenate([*batches, np.array([], dtype=np.int64)])
    assert sorted(held.tolist()) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or lengths[batch].sum() <= budget
    ordered = lengths[held]
    assert (ordered[:-1] >= ordered[1:]).all()


def test_token_budget_batches_fill_batches_and_keep_the_order_of_equals() -> None:
    batches = token_budget_batches(np.array([3, 9, 3, 3, 3, 20]), 9)
    assert [batch.tolist() for batch in batches] == [[5], [1], [0, 2, 3], [4]]


def test_token_budget_batches_refuse_a_budget_of_nothing() -> None:
    with pytest.raises(ArgumentError, match="at least 1, got 0"):
        token_budget_batches(np.array([1]), 0)


def test_take_sequences_packs_the_chosen_in_their_order() -> None:
    ids = np.arange(10, dtype=np.int32)
    offsets = np.array([0, 4, 4, 7, 10])
    chosen, bounds = take_sequences(ids, offsets, np.array([3, 1, 0]))
    assert chosen.tolist() == [7, 8, 9, 0, 1, 2, 3]
    assert bounds.tolist() == [0, 3, 3, 7]
    nothing, bounds = take_sequences(ids, offsets, np.array([], dtype=np.int64))
    assert nothing.dtype == np.int32
    assert nothing.tolist() == []
    assert bounds.tolist() == [0]
