"""Pooling of ranges against NumPy."""

import numpy as np
import pytest
import torch

from fastgenome.errors import ArgumentError
from fastgenome.pooling import parse_pooling, pool

STATES = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
STARTS, ENDS = torch.tensor([1, 6, 3]), torch.tensor([5, 19, 12])


@pytest.mark.parametrize(
    ("given", "expected"),
    [("mean", ("mean",)), ("mean+max", ("mean", "max")), (["last", "cls"], ("last", "cls"))],
    ids=str,
)
def test_parse_pooling_accepts_names_and_combinations(given: str, expected: tuple[str, ...]) -> None:
    assert parse_pooling(given) == expected


@pytest.mark.parametrize("given", ["median", "mean+", "", []], ids=str)
def test_parse_pooling_refuses_unknown_names(given: str) -> None:
    with pytest.raises(ArgumentError, match="pooling must be one or more of mean, max, cls, last"):
        parse_pooling(given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_pool_joins_poolings_of_overlapping_ranges(dtype: torch.dtype) -> None:
    states = STATES.to(dtype)
    rows = states.float().numpy()
    found = pool(states, STARTS, ENDS, ("mean", "last", "max", "cls"), first=STARTS - 1)
    assert found.dtype == torch.float32
    for index, (a, b) in enumerate(zip(STARTS.tolist(), ENDS.tolist(), strict=True)):
        parts = [rows[a:b].mean(0), rows[b - 1], rows[a:b].max(0), rows[a - 1]]
        np.testing.assert_allclose(found[index].numpy(), np.concatenate(parts), rtol=0, atol=1e-6)


def test_pool_takes_the_first_row_of_the_range_as_cls_by_default() -> None:
    torch.testing.assert_close(pool(STATES, STARTS, ENDS, ("cls",)), STATES[STARTS])


def test_pool_refuses_an_empty_range() -> None:
    with pytest.raises(ArgumentError, match="range 1 is empty"):
        pool(STATES, STARTS, torch.tensor([5, 6, 12]), ("mean",))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_pool_weighs_rows_by_their_attention(dtype: torch.dtype) -> None:
    states, attention = STATES.to(dtype), torch.rand(20, generator=torch.Generator().manual_seed(1))
    found = pool(states, STARTS, ENDS, ("attention", "mean"), attention=attention)
    for index, (a, b) in enumerate(zip(STARTS.tolist(), ENDS.tolist(), strict=True)):
        rows, weights = states[a:b].double().numpy(), attention[a:b].double().numpy()
        expected = np.concatenate([np.average(rows, axis=0, weights=weights), rows.mean(0)])
        np.testing.assert_allclose(found[index].numpy(), expected, rtol=0, atol=1e-6)


def test_pool_by_attention_refuses_states_without_it() -> None:
    with pytest.raises(ArgumentError, match="needs a model with attention"):
        pool(STATES, STARTS, ENDS, ("attention",))
