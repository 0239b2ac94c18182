"""The division of the tuning benchmarks' data: near-copies never stand on two sides."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
LENGTH = 7


@pytest.fixture
def tuning_data(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("tuning_data")


def pieces(sequence: str) -> set[str]:
    return {sequence[i : i + LENGTH] for i in range(len(sequence) - LENGTH + 1)}


def random_sequences(count: int) -> list[str]:
    """Sequences of 3 to 40 bases, many of which begin or end as others do."""
    rng = np.random.default_rng(0)
    made: list[str] = []
    for _ in range(count):
        fresh = "".join(rng.choice(list("ACGT"), rng.integers(3, 30)))
        joined = str(rng.choice(made)) if made and rng.random() < 0.5 else ""
        made.append(joined[-int(rng.integers(1, 20)) :] + fresh)
    return made


def reached(sequences: list[str], start: int) -> frozenset[int]:
    """All that is linked to one sequence by shared pieces, one link after the other."""
    found = {start}
    ahead = [start]
    while ahead:
        here = pieces(sequences[ahead.pop()])
        new = [i for i, other in enumerate(sequences) if i not in found and here & pieces(other)]
        found.update(new)
        ahead += new
    return frozenset(found)


def test_groups_are_what_shared_pieces_link(tuning_data: Any) -> None:
    sequences = random_sequences(120)
    groups = tuning_data.linked_groups(sequences, LENGTH)
    expected = {reached(sequences, i) for i in range(len(sequences))}
    assert {frozenset(np.flatnonzero(groups == group).tolist()) for group in groups} == expected
    # Some are linked through others alone, and some stand alone.
    assert any(
        len(group) > 2 and any(not pieces(sequences[i]) & pieces(sequences[j]) for i in group for j in group)
        for group in expected
    )
    assert min(map(len, expected)) == 1


def test_groups_of_sequences_that_are_too_short(tuning_data: Any) -> None:
    assert sorted(tuning_data.linked_groups(["ACG", "ACG", "T"], LENGTH)) == [0, 1, 2]


def test_division_keeps_groups_together_and_fills_the_shares(tuning_data: Any) -> None:
    groups = np.random.default_rng(1).integers(60, size=400) ** 2
    groups[:150] = 5000
    parts = tuning_data.divide(groups, shares=(0.1, 0.2), seed=0)
    train, validation, test = parts
    assert sorted(np.concatenate(parts)) == list(range(400))
    assert not set(groups[train]) & set(groups[validation])
    assert not set(groups[train]) & set(groups[test])
    assert not set(groups[validation]) & set(groups[test])
    assert 35 <= len(validation) <= 40
    assert 75 <= len(test) <= 80
    assert not np.array_equal(test, tuning_data.divide(groups, shares=(0.1, 0.2), seed=1)[2])
