"""Windows: coverage of every base, the short last window, and refusals."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgenome.errors import ArgumentError
from fastgenome.regions import Window, count_windows, windowed, windows
from fastgenome.sequences import SequenceRecord, read_sequences


@pytest.mark.parametrize(
    ("length", "window", "stride", "expected"),
    [
        (0, 10, 5, []),
        (1, 10, 5, [(0, 1)]),
        (9, 10, 5, [(0, 9)]),
        (10, 10, 5, [(0, 10)]),
        (11, 10, 5, [(0, 10), (5, 11)]),
        (15, 10, 5, [(0, 10), (5, 15)]),
        (16, 10, 5, [(0, 10), (5, 15), (10, 16)]),
        (20, 10, 10, [(0, 10), (10, 20)]),
        (21, 10, 10, [(0, 10), (10, 20), (20, 21)]),
        (3, 1, 1, [(0, 1), (1, 2), (2, 3)]),
        (7, 3, 2, [(0, 3), (2, 5), (4, 7)]),
        (8, 3, 2, [(0, 3), (2, 5), (4, 7), (6, 8)]),
    ],
)
def test_windows_known_cases(length: int, window: int, stride: int, expected: list[tuple[int, int]]) -> None:
    assert windows(length, window, stride) == expected


@settings(deadline=None)
@given(length=st.integers(0, 300), window=st.integers(1, 40), data=st.data())
def test_windows_cover_every_base_and_none_is_redundant(
    length: int, window: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, window))
    found = windows(length, window, stride)
    assert {base for start, end in found for base in range(start, end)} == set(range(length))
    assert [start for start, _ in found] == [index * stride for index in range(len(found))]
    assert all(end - start == window for start, end in found[:-1])
    for (_, before), (_, end) in pairwise(found):
        assert end > before
    assert count_windows(length, window, stride) == len(found)


@pytest.mark.parametrize(
    ("window", "stride", "message"),
    [(0, 1, "window is 0"), (-1, 1, "window is -1"), (5, 0, "stride is 0"), (5, 6, "uncovered")],
)
def test_windows_refuse_bad_arguments(window: int, stride: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        windows(10, window, stride)
    with pytest.raises(ArgumentError, match=message):
        count_windows(10, window, stride)
    with pytest.raises(ArgumentError, match=message):
        windowed([], window, stride)


def test_windows_refuse_negative_length() -> None:
    with pytest.raises(ArgumentError, match="length is -1"):
        windows(-1, 5, 5)


def test_windowed_gives_the_slices_of_each_record() -> None:
    records = [SequenceRecord("a", "ACGTACG"), SequenceRecord("b", ""), SequenceRecord("c", "TT", ("1",))]
    assert list(windowed(records, 4, 2)) == [
        Window("a", 0, 4, "ACGT"),
        Window("a", 2, 6, "GTAC"),
        Window("a", 4, 7, "ACG"),
        Window("c", 0, 2, "TT"),
    ]


def test_windowed_is_lazy_and_does_not_copy_a_record_of_one_window() -> None:
    sequence = "ACGT" * 50
    first = next(windowed(iter([SequenceRecord("a", sequence)]), 200, 100))
    assert first.sequence is sequence


def test_windowed_yeast_genome_covers_every_base(data_dir: Path) -> None:
    genome = data_dir / "yeast_genome" / "Saccharomyces_cerevisiae.R64-1-1.dna.toplevel.fa.gz"
    lengths: dict[str, int] = {}
    for window in windowed(read_sequences(genome), 1000, 1000):
        assert window.end - window.start == len(window.sequence)
        assert window.start == lengths.get(window.id, 0)
        lengths[window.id] = window.end
    assert len(lengths) == 17
    assert sum(lengths.values()) == 12_157_105
