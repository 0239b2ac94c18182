"""Embeddings of windows as a Zarr group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fastgenome.atomic import atomic_folder
from fastgenome.errors import MissingExtraError
from fastgenome.genome import Genome
from fastgenome.scoring.scored_windows import ScoredWindows

# By this file Zarr's format 3 marks a group: a folder that holds it may be replaced.
ZARR_MARKER = "zarr.json"
_CHUNK_ROWS = 8192


@contextmanager
def open_zarr(
    path: Path, genome: Genome, *, rows: int, dim: int
) -> Iterator[Callable[[ScoredWindows], None]]:
    """Open a Zarr group that appears when the block ends well.

    It holds `embedding` (rows, dim) float32, `contig` (rows,) int32, places in the attribute `contigs`, and
    `start` and `end` (rows,) int64, 0-based, half-open.

    Raises:
        MissingExtraError: zarr is not installed.
        ArgumentError: something else than a Zarr group stands at `path`.
    """
    try:
        import zarr
    except ImportError as error:
        raise MissingExtraError("Zarr needs zarr: pip install 'fastgenome[zarr]'") from error
    with atomic_folder(path, marker=ZARR_MARKER) as folder:
        group = zarr.open_group(str(folder), mode="w", zarr_format=3)
        group.attrs["contigs"] = list(genome.names)
        chunk = max(1, min(_CHUNK_ROWS, rows))
        embedding = group.create_array("embedding", shape=(rows, dim), chunks=(chunk, dim), dtype="float32")
        contig = group.create_array("contig", shape=(rows,), chunks=(chunk,), dtype="int32")
        start = group.create_array("start", shape=(rows,), chunks=(chunk,), dtype="int64")
        end = group.create_array("end", shape=(rows,), chunks=(chunk,), dtype="int64")
        done = 0

        def write(windows: ScoredWindows) -> None:
            nonlocal done
            place = slice(done, done + len(windows.starts))
            embedding[place] = windows.values
            contig[place] = windows.contigs.astype(np.int32)
            start[place] = windows.starts
            end[place] = windows.ends
            done = place.stop

        yield write
