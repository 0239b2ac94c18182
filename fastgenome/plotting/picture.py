"""Score tracks above genes as a matplotlib figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from fastgenome.errors import MissingExtraError
from fastgenome.plotting.gene_models import Gene, pack_rows
from fastgenome.plotting.segments import Segments, binned, outline
from fastgenome.plotting.texts import printable
from fastgenome.regions import Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 10.0  # inches
_PLOT_POINTS = 660  # of that width between the axes, in points of 1/72 inch
_PANEL_HEIGHT, _ROW_HEIGHT, _MARGIN = 1.1, 0.24, 0.6  # inches
_NAME_POINTS = 7
# Upper-case letters are about this wide, in ems.
_EMS_PER_LETTER = 0.68
# More rows of genes with names than that, and only boxes are drawn.
_MOST_NAMED_ROWS = 14
# More segments than that, and bins narrower than a pixel (of 150 to the inch) are drawn.
_MOST_SEGMENTS = 3000
_ARROW_POINTS = 26  # from one to the next
_ARROW_WIDTH = 4  # points
_LINE_COLOUR = "#1b4f72"
_STRAND_COLOURS = {"+": "#1f6f54", "-": "#9c3d2e", ".": "#555555"}

# What a file of the user's own settings could change, and ids that would differ from run to run.
_SETTINGS: dict[Any, Any] = {"svg.hashsalt": "fastgenome", "svg.fonttype": "none"}


class Panel(NamedTuple):
    """A score over the locus of the figure."""

    name: str
    segments: Segments


@contextmanager
def picture_settings() -> Iterator[None]:
    """matplotlib's own defaults, so that the same input gives the same picture everywhere."""
    try:
        import matplotlib
        from matplotlib import style
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib: pip install 'fastgenome[plot]'") from error
    with style.context("default"), matplotlib.rc_context(_SETTINGS):
        yield


def write_picture(
    file: BinaryIO, kind: str, panels: Sequence[Panel], locus: Region, genes: Sequence[Gene] | None = None
) -> None:
    """Write the figure of `draw` as "png" or "svg"; SVG keeps texts as texts, and has no date.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with picture_settings():
        save_figure(draw(panels, locus, genes), file, kind)


def save_figure(figure: Figure, file: BinaryIO, kind: str) -> None:
    """Write a figure as "png" or "svg", without a date or a version; within `picture_settings`."""
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(file, format=kind, dpi=150, metadata=metadata)


def draw(panels: Sequence[Panel], locus: Region, genes: Sequence[Gene] | None = None) -> Figure:
    """Draw a panel for each score and, below them, genes in rows.

    A score is a step line that breaks where nothing is scored. Where there are more than 3,000 intervals, the
    line is their mean in as many bins, within a band from the lowest to the highest. Axes count bases from 1.

    Args:
        panels: at least one.
        locus: the stretch along the axes.
        genes: None draws no row for them.
    """
    from matplotlib.figure import Figure

    named = [gene._replace(name=printable(gene.name)) for gene in genes or ()]
    shown = _placed(named, locus)
    heights = [_PANEL_HEIGHT] * len(panels)
    if genes is not None:
        heights.append(_ROW_HEIGHT * (1 + max((item.row for item in shown), default=0)) + 0.1)
    # Not pyplot, which would choose a backend for the whole process and keep the figure.
    figure = Figure(figsize=(_WIDTH, sum(heights) + _MARGIN + 0.25 * len(panels)), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for place, panel in zip(axes, panels, strict=False):
        _draw_scores(place, panel, locus)
    if genes is not None:
        _draw_genes(axes[-1], shown, locus)
    axes[-1].set_xlim(locus.start + 0.5, locus.end + 0.5)
    axes[-1].xaxis.set_major_formatter("{x:,.0f}")
    axes[-1].locator_params(axis="x", integer=True)
    axes[-1].set_xlabel(f"{printable(locus.contig)} (base, from 1)", fontsize=9, parse_math=False)
    return figure


def _draw_scores(axes: Axes, panel: Panel, locus: Region) -> None:
    starts, ends, values, _ = panel.segments
    if len(starts) > _MOST_SEGMENTS:
        starts, ends, values, lows, highs = binned(panel.segments, locus, _MOST_SEGMENTS)
        x, bottom = outline(starts, ends, lows)
        axes.fill_between(x, bottom, outline(starts, ends, highs)[1], color=_LINE_COLOUR, alpha=0.25, lw=0)
    if len(starts):
        # The cap keeps an interval narrower than a pixel in sight.
        axes.plot(*outline(starts, ends, values), color=_LINE_COLOUR, lw=1, solid_capstyle="projecting")
    else:
        axes.text(0.5, 0.5, "nothing scored here", transform=axes.transAxes, ha="center", va="center")
        axes.set_yticks([])
    axes.set_title(printable(panel.name), loc="left", fontsize=8, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


class _Placed(NamedTuple):
    """A gene in its row; `name_at` is the middle of its name, None where names find no place."""

    gene: Gene
    start: int
    end: int
    row: int
    name_at: float | None


def _placed(genes: Sequence[Gene], locus: Region) -> list[_Placed]:
    """Put genes, cut at the ends of the locus, in rows in which neither boxes nor names overlap."""
    bases_per_point = (locus.end - locus.start) / _PLOT_POINTS
    cut = [(max(gene.start, locus.start), min(gene.end, locus.end)) for gene in genes]
    middles: list[float | None] = []
    spans = []
    for gene, (start, end) in zip(genes, cut, strict=True):
        half = len(gene.name) * _EMS_PER_LETTER * _NAME_POINTS * bases_per_point / 2
        # Names stay within the picture.
        middle = min(max((start + end) / 2, locus.start + half), max(locus.end - half, locus.start + half))
        middles.append(middle)
        spans.append((min(start, middle - half), max(end, middle + half)))
    rows = pack_rows(spans, gap=4 * bases_per_point)
    if max(rows, default=0) >= _MOST_NAMED_ROWS:
        rows = pack_rows(cut, gap=bases_per_point)
        middles = [None] * len(cut)
    return [
        _Placed(gene, *span, row, middle)
        for gene, span, row, middle in zip(genes, cut, rows, middles, strict=True)
    ]


def _draw_genes(axes: Axes, placed: Sequence[_Placed], locus: Region) -> None:
    # One artist for all genes of a kind: a chromosome has hundreds, and each artist its cost.
    from matplotlib.collections import LineCollection, PolyCollection

    colours = [_STRAND_COLOURS[item.gene.strand] for item in placed]
    lines = [[(start + 0.5, row), (end + 0.5, row)] for _, start, end, row, _ in placed]
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=1))
    boxes = [(box, colour) for item, colour in zip(placed, colours, strict=True) for box in _boxes(item)]
    axes.add_collection(
        PolyCollection([box for box, _ in boxes], color=[c for _, c in boxes], linewidths=0.3)
    )
    _draw_arrows(axes, placed, locus)
    for (gene, _, _, row, name_at), colour in zip(placed, colours, strict=True):
        if name_at is not None:
            style: dict[str, Any] = {"fontsize": _NAME_POINTS, "ha": "center", "va": "top", "color": colour}
            axes.text(name_at + 0.5, row + 0.24, gene.name, parse_math=False, **style)
    if not placed:
        axes.text(0.5, 0.5, "no gene here", transform=axes.transAxes, ha="center", va="center", fontsize=8)
    rows = 1 + max((item.row for item in placed), default=0)
    axes.set_ylim(rows - 0.25, -0.4)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _boxes(item: _Placed) -> list[list[tuple[float, float]]]:
    """The corners of the exons, as far as they lie within the locus."""
    cut = [(max(a, item.start) + 0.5, min(b, item.end) + 0.5) for a, b in item.gene.exons]
    low, high = item.row - 0.18, item.row + 0.18
    return [[(a, low), (a, high), (b, high), (b, low)] for a, b in cut if a < b]


def _draw_arrows(axes: Axes, placed: Sequence[_Placed], locus: Region) -> None:
    """Mark the strands of genes that an arrow fits into: white within exons, dark between them."""
    bases_per_point = (locus.end - locus.start) / _PLOT_POINTS
    for strand, marker in (("+", ">"), ("-", "<")):
        points: list[tuple[float, int]] = []
        colours: list[str] = []
        for gene, start, end, row, _ in placed:
            if gene.strand != strand or end - start < _ARROW_WIDTH * bases_per_point:
                continue
            count = max(1, int((end - start) / (_ARROW_POINTS * bases_per_point)))
            for at in start + (np.arange(count) + 0.5) * (end - start) / count:
                inside = any(a <= at < b for a, b in gene.exons)
                points.append((at + 0.5, row))
                colours.append("white" if inside else _STRAND_COLOURS[strand])
        x, y = np.array(points).reshape(-1, 2).T
        axes.scatter(x, y, s=9, marker=marker, color=colours, lw=0, zorder=3)
