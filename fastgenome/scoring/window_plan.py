"""Which windows of a genome are scored, and how they divide into shards."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastgenome.errors import ArgumentError

Edge = Literal["skip", "pad"]
Strand = Literal["forward", "reverse", "both"]

# A shard is what a killed job repeats at most: some seconds of a small model, minutes of a large one. Small
# jobs have smaller ones, so that several processes can share them; but features alone are computed sooner
# than a small shard is written.
_SHARD_WINDOWS = 1 << 15
_SHARD_BASES = 10_000_000
_SHARDS = 32
_LEAST_OF_FEATURES = 1 << 14
_LEAST_OF_MODEL, _MOST_OF_MODEL = 1 << 8, 1 << 13


@dataclass(frozen=True)
class WindowOptions:
    """How windows lie, and which are scored.

    Windows start at the first base of a contig, or of a region, and then every `stride` bases. With `edge`
    "skip" only windows that end within it count. With "pad" the first that reaches its end is the last: it
    goes on into the contig where a region ends before, and is filled up with N where the contig ends. A
    window is not scored where more than the share `max_n` of its bases is unknown; filling does not count.

    Attributes:
        window: bases in a window.
        stride: bases from one start to the next; above `window`, bases between windows are in none.
        strand: whose letters are scored; "both" gives the mean of both strands' scores.
        edge: "skip" or "pad".
        max_n: 0 to 1.
        context: bases that one pass of the model reads, for all windows in them; None gives each window a
            pass of its own, so that its score depends on its letters alone.

    Raises:
        ArgumentError: a value is out of its range.
    """

    window: int
    stride: int
    strand: Strand = "both"
    edge: Edge = "skip"
    max_n: float = 0.1
    context: int | None = None

    def __post_init__(self) -> None:
        # NumPy's numbers are none to JSON.
        for name in ("window", "stride", "context"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, operator.index(value))
        object.__setattr__(self, "max_n", float(self.max_n))
        if not 1 <= self.window < 2**31 or not 1 <= self.stride < 2**31:
            raise ArgumentError(f"window={self.window}, stride={self.stride}: expected 1 to 2^31 - 1 bases")
        if self.strand not in ("forward", "reverse", "both"):
            raise ArgumentError(f"strand={self.strand!r}: expected 'forward', 'reverse' or 'both'")
        if self.edge not in ("skip", "pad"):
            raise ArgumentError(f"edge={self.edge!r}: expected 'skip' or 'pad'")
        if not 0 <= self.max_n <= 1:
            raise ArgumentError(f"max_n={self.max_n}: expected a share between 0 and 1")
        if self.context is not None and self.context < self.window + self.stride:
            raise ArgumentError(
                f"context={self.context}: expected at least window + stride = {self.window + self.stride}, "
                "so that one pass serves more than one window"
            )

    def count(self, length: int | NDArray[np.int64]) -> NDArray[np.int64]:
        """Windows in a contig or region of so many bases."""
        bases = np.asarray(length, dtype=np.int64)
        whole = np.where(bases >= self.window, (bases - self.window) // self.stride + 1, 0)
        if self.edge == "skip":
            return whole
        reached = (whole > 0) & ((whole - 1) * self.stride + self.window >= bases)
        starts = -(-bases // self.stride)
        return np.where(reached, whole, np.minimum(whole + 1, starts))


class Piece(NamedTuple):
    """Neighbouring windows of a span, the first at `start` of a contig."""

    span: int
    contig: int
    start: int
    windows: int


class WindowPlan:
    """All windows of a job, in order: spans of a contig, `stride` bases from one window to the next.

    Args:
        contigs: (spans,) places in the genome's names.
        starts: (spans,) 0-based first bases.
        lengths: (spans,) bases, of whole contigs or of regions.
        options: how the windows lie.
        with_model: whether a model scores them, not features alone.

    Attributes:
        contigs, starts: as given.
        counts: (spans,) windows.
        windows: of all spans.
        n_shards: shards that they divide into.
    """

    def __init__(
        self,
        contigs: ArrayLike,
        starts: ArrayLike,
        lengths: ArrayLike,
        options: WindowOptions,
        *,
        with_model: bool,
    ) -> None:
        self.options = options
        self.contigs = np.asarray(contigs, dtype=np.int64)
        self.starts = np.asarray(starts, dtype=np.int64)
        self.counts = options.count(np.asarray(lengths, dtype=np.int64))
        self._first = np.concatenate([[0], np.cumsum(self.counts)])
        self.windows = int(self._first[-1])
        wanted = max(_LEAST_OF_MODEL if with_model else _LEAST_OF_FEATURES, -(-self.windows // _SHARDS))
        if with_model:
            wanted = min(wanted, _MOST_OF_MODEL)
        self._per_shard = max(1, min(_SHARD_WINDOWS, _SHARD_BASES // options.window, wanted))
        self.n_shards = -(-self.windows // self._per_shard)

    def pieces(self, shard: int) -> list[Piece]:
        """The windows of a shard, in order."""
        first, last = shard * self._per_shard, min((shard + 1) * self._per_shard, self.windows)
        found = []
        span = int(np.searchsorted(self._first, first, side="right")) - 1
        while first < last:
            stop = min(last, int(self._first[span + 1]))
            if stop > first:
                start = int(self.starts[span]) + (first - int(self._first[span])) * self.options.stride
                found.append(Piece(span, int(self.contigs[span]), start, stop - first))
                first = stop
            span += 1
        return found

    def bases(self, shard: int) -> float:
        """Bases by which a shard moves the job on: those that its windows stand for, each once."""
        windows = min(self._per_shard, self.windows - shard * self._per_shard)
        return float(windows * min(self.options.stride, self.options.window))
