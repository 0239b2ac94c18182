"""Packed rows: many texts or id sequences one behind the other, with the offsets of their beginnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Rows(NamedTuple):
    """Row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def row(self, i: int) -> NDArray[np.int64]:
        """One row."""
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def row_of_value(self) -> NDArray[np.int64]:
        """The row of each value."""
        return np.repeat(np.arange(self.offsets.size - 1), np.diff(self.offsets))

    def keep(self, mask: NDArray[np.bool_]) -> Rows:
        """The rows without the values where `mask` is False."""
        before = np.concatenate([[0], np.cumsum(mask)])
        return Rows(self.values[mask], before[self.offsets])

    def surrounded(self, prefix: Sequence[int], suffix: Sequence[int]) -> Rows:
        """Each row between a prefix and a suffix."""
        count = self.offsets.size - 1
        added = len(prefix) + len(suffix)
        offsets = self.offsets + added * np.arange(count + 1)
        values = np.empty(offsets[-1], np.int64)
        inner = np.ones(values.size, bool)
        for place, number in enumerate(prefix):
            values[offsets[:-1] + place] = number
            inner[offsets[:-1] + place] = False
        for place, number in enumerate(reversed(suffix)):
            values[offsets[1:] - 1 - place] = number
            inner[offsets[1:] - 1 - place] = False
        values[inner] = self.values
        return Rows(values, offsets)


def code_points(texts: Sequence[str]) -> Rows:
    """The characters of texts as numbers; those beyond Latin-1 are 256, or 32 where they are white space."""
    values = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    if values.size and values.max() > 255:
        beyond = values > 255
        kinds, places = np.unique(values[beyond], return_inverse=True)
        values[beyond] = np.array([32 if chr(point).isspace() else 256 for point in kinds])[places]
    return Rows(values, offsets_of(len(text) for text in texts))


def from_lists(lists: Sequence[Sequence[int]]) -> Rows:
    """Rows from one list each."""
    offsets = offsets_of(map(len, lists))
    values = np.fromiter((value for row in lists for value in row), np.int64, int(offsets[-1]))
    return Rows(values, offsets)


def offsets_of(lengths) -> NDArray[np.int64]:
    """Offsets of rows of these lengths."""
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, np.int64))]).astype(np.int64)
