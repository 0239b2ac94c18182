"""The rows of a genome job: windows with their numbers, in memory and as the table of a shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


class ScoredWindows(NamedTuple):
    """Windows in the order of the genome; coordinates are 0-based, half-open.

    `ends` are those of the contig where a window was filled up beyond it.
    """

    contigs: NDArray[np.int64]  # (n,) places in the genome's names
    starts: NDArray[np.int64]  # (n,)
    ends: NDArray[np.int64]  # (n,)
    spans: NDArray[np.int64]  # (n,) the contig or region that a window was cut from
    values: NDArray[np.float32]  # (n, dim)

    def runs(self) -> Iterator[tuple[int, slice]]:
        """Contigs, in order, each with the rows that lie on it."""
        borders = [0, *(np.flatnonzero(np.diff(self.contigs)) + 1).tolist(), len(self.contigs)]
        for first, last in pairwise(borders):
            if last > first:
                yield int(self.contigs[first]), slice(first, last)

    def chosen(self, rows: NDArray[np.bool_]) -> ScoredWindows:
        """Some of the windows; `rows` (n,) tells which."""
        return ScoredWindows(
            self.contigs[rows], self.starts[rows], self.ends[rows], self.spans[rows], self.values[rows]
        )


def joined(parts: Sequence[ScoredWindows], dim: int) -> ScoredWindows:
    """Parts one behind the other; none gives no rows."""
    if not parts:
        nowhere = np.empty(0, dtype=np.int64)
        return ScoredWindows(nowhere, nowhere, nowhere, nowhere, np.empty((0, dim), dtype=np.float32))
    return ScoredWindows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def to_table(windows: ScoredWindows, names: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """The table of a shard: contig, start, end, span, and a column for each number, or `embedding`."""
    import pyarrow as pa

    contigs = pa.DictionaryArray.from_arrays(pa.array(windows.contigs.astype(np.int32)), pa.array(names))
    arrays = {"contig": contigs, "start": windows.starts, "end": windows.ends, "span": windows.spans}
    if columns:
        arrays |= {name: windows.values[:, place] for place, name in enumerate(columns)}
    else:
        flat = pa.array(windows.values.reshape(-1))
        arrays["embedding"] = pa.FixedSizeListArray.from_arrays(flat, windows.values.shape[1])
    return pa.table(arrays)


def from_table(table: pa.Table, names: Sequence[str], columns: Sequence[str], dim: int) -> ScoredWindows:
    """The rows of a shard's table."""
    found = table["contig"].combine_chunks()
    places = {name: place for place, name in enumerate(names)}
    of_entry = np.array([places[name] for name in found.dictionary.to_pylist()], dtype=np.int64)
    contigs = of_entry[found.indices.to_numpy(zero_copy_only=False)]
    starts, ends, spans = (table[name].to_numpy() for name in ("start", "end", "span"))
    if columns:
        values = np.stack([table[name].to_numpy() for name in columns], axis=1)
    else:
        values = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, dim)
    return ScoredWindows(contigs, starts, ends, spans, values)
