"""Score tracks and genes as pictures: what is drawn, what is refused."""

import itertools
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from plotting_files import (
    Rows,
    gc_windows,
    per_base,
    write_bedgraph,
    write_bigwig,
    write_parquet,
)
from typer.testing import CliRunner, Result

import fastgenome as fg
from fastgenome.cli import app
from fastgenome.errors import ArgumentError, InputError, MissingExtraError
from fastgenome.plotting import picture, track_plot
from fastgenome.plotting.gene_models import Gene, read_genes
from fastgenome.plotting.picture import Panel, draw
from fastgenome.plotting.score_files import read_scores
from fastgenome.plotting.segments import Segments, segments_of
from fastgenome.regions import Region
from fastgenome.sequences import read_sequences

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("pyBigWig", reason="pyBigWig is not installed")

LOCUS = Region("one", 130, 1777)
SVG = "{http://www.w3.org/2000/svg}"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["plot", *map(str, arguments)])


def drawn_at_bases(line: NDArray[np.float64], locus: Region) -> NDArray[np.float64]:
    """What a line shows at the middle of each base; NaN where no stretch of it reaches."""
    shown = np.full(locus.end - locus.start, np.nan)
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        if np.isnan(y0) or np.isnan(y1) or x0 == x1:
            continue
        assert y0 == y1
        # The axis counts from 1: base p, 0-based, stands at p + 1.
        first, last = int(np.ceil(x0 - 1)), int(np.floor(x1 - 1))
        shown[first - locus.start : last + 1 - locus.start] = y0
    return shown


def test_draw_leaves_blank_what_is_not_scored(bigwig: Path, rows: Rows) -> None:
    segments = read_scores(bigwig, [LOCUS]).tracks[0].segments(LOCUS)
    figure = draw([Panel("scores", segments)], LOCUS)
    (line,) = figure.axes[0].lines
    expected = per_base(rows, *LOCUS)
    np.testing.assert_array_equal(drawn_at_bases(line.get_xydata(), LOCUS), expected)
    assert np.isnan(expected).any()
    assert figure.axes[0].get_xlim() == (130.5, 1777.5)


def test_draw_bins_many_intervals_and_keeps_their_range() -> None:
    length = 40_000
    locus = Region("one", 0, length)
    values = np.random.default_rng(0).normal(size=length)
    starts = np.delete(np.arange(length), slice(10_000, 20_000))
    segments = Segments(starts, starts + 1, values[starts])
    axes = draw([Panel("dense", segments)], locus).axes[0]
    x, y = axes.lines[0].get_xydata().T
    assert len(x) < 7000
    assert not np.any((x > 10_030) & (x < 19_970) & ~np.isnan(y))
    band = np.concatenate([path.vertices[:, 1] for path in axes.collections[0].get_paths()])
    assert (band.min(), band.max()) == (values[starts].min(), values[starts].max())


def test_draw_says_that_nothing_is_scored() -> None:
    nothing = segments_of(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), LOCUS)
    axes = draw([Panel("empty", nothing)], LOCUS, []).axes
    assert not axes[0].lines
    assert [[text.get_text() for text in a.texts] for a in axes] == [
        ["nothing scored here"],
        ["no gene here"],
    ]


def crowded(count: int) -> list[Gene]:
    rng = np.random.default_rng(5)
    genes = []
    for i in range(count):
        start = int(rng.integers(0, 1900))
        end = start + int(rng.integers(5, 90))
        genes.append(Gene(f"g{i}", f"YGENE{i:03}W", "one", start, end, "+-"[i % 2], ((start, end),)))
    return genes


def overlapping(boxes: Sequence[tuple[float, float, float, float]]) -> list[tuple[int, int]]:
    """Pairs of boxes (x0, y0, x1, y1) that share more than an edge."""
    return [
        (i, j)
        for i, a in enumerate(boxes)
        for j, b in enumerate(boxes[:i])
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


def test_draw_packs_genes_and_their_names_without_overlap() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    locus = Region("one", 50, 1950)
    genes = [gene for gene in crowded(60) if gene.start < locus.end and gene.end > locus.start]
    segments = Segments(np.array([100]), np.array([200]), np.array([1.0]))
    figure = draw([Panel("s", segments)], locus, genes)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = figure.axes[1]
    names = [text.get_window_extent(canvas.get_renderer()).extents for text in axes.texts]
    assert len(names) == len(genes) > 50
    assert overlapping(names) == []
    frame = axes.get_window_extent().extents
    assert all(frame[0] - 1 <= box[0] and box[2] <= frame[2] + 1 for box in names)
    boxes = [
        path.get_extents(collection.get_transform()).extents
        for collection in axes.collections
        if type(collection).__name__ == "PolyCollection"
        for path in collection.get_paths()
    ]
    assert len(boxes) == len(genes)
    assert overlapping(boxes) == []


def test_draw_points_along_the_strands(gtf: Path) -> None:
    locus = Region("one", 0, 1000)
    segments = Segments(np.array([100]), np.array([200]), np.array([1.0]))
    genes = read_genes(gtf, [locus])
    axes = draw([Panel("s", segments)], locus, genes).axes[1]
    rows = {text.get_text(): round(text.get_position()[1] - 0.24) for text in axes.texts}
    pointing: dict[int, set[float]] = {}
    for collection in axes.collections:
        if type(collection).__name__ == "PathCollection":
            (path,) = collection.get_paths()
            corners = collection.get_transforms()[0][:2, :2] @ path.vertices[:3].T
            # The tip is the corner at the height of the middle.
            tip = float(np.sign(corners[0][np.argmin(np.abs(corners[1]))]))
            pointing.setdefault(tip, set()).update(y for _, y in collection.get_offsets())
    assert pointing == {1.0: {rows["ABC1"]}, -1.0: {rows["G2"]}}
    assert rows["ABC1"] != rows["G2"]


def test_draw_drops_names_where_genes_crowd() -> None:
    segments = Segments(np.array([100]), np.array([200]), np.array([1.0]))
    axes = draw([Panel("s", segments)], Region("one", 0, 2000), crowded(400)).axes[1]
    assert not axes.texts


def test_plot_track_writes_an_svg_with_the_names_of_genes(bigwig: Path, gtf: Path, tmp_path: Path) -> None:
    out = tmp_path / "picture.svg"
    report = fg.plot_track(bigwig, out, region="one:101-1,900", genes=gtf)
    root = ElementTree.fromstring(out.read_text())
    texts = {element.text for element in root.iter(f"{SVG}text")}
    assert {"ABC1", "G2", "x<y & $z$", "scores"} <= texts
    assert not [element for element in root.iter() if element.tag.endswith("}date")]
    assert (report.regions, report.genes, report.size_bytes) == (("one:101-1,900",), 3, out.stat().st_size)


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_plot_track_writes_the_same_bytes_again(bigwig: Path, gtf: Path, tmp_path: Path, ending: str) -> None:
    import matplotlib

    first, second = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    before = dict(matplotlib.rcParams)
    fg.plot_track(bigwig, first, region="one:101-1900", genes=gtf)
    with matplotlib.rc_context({"lines.linewidth": 7, "svg.hashsalt": None, "axes.facecolor": "red"}):
        fg.plot_track(bigwig, second, region="one:101-1900", genes=gtf)
    assert first.read_bytes() == second.read_bytes()
    assert dict(matplotlib.rcParams) == before
    assert first.read_bytes()[:4] == {"svg": b"<?xm", "png": b"\x89PNG"}[ending]


def test_plot_track_leaves_no_part_of_a_file(
    bigwig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out" / "picture.png"
    out.parent.mkdir()
    out.write_bytes(b"old")

    def fails(file: object, *_: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("full")

    monkeypatch.setattr(track_plot, "write_picture", fails)
    with pytest.raises(OSError, match="full"):
        fg.plot_track(bigwig, out, region="one:1-100")
    assert [path.name for path in out.parent.iterdir()] == ["picture.png"]
    assert out.read_bytes() == b"old"


def test_plot_track_names_a_panel_for_each_track(
    bigwig: Path, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_parquet(tmp_path / "t.parquet", rows, other=[1.0] * len(rows))
    graph = write_bedgraph(tmp_path / "scores.bedgraph", rows)
    report = fg.plot_track([bigwig, table, graph], tmp_path / "p.svg", region="one:1-500")
    names = [track.name for track in report.tracks]
    assert names == [f"{bigwig}: scores", "score", "other", f"{graph}: scores"]
    expected = per_base(rows, "one", 0, 500)
    for track in (report.tracks[0], report.tracks[1], report.tracks[3]):
        assert track.scored_bases == (~np.isnan(expected)).sum()
        assert (track.lowest, track.highest) == (np.nanmin(expected), np.nanmax(expected))
    monkeypatch.setattr(track_plot, "_MOST_TRACKS", 2)
    with pytest.raises(ArgumentError, match="at most 2"):
        fg.plot_track([bigwig, table], tmp_path / "q.svg", region="one:1-500")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"region": "six:1-10"}, ArgumentError, "scores.bw has no contig 'six'; it has one, two"),
        ({"region": "one:1-2001"}, ArgumentError, "one has 2,000 bases"),
        ({"region": "one:5"}, ArgumentError, "expected contig:start-end"),
        ({"region": None}, ArgumentError, "a picture shows one, and got 0"),
        ({"region": ["one", "two"]}, ArgumentError, "a picture shows one, and got 2"),
        ({"tracks": "nothing.bw"}, InputError, "no file 'nothing.bw'"),
        ({"tracks": "scores.wig"}, ArgumentError, "the ending is not known; use one of .bw"),
        ({"tracks": []}, ArgumentError, "at least one file"),
        ({"out": "p.pdf"}, ArgumentError, "ending of 'p.pdf' is not known; use one of .png, .svg, .html"),
        ({"genes": "nothing.gtf"}, InputError, "no file 'nothing.gtf'"),
        ({"columns": ["a"]}, ArgumentError, "none of the tracks is a Parquet file"),
    ],
    ids=str,
)
def test_plot_track_refuses(
    bigwig: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments: dict[str, object] = {"tracks": bigwig, "out": "p.png", "region": "one:1-10", **change}
    with pytest.raises(error, match=re.escape(message)):
        fg.plot_track(arguments.pop("tracks"), arguments.pop("out"), **arguments)  # type: ignore[arg-type]
    assert not Path("p.png").exists()


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["longest last", "longest first"])
def test_plot_track_of_a_contig_holds_the_longest_track(
    order: slice, rows: Rows, gtf: Path, tmp_path: Path
) -> None:
    short = [row for row in rows if row[2] <= 300]
    tracks = [
        write_bedgraph(tmp_path / "short.bedgraph", short),
        write_parquet(tmp_path / "middle.parquet", [row for row in rows if row[2] <= 700]),
        write_bedgraph(tmp_path / "long.bedgraph.gz", rows),
    ]
    last = max(end for contig, _, end, _ in rows if contig == "one")
    report = fg.plot_track(tracks[order], tmp_path / "p.svg", region="one", genes=gtf)
    assert report.regions == (f"one:1-{last:,}",)
    scored = {track.name: track.scored_bases for track in report.tracks}
    assert scored["long"] == np.isfinite(per_base(rows, "one", 0, 2000)).sum()
    assert scored["short"] == np.isfinite(per_base(short, "one", 0, 2000)).sum()
    # A file that knows the length of the contig ends it.
    exact = write_bigwig(tmp_path / "exact.bw", short, {"one": 1000, "two": 300})
    report = fg.plot_track([*tracks, exact][order], tmp_path / "p.svg", region="one")
    assert report.regions == ("one:1-1,000",)


def test_missing_extras_are_named(bigwig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyBigWig", None)
        with pytest.raises(MissingExtraError, match=r"fastgenome\[bigwig\]"):
            read_scores(bigwig)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"fastgenome\[plot\]"):
        fg.plot_track(bigwig, tmp_path / "p.png", region="one:1-10")


def test_plot_command_draws_and_reports(bigwig: Path, gtf: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.png"
    result = run(bigwig, "--region", "one:1-2,000", "--genes", gtf, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["out"], report["regions"], report["genes"]) == (str(out), ["one:1-2,000"], 3)
    assert [track["name"] for track in report["tracks"]] == ["scores"]
    plain = run(bigwig, "--region", "one", "-o", out)
    assert plain.exit_code == 0
    assert "one:1-2,000" in plain.stdout
    assert f"{report['tracks'][0]['scored_bases']:,} of 2,000 bases scored" in plain.stdout


@pytest.mark.parametrize(
    "arguments", [("--region", "six:1-2"), ("--region", "one:1-3000"), ("--genes", "nothing.gtf"), ()]
)
def test_plot_command_fails_in_one_line(bigwig: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    region = () if "--region" in arguments or not arguments else ("--region", "one:1-10")
    result = run(bigwig, *arguments, *region, "-o", tmp_path / "p.png")
    assert result.exit_code == 1
    assert result.stderr.startswith("fastgenome: error: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "p.png").exists()


def test_plot_track_draws_the_gc_content_of_yeast(yeast: Path, yeast_genes: Path, tmp_path: Path) -> None:
    letters = next(r.sequence for r in read_sequences(yeast) if r.id == "IV")
    rows = gc_windows("IV", letters, 50)
    track = write_bigwig(tmp_path / "gc.bw", rows, {"IV": len(letters)})
    out = tmp_path / "p.svg"
    report = fg.plot_track(track, out, region="IV:430001-450000", genes=yeast_genes, genome=yeast)
    inside = [value for _, start, _, value in rows if 430_000 <= start < 450_000]
    (summary,) = report.tracks
    assert (summary.intervals, summary.lowest, summary.highest) == (400, min(inside), max(inside))
    named = {element.text for element in ElementTree.fromstring(out.read_text()).iter(f"{SVG}text")}
    expected = {gene.name for gene in read_genes(yeast_genes, [Region("IV", 430_000, 450_000)])}
    assert expected <= named
    assert len(expected) == report.genes > 8
    assert picture._MOST_SEGMENTS > 400
