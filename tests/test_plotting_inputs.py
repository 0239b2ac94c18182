"""What tracks and genes are read as, against definitions written out base by base; what is refused."""

import itertools
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from plotting_files import (
    LENGTHS,
    Rows,
    expanded,
    per_base,
    random_rows,
    write_bedgraph,
    write_bigwig,
    write_parquet,
)

from fastgenome.errors import ArgumentError, InputError, TruncatedInputError
from fastgenome.plotting import score_files
from fastgenome.plotting import segments as segments_module
from fastgenome.plotting.locus import Extents, parse_locus, within
from fastgenome.plotting.score_files import read_scores
from fastgenome.plotting.segments import binned, segments_of
from fastgenome.regions import Region

pytest.importorskip("pyBigWig", reason="pyBigWig is not installed")

LOCUS = Region("one", 130, 1777)


@pytest.mark.parametrize(
    ("text", "locus"),
    [
        ("IV:1-100", Region("IV", 0, 100)),
        ("IV:7-7", Region("IV", 6, 7)),
        (" chr1:1,001-20,000 ", Region("chr1", 1000, 20000)),
        ("HLA-A*01:01:5-9", Region("HLA-A*01:01", 4, 9)),
        ("IV", Region("IV", 0, 2**63 - 1)),
    ],
)
def test_parse_locus_counts_from_one(text: str, locus: Region) -> None:
    assert parse_locus(text) == locus
    if locus.end < 2**63 - 1:
        assert parse_locus(str(locus)) == locus


@pytest.mark.parametrize("text", ["", "IV:", "IV:5", "IV:0-5", "IV:9-8", "IV:-5", ":1-2-"])
def test_parse_locus_refuses_what_names_no_bases(text: str) -> None:
    with pytest.raises(ArgumentError, match="region"):
        parse_locus(text)


def test_within_ends_a_whole_contig_and_refuses_the_outside() -> None:
    known, held = Extents("f", LENGTHS, exact=True), Extents("f", LENGTHS, exact=False)
    assert within(parse_locus("one"), [known]) == Region("one", 0, 2000)
    assert within(Region("one", 1999, 2000), [known]) == Region("one", 1999, 2000)
    assert within(Region("one", 1999, 2001), [held]).end == 2001
    for locus, file in [(Region("one", 0, 2001), known), (Region("one", 2000, 2001), held)]:
        with pytest.raises(ArgumentError, match=r"2,000|2,001"):
            within(locus, [file])
    with pytest.raises(ArgumentError, match="no contig 'six'; it has one, two"):
        within(Region("six", 0, 1), [known])


def test_within_ends_a_whole_contig_of_several_files_in_any_order() -> None:
    files = [Extents(name, {"one": end}, name[0] == "e") for name, end in
             [("held 9", 9), ("held 30", 30), ("exact 20", 20), ("exact 25", 25)]]  # fmt: skip
    whole = parse_locus("one")
    for order in itertools.permutations(files[:2]):
        assert within(whole, order) == Region("one", 0, 30)
    for order in itertools.permutations(files[:3]):
        assert within(whole, order) == Region("one", 0, 20)
    # Two genomes: neither is taken for the other.
    for order in itertools.permutations(files):
        with pytest.raises(ArgumentError, match="region one:1-25: one has 20 bases in exact 20"):
            within(whole, order)


@pytest.mark.parametrize("piece", [1 << 20, 100])
def test_read_scores_equals_what_pybigwig_reads(
    bigwig: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    import pyBigWig

    monkeypatch.setattr(score_files, "_BASES_AT_A_TIME", piece)
    found = read_scores(bigwig, [LOCUS, Region("two", 0, 300)])
    assert (found.lengths, found.exact, [track.name for track in found.tracks]) == (LENGTHS, True, ["scores"])
    # Pieces are cut, and nothing is read twice.
    one = found.tracks[0].intervals["one"]
    assert (one.starts[1:] >= one.ends[:-1]).all()
    with pyBigWig.open(str(bigwig)) as file:
        for contig, start, end in (LOCUS, ("two", 0, 300)):
            locus = Region(contig, start, end)
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


def test_a_large_score_leaves_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    starts, ends = np.array([0, 5, 100, 104]), np.array([10, 15, 110, 114])
    values = np.array([1e20, 0.5, 0.25, 0.75])
    for at_a_time in (1, 2, 100):
        monkeypatch.setattr(segments_module, "_PIECES_AT_A_TIME", at_a_time)
        segments = segments_of(starts, ends, values, Region("c", 0, 200))
        assert segments.starts.tolist() == [0, 5, 10, 100, 104, 110]
        np.testing.assert_allclose(segments.values, [1e20, 5e19, 0.5, 0.25, 0.5, 0.75])
    bins = binned(segments, Region("c", 0, 200), 20)
    assert bins.starts.tolist() == [0, 10, 100, 110]
    np.testing.assert_allclose(bins.means, [7.5e19, 0.5, 0.4, 0.75])


def test_infinite_scores_are_left_blank_and_counted() -> None:
    values = np.array([1.0, np.inf, np.nan, -np.inf, 2.0])
    starts = np.arange(5) * 10
    segments = segments_of(starts, starts + 10, values, Region("one", 0, 45))
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
