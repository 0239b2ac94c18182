"""Score tracks and genes as pictures: what is read, what is drawn, what is refused."""

import gzip
import itertools
import json
import random
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from plotting_files import (
    GENES,
    Rows,
    expanded,
    gc_windows,
    per_base,
    random_rows,
    write_bedgraph,
    write_bigwig,
    write_parquet,
)
from typer.testing import CliRunner, Result

import fastgenome as fg
from fastgenome.cli import app
from fastgenome.errors import ArgumentError, InputError, MissingExtraError, TruncatedInputError
from fastgenome.plotting import picture, score_files, track_plot
from fastgenome.plotting.gene_models import Gene, pack_rows, read_genes
from fastgenome.plotting.locus import Locus, parse_locus, within
from fastgenome.plotting.picture import Panel, draw
from fastgenome.plotting.score_files import read_scores
from fastgenome.plotting.segments import Segments, binned, segments_of
from fastgenome.sequences import read_sequences

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("pyBigWig", reason="pyBigWig is not installed")

LENGTHS = {"one": 2000, "two": 300}
LOCUS = Locus("one", 130, 1777)
SVG = "{http://www.w3.org/2000/svg}"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["plot", *map(str, arguments)])


@pytest.fixture
def rows() -> Rows:
    return random_rows(0, 2000) + random_rows(1, 300, "two")


@pytest.fixture
def bigwig(tmp_path: Path, rows: Rows) -> Path:
    return write_bigwig(tmp_path / "scores.bw", rows, LENGTHS)


@pytest.fixture
def gtf(tmp_path: Path) -> Path:
    path = tmp_path / "genes.gtf"
    path.write_text(GENES)
    return path


@pytest.mark.parametrize(
    ("text", "locus"),
    [
        ("IV:1-100", Locus("IV", 0, 100)),
        ("IV:7-7", Locus("IV", 6, 7)),
        (" chr1:1,001-20,000 ", Locus("chr1", 1000, 20000)),
        ("HLA-A*01:01:5-9", Locus("HLA-A*01:01", 4, 9)),
        ("IV", Locus("IV", 0, 2**63 - 1)),
    ],
)
def test_parse_locus_counts_from_one(text: str, locus: Locus) -> None:
    assert parse_locus(text) == locus
    if locus.end < 2**63 - 1:
        assert parse_locus(str(locus)) == locus


@pytest.mark.parametrize("text", ["", "IV:", "IV:5", "IV:0-5", "IV:9-8", "IV:-5", ":1-2-"])
def test_parse_locus_refuses_what_names_no_bases(text: str) -> None:
    with pytest.raises(ArgumentError, match="region"):
        parse_locus(text)


def test_within_ends_a_whole_contig_and_refuses_the_outside() -> None:
    assert within(parse_locus("one"), LENGTHS, "f", exact=True) == Locus("one", 0, 2000)
    assert within(Locus("one", 1999, 2000), LENGTHS, "f", exact=True) == Locus("one", 1999, 2000)
    assert within(Locus("one", 1999, 2001), LENGTHS, "f", exact=False).end == 2001
    for locus, exact in [(Locus("one", 0, 2001), True), (Locus("one", 2000, 2001), False)]:
        with pytest.raises(ArgumentError, match=r"2,000|2,001"):
            within(locus, LENGTHS, "f", exact=exact)
    with pytest.raises(ArgumentError, match="no contig 'six'; it has one, two"):
        within(Locus("six", 0, 1), LENGTHS, "f", exact=True)


@pytest.mark.parametrize("piece", [1 << 20, 100])
def test_read_scores_equals_what_pybigwig_reads(
    bigwig: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    import pyBigWig

    monkeypatch.setattr(score_files, "_BASES_AT_A_TIME", piece)
    found = read_scores(bigwig, [LOCUS, Locus("two", 0, 300)])
    assert (found.lengths, found.exact, [track.name for track in found.tracks]) == (LENGTHS, True, ["scores"])
    # Pieces are cut, and nothing is read twice.
    one = found.tracks[0].intervals["one"]
    assert (one.starts[1:] >= one.ends[:-1]).all()
    with pyBigWig.open(str(bigwig)) as file:
        for contig, start, end in (LOCUS, ("two", 0, 300)):
            locus = Locus(contig, start, end)
            ours = expanded(found.tracks[0].segments(locus), start, end)
            np.testing.assert_array_equal(ours, np.array(file.values(contig, start, end)))
            assert 0.1 < np.isnan(ours).mean() < 0.9


@pytest.mark.parametrize("ending", [".bw", ".bedgraph", ".bg.gz", ".parquet"])
def test_read_scores_gives_the_same_from_every_format(tmp_path: Path, rows: Rows, ending: str) -> None:
    path = tmp_path / f"scores{ending}"
    if ending == ".bw":
        write_bigwig(path, rows, LENGTHS)
    elif ending == ".parquet":
        write_parquet(path, random.Random(0).sample(rows, len(rows)))
    else:
        write_bedgraph(path, random.Random(0).sample(rows, len(rows)))
    part, whole = read_scores(path, [LOCUS]), read_scores(path)
    for found in (part, whole):
        segments = found.tracks[0].segments(LOCUS)
        np.testing.assert_array_equal(expanded(segments, *LOCUS[1:]), per_base(rows, *LOCUS))
    assert set(part.tracks[0].intervals) == {"one"}
    assert set(whole.tracks[0].intervals) == {"one", "two"}
    last = {name: max(end for contig, _, end, _ in rows if contig == name) for name in LENGTHS}
    assert whole.lengths == part.lengths == (LENGTHS if ending == ".bw" else last)


def test_read_scores_of_parquet_takes_columns_and_leaves_missing_values_out(tmp_path: Path) -> None:
    rows = random_rows(2, 2000)
    holes = [None if i % 3 == 0 else value for i, (*_, value) in enumerate(rows)]
    more = {
        "count": list(range(len(rows))),
        "text": ["x"] * len(rows),
        "holes": holes,
        "contig": pa.array([row[0] for row in rows]).dictionary_encode(),
    }
    path = write_parquet(tmp_path / "t.parquet", rows, **more)
    assert [track.name for track in read_scores(path, [LOCUS]).tracks] == ["score", "count", "holes"]
    (track,) = read_scores(path, [LOCUS], columns=["holes"]).tracks
    kept = [row for row, value in zip(rows, holes, strict=True) if value is not None]
    np.testing.assert_array_equal(expanded(track.segments(LOCUS), *LOCUS[1:]), per_base(kept, *LOCUS))
    for wrong, message in (("nothing", "no column 'nothing'"), ("text", "holds no scores")):
        with pytest.raises(InputError, match=message):
            read_scores(path, [LOCUS], columns=[wrong])


def test_overlapping_windows_have_their_mean() -> None:
    rows = random_rows(3, 2000, overlap=True)
    starts, ends, values = (np.array(column) for column in list(zip(*rows, strict=True))[1:])
    segments = segments_of(starts, ends, values, LOCUS)
    expected = per_base(rows, *LOCUS)
    assert len(rows) > 100
    np.testing.assert_allclose(expanded(segments, *LOCUS[1:]), expected, rtol=0, atol=1e-12)


def test_infinite_scores_are_left_blank_and_counted() -> None:
    values = np.array([1.0, np.inf, np.nan, -np.inf, 2.0])
    starts = np.arange(5) * 10
    segments = segments_of(starts, starts + 10, values, Locus("one", 0, 45))
    assert segments.infinite == 2
    assert segments.values.tolist() == [1.0, 2.0]
    assert (segments.starts.tolist(), segments.ends.tolist(), segments.bases) == ([0, 40], [10, 45], 15)


@pytest.mark.parametrize("count", [1, 7, 100, 1647, 5000])
def test_binned_equals_the_definition(rows: Rows, count: int) -> None:
    starts, ends, values = (np.array(column) for column in list(zip(*rows, strict=True))[1:])
    one = np.array([row[0] == "one" for row in rows])
    bins = binned(segments_of(starts[one], ends[one], values[one], LOCUS), LOCUS, count)
    bases = per_base(rows, *LOCUS)
    edges = sorted({LOCUS.start + (LOCUS.end - LOCUS.start) * i // count for i in range(count + 1)})
    expected = [
        (a, b, np.nanmean(piece), np.nanmin(piece), np.nanmax(piece))
        for a, b in itertools.pairwise(edges)
        if not np.isnan(piece := bases[a - LOCUS.start : b - LOCUS.start]).all()
    ]
    np.testing.assert_allclose(np.stack(bins, axis=1), expected, rtol=0, atol=1e-10)


def drawn_at_bases(line: NDArray[np.float64], locus: Locus) -> NDArray[np.float64]:
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
    locus = Locus("one", 0, length)
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


def test_read_genes_equals_the_definition(gtf: Path) -> None:
    assert read_genes(gtf, [Locus("one", 0, 2000)]) == [
        Gene("G1", "ABC1", "one", 100, 400, "+", ((100, 250), (300, 400))),
        Gene("G2", "G2", "one", 350, 700, "-", ((350, 700),)),
        Gene("G3", "x<y & $z$", "one", 899, 901, ".", ((899, 901),)),
    ]
    zipped = gtf.with_name("genes.gtf.gz")
    zipped.write_bytes(gzip.compress(gtf.read_bytes()))
    names = {(400, 899): ["G2"], (399, 400): ["G1", "G2"], (700, 899): [], (900, 950): ["G3"]}
    for (start, end), expected in names.items():
        assert [gene.id for gene in read_genes(zipped, [Locus("one", start, end)])] == expected
    several = read_genes(gtf, [Locus("two", 0, 9), Locus("one", 800, 950)])
    assert [gene.name for gene in several] == ["ELSE", "x<y & $z$"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('one\tm\tgene\t1\t9\t.\t+\tgene_id "a";', "8 fields"),
        ('one\tm\tgene\tx\t9\t.\t+\t.\tgene_id "a";', "start 'x'"),
        ('one\tm\tgene\t0\t9\t.\t+\t.\tgene_id "a";', "start . and end . are no region"),
        ('one\tm\tgene\t9\t8\t.\t+\t.\tgene_id "a";', "start . and end . are no region"),
        ('six\tm\tCDS\t1\t9\t.\t?\t.\tgene_id "a";', "strand '\\?'"),
        ('one\tm\texon\t1\t9\t.\t+\t.\tgene_name "a";', "an? exon without gene_id"),
    ],
)
def test_read_genes_names_a_malformed_line(gtf: Path, line: str, message: str) -> None:
    gtf.write_text(GENES + line + "\n" + GENES)
    with pytest.raises(InputError, match=f"{gtf.name}, line 11: {message}"):
        read_genes(gtf, [Locus("one", 0, 2000)])


def test_read_genes_refuses_other_names_of_contigs(gtf: Path) -> None:
    with pytest.raises(InputError, match="no line about chrone; it has one, two"):
        read_genes(gtf, [Locus("chrone", 0, 10)])


def test_read_genes_finds_the_genes_of_yeast(data_dir: Path) -> None:
    path = data_dir / "yeast_genome" / "Saccharomyces_cerevisiae.R64-1-1.96.gtf.gz"
    with gzip.open(path, "rt") as file:
        lines = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    contigs = dict.fromkeys(line[0] for line in lines)
    expected = sorted(
        (line[0], int(line[3]) - 1, int(line[4]), line[6], re.search('gene_id "(.*?)"', line[8])[1])  # type: ignore[index]
        for line in lines
        if line[2] == "gene"
    )
    genes = read_genes(path, [Locus(contig, 0, 10**9) for contig in contigs])
    assert sorted((g.contig, g.start, g.end, g.strand, g.id) for g in genes) == expected
    assert len(genes) == 7036
    exons = sum(line[2] == "exon" for line in lines)
    assert 7036 <= sum(len(gene.exons) for gene in genes) <= exons == 7416


@pytest.mark.parametrize("gap", [0.0, 2.5])
def test_pack_rows_never_overlaps_and_wastes_no_row(gap: float) -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        starts = rng.integers(0, 100, 30)
        spans = [(float(s), float(s + size)) for s, size in zip(starts, rng.integers(1, 20, 30), strict=True)]
        rows = pack_rows(spans, gap)
        for row in set(rows):
            members = sorted(span for span, r in zip(spans, rows, strict=True) if r == row)
            assert all(a[1] + gap <= b[0] for a, b in itertools.pairwise(members))
        depth = max(sum(a <= s < b + gap for a, b in spans) for s, _ in spans)
        assert max(rows) + 1 == depth
    assert pack_rows([]) == []


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

    locus = Locus("one", 50, 1950)
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
    locus = Locus("one", 0, 1000)
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
    axes = draw([Panel("s", segments)], Locus("one", 0, 2000), crowded(400)).axes[1]
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
        ({"region": "one:5"}, ArgumentError, "expected contig:first-last"),
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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.bw", b"no bigWig at all", "is no bigWig file"),
        ("t.bw", b"", "is no bigWig file"),
        ("t.bw", b"\x26\xfc\x8f\x88" + bytes(200) + b"\x26\xfc\x8f\x88", "cannot be read as bigWig"),
        ("t.parquet", b"PAR1 and no more", "cannot be read as Parquet"),
        ("t.bedgraph", b"one\t1\t2\t3\none\t5\t2\t3\n", "t.bedgraph, line 2: start 5 and end 2"),
        ("t.bedgraph", b"one\t1\t2\n", "t.bedgraph, line 1: expected contig, start, end and a score"),
        ("t.bedgraph", b"one\t1\t2\tx\n", "t.bedgraph, line 1: expected contig, start, end and a score"),
    ],
)
def test_read_scores_refuses_damage(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_scores(tmp_path / name)


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_read_scores_refuses_a_bigwig_cut_short(bigwig: Path, kept: float) -> None:
    content = bigwig.read_bytes()
    bigwig.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(TruncatedInputError, match="is cut short"):
        read_scores(bigwig, [LOCUS])


def test_read_scores_of_parquet_names_wrong_places(tmp_path: Path) -> None:
    rows = random_rows(2, 500)
    contigs, starts, *_ = (list(column) for column in zip(*rows, strict=True))
    for column, values, message in [
        ("start", [None, *starts[1:]], "start nan"),
        ("end", [0, *starts[1:]], "end 0"),
        ("start", [1.5, *starts[1:]], "holds double, not integers"),
        ("contig", [None, *contigs[1:]], "without contig"),
        ("contig", [4] * len(rows), "holds int64, not strings"),
    ]:
        path = write_parquet(tmp_path / "t.parquet", rows, **{column: values})
        with pytest.raises(InputError, match=message):
            read_scores(path)


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


def test_plot_track_draws_the_gc_content_of_yeast(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "yeast_genome"
    genome = folder / "Saccharomyces_cerevisiae.R64-1-1.dna.toplevel.fa.gz"
    letters = next(r.sequence for r in read_sequences(genome) if r.id == "IV")
    rows = gc_windows("IV", letters, 50)
    track = write_bigwig(tmp_path / "gc.bw", rows, {"IV": len(letters)})
    genes = folder / "Saccharomyces_cerevisiae.R64-1-1.96.gtf.gz"
    out = tmp_path / "p.svg"
    report = fg.plot_track(track, out, region="IV:430001-450000", genes=genes, genome=genome)
    inside = [value for _, start, _, value in rows if 430_000 <= start < 450_000]
    (summary,) = report.tracks
    assert (summary.intervals, summary.lowest, summary.highest) == (400, min(inside), max(inside))
    named = {element.text for element in ElementTree.fromstring(out.read_text()).iter(f"{SVG}text")}
    expected = {gene.name for gene in read_genes(genes, [Locus("IV", 430_000, 450_000)])}
    assert expected <= named
    assert len(expected) == report.genes > 8
    assert picture._MOST_SEGMENTS > 400
