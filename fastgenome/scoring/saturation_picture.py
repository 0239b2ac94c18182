"""Heat maps of every single-base change of a region."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgenome.atomic import atomic_file
from fastgenome.errors import MissingExtraError
from fastgenome.plotting.picture import picture_settings, save_figure
from fastgenome.plotting.texts import printable
from fastgenome.regions import Region

if TYPE_CHECKING:
    import pyarrow as pa

PICTURE_ENDINGS = (".png", ".svg")
MOST_BASES, MOST_PANELS = 2000, 24

_BASES = "ACGT"
# Inches: of a base where it has room for its letter, and of a whole picture.
_BASE_WIDTH, _LEAST_WIDTH, _MOST_WIDTH = 0.16, 5.0, 60.0
_PANEL_HEIGHT = 1.5


def import_figure() -> Any:
    """matplotlib's Figure, or MissingExtraError with the install line."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib: pip install 'fastgenome[plot]'") from error
    return Figure


def drawn_figures(figures: Sequence[str]) -> list[str]:
    """Those that a picture shows: what the changes make of each score, or the cosine distance."""
    return [name for name in figures if name.endswith("_delta")] or list(figures[:1])


def draw_saturation(path: Path, region: Region, tables: Iterable[pa.Table], figures: Sequence[str]) -> None:
    """Draw one panel for each score: bases of the region across, A, C, G, T up, alternative − reference.

    A dot marks the base of the genome; what was not scored is grey. Scales are symmetric around 0, those of
    distances begin there.

    Args:
        path: .png or .svg.
        region: at most `MOST_BASES` long.
        tables: scored changes, see `AlleleWork`.
        figures: their names; at most `MOST_PANELS` are drawn, see `drawn_figures`.
    """
    drawn = drawn_figures(figures)
    values, genome = _grids(region, tables, drawn)
    length = region.end - region.start
    width = min(_MOST_WIDTH, max(_LEAST_WIDTH, 1.5 + _BASE_WIDTH * length))
    with picture_settings():
        figure = import_figure()(figsize=(width, 0.8 + _PANEL_HEIGHT * len(drawn)), layout="constrained")
        panels = figure.subplots(len(drawn), 1, squeeze=False, sharex=True)[:, 0]
        for panel, name, grid in zip(panels, drawn, values, strict=True):
            _draw_panel(panel, figure, region, grid, genome, name)
        panels[-1].set_xlabel(f"position in {printable(region.contig)} (from 1)", parse_math=False)
        title = printable(f"every single-base change of {region}")
        panels[0].set_title(title, fontsize=9, parse_math=False)
        with atomic_file(path) as file:
            save_figure(figure, file, path.suffix.lower().lstrip("."))


def _grids(
    region: Region, tables: Iterable[pa.Table], figures: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Figures (figures, 4, length), NaN where there is none, and the genome's bases (length,), −1 unknown."""
    length = region.end - region.start
    values = np.full((len(figures), 4, length), np.nan, dtype=np.float32)
    genome = np.full(length, -1, dtype=np.int64)
    for table in tables:
        places = table["start"].to_numpy() - region.start
        rows = np.array([_BASES.index(base) for base in table["alternative"].to_pylist()])
        genome[places] = [_BASES.index(base) for base in table["reference"].to_pylist()]
        for grid, name in zip(values, figures, strict=True):
            grid[rows, places] = table[name].to_numpy(zero_copy_only=False)
    return values, genome


def _draw_panel(
    panel: Any, figure: Any, region: Region, grid: NDArray[np.float32], genome: NDArray[np.int64], name: str
) -> None:
    known = np.abs(grid[np.isfinite(grid)])
    most = float(known.max()) if known.size and known.max() > 0 else 1.0
    signed = name.endswith("_delta")
    panel.set_facecolor("0.85")
    image = panel.imshow(
        grid,
        aspect="auto",
        interpolation="nearest",
        origin="lower",
        cmap="RdBu_r" if signed else "viridis",
        vmin=-most if signed else 0.0,
        vmax=most,
        extent=(region.start + 0.5, region.end + 0.5, -0.5, 3.5),
    )
    places = np.flatnonzero(genome >= 0)
    panel.plot(places + region.start + 1, genome[places], ".", color="0.25", markersize=2)
    panel.set_yticks(range(4), list(_BASES))
    panel.ticklabel_format(axis="x", style="plain", useOffset=False)
    figure.colorbar(image, ax=panel, pad=0.01).set_label(printable(name.replace("_", " ")), parse_math=False)
