"""Windows over long sequences: where they lie, and records cut into them; regions from texts."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fastgenome.errors import ArgumentError
from fastgenome.sequences import SequenceRecord


class Window(NamedTuple):
    """A stretch of a record; `start` and `end` are 0-based, half-open, in bases of the cleaned sequence."""

    id: str
    start: int
    end: int
    sequence: str


class Region(NamedTuple):
    """A stretch of a contig; `start` and `end` are 0-based, half-open."""

    contig: str
    start: int
    end: int

    def __str__(self) -> str:
        """As it is read by `parse_region`: the first and the last base, counted from 1."""
        return f"{self.contig}:{self.start + 1:,}-{self.end:,}"


def parse_region(text: str) -> Region:
    """Read a region such as "chr1:1,000-2,000", whose bases count from 1 and which holds its last one.

    The last colon parts the contig from the bases, so that names of contigs may hold others.

    Raises:
        ArgumentError: the text is no region, or one without bases.
    """
    match = re.fullmatch(r"(.+):([0-9,]+)-([0-9,]+)", text.strip())
    digits = [part.replace(",", "") for part in match.groups()[1:]] if match else []
    if match is None or not all(digits) or not 1 <= int(digits[0]) <= int(digits[1]) < 2**63:
        raise ArgumentError(
            f"region {text!r}: expected contig:start-end with 1 <= start <= end, such as chr1:1000-2000; "
            "bases count from 1, the end is in the region"
        )
    return Region(match[1], int(digits[0]) - 1, int(digits[1]))


def windows(length: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Return the windows that cover a sequence of `length` bases.

    Windows start at 0, `stride`, 2 · `stride` … The first that reaches the end is the last: it is cut at the
    end, so it may be shorter than `window`, every base is covered and no window lies inside the one before.

    Args:
        length: bases in the sequence; 0 gives no window.
        window: bases in a full window, at least 1.
        stride: bases from one start to the next, between 1 and `window`.

    Returns:
        (start, end) pairs, 0-based and half-open.

    Raises:
        ArgumentError: a value is out of its range.
    """
    _check_windows(window, stride)
    if length < 0:
        raise ArgumentError(f"length is {length}; a sequence has 0 or more bases")
    return list(_spans(length, window, stride))


def count_windows(length: int, window: int, stride: int) -> int:
    """Return how many windows `windows` gives, without making them."""
    _check_windows(window, stride)
    if length <= 0:
        return 0
    return 1 + -(-max(0, length - window) // stride)


def windowed(records: Iterable[SequenceRecord], window: int, stride: int) -> Iterator[Window]:
    """Cut records into windows, one after the other.

    Only the window that is handed out is copied; a record that fits into one window is not copied at all.

    Args:
        records: cleaned records; their labels do not pass through.
        window: bases in a full window, at least 1.
        stride: bases from one start to the next, between 1 and `window`.

    Yields:
        Windows in the order of the records and, within a record, of their starts (see `windows`).

    Raises:
        ArgumentError: `window` or `stride` is out of its range (at the call, before any record is read).
    """
    _check_windows(window, stride)
    return (
        Window(record.id, start, end, record.sequence[start:end])
        for record in records
        for start, end in _spans(len(record.sequence), window, stride)
    )


def _spans(length: int, window: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) pairs of `windows` lazily: a chromosome has millions."""
    for index in range(count_windows(length, window, stride)):
        start = index * stride
        yield start, min(start + window, length)


def _check_windows(window: int, stride: int) -> None:
    """Refuse windows that are empty, stand still or leave bases uncovered."""
    if window < 1:
        raise ArgumentError(f"window is {window}; it must be at least 1 base")
    if not 1 <= stride <= window:
        raise ArgumentError(
            f"stride is {stride} with window {window}; it must lie between 1 and the window, "
            "because a larger stride would leave bases uncovered"
        )
