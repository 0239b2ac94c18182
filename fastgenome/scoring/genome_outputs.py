"""The files of a genome job, each by its ending: tables, tracks, BED, Zarr; or a row for each region."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgenome.atomic import check_output_file, check_output_folder
from fastgenome.errors import ArgumentError, MissingExtraError
from fastgenome.genome import Genome
from fastgenome.scoring.embedding_store import ZARR_MARKER, open_zarr
from fastgenome.scoring.scored_windows import ScoredWindows
from fastgenome.scoring.tracks import (
    BED_ENDINGS,
    TRACK_ENDINGS,
    is_bed,
    is_track,
    open_bed,
    open_tracks,
    track_paths,
)
from fastgenome.scoring.window_plan import WindowOptions
from fastgenome.scoring.writers import ENDINGS, Column, open_writer, takes_matrix_only

Write = Callable[[ScoredWindows], None]
Aggregate = Literal["mean", "max"]

_TABLE_ENDINGS = tuple(ending for ending in ENDINGS if not takes_matrix_only(ending))


@dataclass(frozen=True)
class OutputRows:
    """What the outputs of a job have in common.

    Attributes:
        genome: that was scored.
        options: how the windows lie.
        columns: names of the numbers, () for an embedding of width `dim`.
        dim: numbers of a window.
        names: of each span, where spans are regions.
    """

    genome: Genome
    options: WindowOptions
    columns: tuple[str, ...]
    dim: int
    names: tuple[str, ...] | None

    def place(
        self, contigs: NDArray[np.int64], spans: NDArray[np.int64]
    ) -> tuple[list[str], dict[str, Column]]:
        """The contigs' names, and the column of the regions' names where there are any."""
        contig_names = self.genome.names
        regions: dict[str, Column] = (
            {} if self.names is None else {"name": [self.names[span] for span in spans.tolist()]}
        )
        return [contig_names[contig] for contig in contigs.tolist()], regions

    def numbers(self, values: NDArray[np.float32], suffix: str = "") -> dict[str, Column]:
        """The columns of the numbers."""
        if not self.columns:
            return {f"embedding{suffix}": values}
        return {f"{name}{suffix}": values[:, place] for place, name in enumerate(self.columns)}


def check_output(path: Path, columns: Sequence[str], *, aggregated: bool) -> list[Path]:
    """Check, before any work, that a file can be written; return the files that stand there in the end.

    Raises:
        ArgumentError: the ending is not known, or the numbers do not fit into it; the folder cannot be
            written to.
        MissingExtraError: a library is missing.
    """
    files = _files_of(path, columns, aggregated=aggregated)
    if _ends(path, (".zarr",)):
        check_output_folder(path, marker=ZARR_MARKER)
    else:
        for file in files:
            check_output_file(file)
    return files


def _files_of(path: Path, columns: Sequence[str], *, aggregated: bool) -> list[Path]:
    """The files that an output stands for, where its ending takes such numbers."""
    if _ends(path, _TABLE_ENDINGS):
        return [path]
    if aggregated:
        raise ArgumentError(
            f"{str(path)!r}: a row for each region goes to a table, {', '.join(_TABLE_ENDINGS)}"
        )
    if _ends(path, (".zarr",)):
        _require("zarr", "zarr")
        return [path]
    if not (is_track(path) or is_bed(path)):
        known = ", ".join((*_TABLE_ENDINGS, *TRACK_ENDINGS, *BED_ENDINGS, ".zarr"))
        raise ArgumentError(f"the ending of {str(path)!r} is not known; use one of {known}")
    if not columns:
        raise ArgumentError(
            f"{str(path)!r}: an embedding is no track; use .zarr, .parquet, or a predictor trained on it"
        )
    if path.name.lower().endswith((".bw", ".bigwig")):
        _require("pyBigWig", "bigwig")
    return track_paths(path, columns) if is_track(path) else [path]


def open_output(path: Path, rows: OutputRows, *, total: int) -> AbstractContextManager[Write]:
    """Open a file, checked before, for `total` rows; it appears when the block ends well."""
    if is_track(path):
        return open_tracks(path, rows.genome, rows.options, rows.columns)
    if is_bed(path):
        return open_bed(path, rows.genome, rows.columns)
    if _ends(path, (".zarr",)):
        return open_zarr(path, rows.genome, rows=total, dim=rows.dim)
    return _open_table(path, rows)


@contextmanager
def _open_table(path: Path, rows: OutputRows) -> Iterator[Write]:
    """One row for each window: contig, start, end, (name,) numbers."""
    with open_writer(path) as table:

        def write(windows: ScoredWindows) -> None:
            contigs, names = rows.place(windows.contigs, windows.spans)
            places: dict[str, Column] = {"contig": contigs, "start": windows.starts, "end": windows.ends}
            table.write({**places, **names, **rows.numbers(windows.values)})

        yield write


class RegionFigures(NamedTuple):
    """Of some spans: scored windows, and the sum and greatest of their numbers."""

    spans: NDArray[np.int64]  # (n,)
    windows: NDArray[np.int64]
    sums: NDArray[np.float64]  # (n, dim)
    greatest: NDArray[np.float32]

    def of(self, aggregate: Aggregate) -> NDArray[np.float32]:
        """The figures of each span, (n, dim)."""
        if aggregate == "max":
            return self.greatest
        return (self.sums / self.windows[:, None]).astype(np.float32)

    def part(self, rows: slice) -> RegionFigures:
        """Some of the spans."""
        return RegionFigures(self.spans[rows], self.windows[rows], self.sums[rows], self.greatest[rows])


def region_figures(tables: Iterable[ScoredWindows], dim: int) -> Iterator[RegionFigures]:
    """The figures of spans with scored windows, whose windows come in the order of the spans.

    Each span comes once, when its last window has been seen; one table is in memory at a time.
    """
    kept = _figures(np.empty(0, np.int64), np.empty((0, dim), np.float32))
    for windows in tables:
        if not len(windows.spans):
            continue
        found = _figures(windows.spans, windows.values)
        if len(kept.spans) and kept.spans[0] == found.spans[0]:
            found.windows[0] += kept.windows[0]
            found.sums[0] += kept.sums[0]
            found.greatest[0] = np.maximum(found.greatest[0], kept.greatest[0])
        else:
            yield kept
        yield found.part(slice(None, -1))
        kept = found.part(slice(-1, None))
    yield kept


def _figures(spans: NDArray[np.int64], values: NDArray[np.float32]) -> RegionFigures:
    """The figures of sorted spans."""
    found, first = np.unique(spans, return_index=True)
    if not len(found):
        return RegionFigures(found, found.copy(), values.astype(np.float64), values)
    sums = np.add.reduceat(values.astype(np.float64), first)
    greatest = np.maximum.reduceat(values, first)
    return RegionFigures(found, np.diff([*first, len(spans)]), sums, greatest)


@contextmanager
def open_regions(
    path: Path, rows: OutputRows, places: NDArray[np.int64], aggregates: Sequence[Aggregate]
) -> Iterator[Callable[[RegionFigures], None]]:
    """Rows for regions with scored windows: contig, start, end, name, windows, NUMBER_mean …

    `places` is (spans, 3): contig, start and end of each region.
    """
    with open_writer(path) as table:

        def write(figures: RegionFigures) -> None:
            spans = figures.spans
            contigs, names = rows.place(places[spans, 0], spans)
            columns: Mapping[str, Column] = {
                "contig": contigs,
                "start": places[spans, 1],
                "end": places[spans, 2],
                **names,
                "windows": figures.windows,
            }
            for aggregate in aggregates:
                columns = {**columns, **rows.numbers(figures.of(aggregate), f"_{aggregate}")}
            table.write(columns)

        yield write


def _ends(path: Path, endings: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(endings)


def _require(module: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(f"{module} is not installed: pip install 'fastgenome[{extra}]'")


def same_file(first: Path, second: Path) -> bool:
    """Whether two paths name one existing file."""
    return first.exists() and second.exists() and os.path.samefile(first, second)
