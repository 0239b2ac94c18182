"""Scores as tracks of a genome browser: bigWig, bedGraph and BED."""

from __future__ import annotations

import gzip
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fastgenome.atomic import atomic_file, atomic_path, unfinished
from fastgenome.errors import ArgumentError, MissingExtraError
from fastgenome.genome import Genome
from fastgenome.scoring.scored_windows import ScoredWindows
from fastgenome.scoring.window_plan import WindowOptions

TRACK_ENDINGS = (".bw", ".bigwig", ".bedgraph", ".bedgraph.gz", ".bg", ".bg.gz")
BED_ENDINGS = (".bed", ".bed.gz")

Write = Callable[[ScoredWindows], None]

# The last four bytes of a whole bigWig file, as a number of the machine that wrote it; where its header tells
# the place of the summary, of which the first eight bytes count the bases that have values.
_BIGWIG_MAGIC = 0x888FFC26
_SUMMARY_PLACE = 44
_BIGWIG_BASES = 2**32
# Names of 2bit files may have them.
_BREAKS = frozenset("\t\r\n")


class Bins(NamedTuple):
    """The stretch of the genome that shows a window's score: none overlaps another."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    drawn: NDArray[np.bool_]


def bins_of(windows: ScoredWindows, lengths: NDArray[np.int64], options: WindowOptions) -> Bins:
    """The `stride` bases in the middle of each window, fewer at a contig's end, the window if it is shorter.

    Windows overlap and values of a track must not, so that each window's score stands at its middle. A window
    filled up beyond a contig's end may have its middle beyond it: it is not drawn.
    """
    span = min(options.stride, options.window)
    starts = windows.starts + (options.window - span) // 2
    ends = np.minimum(starts + span, lengths[windows.contigs])
    return Bins(starts, ends, ends > starts)


def track_paths(path: Path, columns: Sequence[str]) -> list[Path]:
    """One file for each column: `path` for a single one, else with the column's name before the ending."""
    if len(columns) == 1:
        return [path]
    ending = next(ending for ending in sorted(TRACK_ENDINGS, key=len, reverse=True) if _ends(path, ending))
    stem, ending = path.name[: -len(ending)], path.name[-len(ending) :]
    named = [f"{stem}.{re.sub(r'[^A-Za-z0-9_-]+', '_', column)}{ending}" for column in columns]
    if len(set(named)) < len(named):
        raise ArgumentError(f"the columns {', '.join(columns)} give tracks of one name; choose a table")
    return [path.with_name(name) for name in named]


def is_track(path: Path) -> bool:
    """Whether a file is to be a track whose values may not overlap."""
    return any(_ends(path, ending) for ending in TRACK_ENDINGS)


def check_contigs(path: Path, genome: Genome) -> None:
    """ArgumentError for contigs that a format cannot tell of."""
    if _is_bigwig(path) and (longest := int(genome.lengths.max())) >= _BIGWIG_BASES:
        raise ArgumentError(f"a contig of {longest:,} bases is too long for bigWig ({path}); write bedGraph")
    if (is_track(path) or is_bed(path)) and (wrong := [name for name in genome.names if set(name) & _BREAKS]):
        raise ArgumentError(f"contig {wrong[0]!r} would break a line of {path}; write Parquet, or rename it")


def is_bed(path: Path) -> bool:
    """Whether a file is to be BED."""
    return any(_ends(path, ending) for ending in BED_ENDINGS)


@contextmanager
def open_tracks(
    path: Path, genome: Genome, options: WindowOptions, columns: Sequence[str]
) -> Iterator[Write]:
    """Open bigWig or bedGraph files, one for each column, that appear when the block ends well.

    Raises:
        MissingExtraError: pyBigWig is not installed.
        OSError: a bigWig was not written to its end.
    """
    opener = _bigwig if _is_bigwig(path) else _bedgraph
    with ExitStack() as files:
        writers = [files.enter_context(opener(name, genome, options)) for name in track_paths(path, columns)]

        def write(windows: ScoredWindows) -> None:
            bins = bins_of(windows, genome.lengths, options)
            for column, writer in enumerate(writers):
                writer(windows, bins, windows.values[:, column])

        yield write


@contextmanager
def open_bed(path: Path, genome: Genome, columns: Sequence[str]) -> Iterator[Write]:
    """Open a BED file of whole windows: BED6 without names, then one field for each column.

    The fifth field, the score from 0 to 1000, is 1000 times the first column where that is a probability,
    else 0.
    """
    probability = columns[0].startswith("probability_")

    def write(windows: ScoredWindows) -> None:
        names = [genome.names[contig] for contig in windows.contigs.tolist()]
        first = np.rint(windows.values[:, 0] * 1000).astype(np.int64) if probability else None
        scores = [0] * len(names) if first is None else first.tolist()
        numbers = [_texts(windows.values[:, column]) for column in range(len(columns))]
        rows = zip(names, windows.starts.tolist(), windows.ends.tolist(), scores, *numbers, strict=True)
        text.writelines(
            f"{name}\t{start}\t{end}\t.\t{score}\t.\t" + "\t".join(values) + "\n"
            for name, start, end, score, *values in rows
        )

    with _open_text(path) as text:
        yield write


@contextmanager
def _bedgraph(
    path: Path, genome: Genome, options: WindowOptions
) -> Iterator[Callable[[ScoredWindows, Bins, NDArray[np.float32]], None]]:
    def write(windows: ScoredWindows, bins: Bins, values: NDArray[np.float32]) -> None:
        drawn = bins.drawn
        names = (genome.names[contig] for contig in windows.contigs[drawn].tolist())
        rows = zip(
            names, bins.starts[drawn].tolist(), bins.ends[drawn].tolist(), _texts(values[drawn]), strict=True
        )
        text.writelines(f"{name}\t{start}\t{end}\t{value}\n" for name, start, end, value in rows)

    with _open_text(path) as text:
        yield write


@contextmanager
def _bigwig(
    path: Path, genome: Genome, options: WindowOptions
) -> Iterator[Callable[[ScoredWindows, Bins, NDArray[np.float32]], None]]:
    pyBigWig = _import_pybigwig()
    span = min(options.stride, options.window)
    covered = 0

    def tried(call: Callable[..., Any], *arguments: Any, **fields: Any) -> Any:
        try:
            return call(*arguments, **fields)
        except (RuntimeError, SystemError) as error:
            raise unfinished(path, error) from error

    def add(*entries: Any, **fields: Any) -> None:
        tried(file.addEntries, *entries, **fields)

    def write(windows: ScoredWindows, bins: Bins, values: NDArray[np.float32]) -> None:
        nonlocal covered
        whole = bins.ends - bins.starts == span
        for contig, rows in windows.runs():
            name = genome.names[contig]
            for first, last in _steady(bins.starts[rows], whole[rows], options.stride):
                place = slice(rows.start + first, rows.start + last)
                numbers = values[place].astype(np.float64)
                if span == options.stride:
                    add(name, int(bins.starts[place.start]), values=numbers, span=span, step=span)
                else:
                    # Steps reach beyond the last bin, where the next region may begin.
                    add(name, bins.starts[place], values=numbers, span=span)
            for row in (rows.start + np.flatnonzero(~whole[rows] & bins.drawn[rows])).tolist():
                # Fewer bases than the others have: the last of a contig.
                start, end = int(bins.starts[row]), int(bins.ends[row])
                add([name], [start], ends=[end], values=[float(values[row])])
        covered += int((bins.ends - bins.starts)[bins.drawn].sum())

    with atomic_path(path) as hidden:
        file = tried(pyBigWig.open, str(hidden), "w")
        try:
            tried(file.addHeader, list(zip(genome.names, genome.lengths.tolist(), strict=True)))
            yield write
        finally:
            file.close()
        check_bigwig(hidden, path, covered)


def _steady(starts: NDArray[np.int64], whole: NDArray[np.bool_], stride: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of the stretches of whole bins that follow each other at the stride."""
    places = np.flatnonzero(whole)
    if not len(places):
        return
    breaks = np.flatnonzero((np.diff(starts[places]) != stride) | (np.diff(places) != 1)) + 1
    for stretch in np.split(places, breaks):
        yield int(stretch[0]), int(stretch[-1]) + 1


def check_bigwig(hidden: Path, path: Path, covered: int) -> None:
    """OSError unless the file holds what was written; its library does not report a full disk."""
    # Not by that library: it reads beyond the end of a file cut short, and dies of sums without end.
    with hidden.open("rb") as file:
        file.seek(-min(4, hidden.stat().st_size), 2)
        whole = file.read() == _BIGWIG_MAGIC.to_bytes(4, sys.byteorder)
        if whole:
            file.seek(_SUMMARY_PLACE)
            file.seek(int.from_bytes(file.read(8), sys.byteorder))
            whole = int.from_bytes(file.read(8), sys.byteorder) == covered
    if not whole:
        raise unfinished(path)


def _is_bigwig(path: Path) -> bool:
    return path.name.lower().endswith((".bw", ".bigwig"))


def _import_pybigwig() -> Any:
    try:
        import pyBigWig
    except ImportError as error:
        raise MissingExtraError("bigWig needs pyBigWig: pip install 'fastgenome[bigwig]'") from error
    return pyBigWig


@contextmanager
def _open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    with atomic_file(path) as file, ExitStack() as stack:
        target: BinaryIO = file
        if path.name.lower().endswith(".gz"):
            # Neither a name nor a time in the header: the same rows give the same bytes.
            packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)
            target = cast(BinaryIO, stack.enter_context(packed))
        text = io.TextIOWrapper(target, encoding="utf-8", newline="")
        yield text
        text.flush()
        # The wrapper would close what is below it when it is collected.
        text.detach()


def _texts(values: NDArray[np.float32]) -> list[str]:
    """Numbers in the fewest digits that give them back."""
    import pyarrow as pa

    return cast(list[str], pa.array(np.ascontiguousarray(values)).cast(pa.string()).to_pylist())


def _ends(path: Path, ending: str) -> bool:
    return path.name.lower().endswith(ending)
