"""Every single-base change of a region: the same as those changes in a VCF, and a picture that shows them."""

import json
import random
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from genome_files import write
from scored_variants import ONE, run_variants
from small_variants import Line, edited, reverse_complement, vcf

import fastgenome as fg
from fastgenome.errors import ArgumentError, MissingExtraError
from fastgenome.regions import Region, parse_region
from fastgenome.scoring.saturation_picture import MOST_BASES, draw_saturation

WINDOW = 20
FIGURES = ("prediction_ref", "prediction_alt", "prediction_delta")


@pytest.fixture(scope="module")
def predictor() -> fg.Predictor:
    draw = random.Random(3)
    sequences = ["".join(draw.choices("ACGT", [1 + i % 5, 3, 1, 2], k=WINDOW)) for i in range(60)]
    values = [sequence.count("A") + 2.0 * sequence.count("GC") for sequence in sequences]
    return fg.finetune((sequences, values), model=None, features=("zcurve", "gc", "kmer"), task="regression")


@pytest.fixture(scope="module")
def contigs() -> dict[str, str]:
    draw = random.Random(9)
    letters = "".join(draw.choices("ACGTacgt", k=3000))
    return {"chr1": letters[:30] + "N" + letters[31:], "chr2": letters[:50]}


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("chr1:1-1", Region("chr1", 0, 1)),
        (" chr1:1,000-2,000 ", Region("chr1", 999, 2000)),
        ("HLA-A*01:01:5-9", Region("HLA-A*01:01", 4, 9)),
        ("a:b:1-2", Region("a:b", 0, 2)),
    ],
)
def test_parse_region_counts_from_one_and_holds_the_end(text: str, region: Region) -> None:
    assert parse_region(text) == region
    assert parse_region(str(region)) == region


@pytest.mark.parametrize(
    "text", ["chr1", "chr1:", "chr1:5", "chr1:5-", "chr1:0-4", "chr1:5-4", ":1-2", "c:1-2x", "c:-1-2",
             "c:,-,", "c:1-9223372036854775808", "c:1 - 2", "c:١-٢"]
)  # fmt: skip
def test_parse_region_refuses_what_is_none(text: str) -> None:
    with pytest.raises(ArgumentError, match="expected contig:start-end"):
        parse_region(text)


def test_saturate_scores_each_change_in_its_own_windows(
    predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    report = fg.saturate(predictor, genome, "chr1:21-60", out=out, window=WINDOW, run=ONE)
    letters = contigs["chr1"].upper()
    expected = []
    for start in range(20, 60):
        for alt in "ACGT":
            if letters[start] in ("N", alt):
                continue
            windows = edited(letters, start, letters[start], alt, WINDOW)
            scores = [
                np.mean([predictor.predict([one])[0] for one in (window, reverse_complement(window))])
                for window in windows
            ]
            expected.append((start, letters[start], alt, *scores, scores[1] - scores[0]))
    table = parquet.read_table(out).to_pydict()
    places = list(zip(table["start"], table["ref"], table["alt"], strict=True))
    assert places == [row[:3] for row in expected]
    assert set(table["contig"]) == {"chr1"}
    found = np.column_stack([table[name] for name in FIGURES])
    np.testing.assert_allclose(found, [row[3:] for row in expected], rtol=1e-5, atol=1e-4)
    assert (report.n_records, report.n_in, report.n_scored) == (39, 117, 117)


def test_saturate_equals_the_same_changes_as_variants(
    predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pysam")
    letters = contigs["chr2"].upper()
    lines = [
        Line("chr2", place, ".", base, tuple(other for other in "ACGT" if other != base))
        for place, base in enumerate(letters, 1)
    ]
    source = write(tmp_path / "in.vcf", vcf(lines))
    first, second = tmp_path / "first.tsv", tmp_path / "second.tsv"
    fg.saturate(predictor, genome, Region("chr2", 0, 50), out=first, window=WINDOW, run=ONE)
    fg.score_variants(predictor, source, genome, out=second, window=WINDOW, run=ONE)
    assert first.read_text() == second.read_text()
    aliased = fg.saturate(predictor, genome, "2:1-50", out=tmp_path / "third.tsv", window=WINDOW, run=ONE)
    assert aliased.aliases == {"2": "chr2"}


def test_saturate_rejects_changes_without_room(predictor: fg.Predictor, tmp_path: Path) -> None:
    genome = write(tmp_path / "g.fa", ">a\n" + "N" * 30 + "ACGT" * 10 + "\n>b\nACGT\n")
    out = tmp_path / "out.tsv"
    report = fg.saturate(predictor, genome, "b:1-4", out=out, window=WINDOW, run=ONE)
    assert (report.n_in, report.n_scored, report.reasons) == (12, 0, {"contig_too_short": 12})
    # Of the window around base 31 the first nine are unknown, of that around base 38 two of twenty.
    out = tmp_path / "unknown.tsv"
    report = fg.saturate(predictor, genome, "a:29-40", out=out, window=WINDOW, run=ONE)
    assert (report.n_records, report.n_in, report.reasons) == (10, 30, {"too_many_n": 21})
    assert len(report.alleles.rejections) == 21
    rows = [line.split("\t") for line in Path(f"{out}.rejected.tsv").read_text().splitlines()]
    assert len(rows) == 22
    assert {row[rows[0].index("reason")] for row in rows[1:]} == {"too_many_n"}


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_saturate_draws_a_picture(ending: str, predictor: fg.Predictor, genome: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pictures = []
    for name in ("first", "again"):
        picture = tmp_path / f"{name}.{ending}"
        out = tmp_path / f"{name}.tsv"
        report = fg.saturate(
            predictor, genome, "chr1:20-60", out=out, window=WINDOW, picture=picture, run=ONE
        )
        assert list(report.outputs) == [str(out), str(picture), f"{out}.rejected.tsv"]
        pictures.append(picture.read_bytes())
    assert pictures[0] == pictures[1]
    if ending == "png":
        assert pictures[0].startswith(b"\x89PNG")
    else:
        assert ElementTree.fromstring(pictures[0]).tag.endswith("svg")


def test_picture_shows_each_change_in_its_cell(
    predictor: fg.Predictor,
    contigs: dict[str, str],
    genome: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    shown, real = [], Axes.imshow

    def imshow(self: Axes, grid: np.ndarray, **options: object) -> object:
        shown.append((grid.copy(), options))
        return real(self, grid, **options)

    monkeypatch.setattr(Axes, "imshow", imshow)
    out = tmp_path / "out.parquet"
    fg.saturate(predictor, genome, "chr1:21-60", out=out, window=WINDOW, picture=tmp_path / "x.png", run=ONE)
    (grid, options), table = shown[0], parquet.read_table(out).to_pydict()
    assert options["extent"] == (20.5, 60.5, -0.5, 3.5)
    assert options["vmax"] == -options["vmin"] == np.abs(table["prediction_delta"]).max()
    expected = np.full((4, 40), np.nan, dtype=np.float32)
    for start, alt, delta in zip(table["start"], table["alt"], table["prediction_delta"], strict=True):
        expected["ACGT".index(alt), start - 20] = delta
    np.testing.assert_array_equal(grid, expected)
    assert np.isnan(grid).sum() == 40 + 3


def test_picture_without_any_score_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    # Dollars and braces are no formulas.
    draw_saturation(tmp_path / "x.svg", Region("c$x_{$", 4, 9), [], ["low $x_{$_delta", "l2_distance"])
    text = (tmp_path / "x.svg").read_text()
    assert text.count("<image") <= 2


def test_saturate_of_a_model_gives_distances(genome: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    model = fg.load("tiny")
    report = fg.saturate(
        model, genome, "chr1:100-110", out=out, window=40, picture=tmp_path / "x.png", run=ONE
    )
    assert report.figures == ("cosine_distance", "l2_distance")
    table = parquet.read_table(out)
    assert (table["l2_distance"].to_numpy() > 0).all()
    assert (tmp_path / "x.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("region", "changes", "message"),
    [
        ("chr9:1-2", {}, "no contig 'chr9'"),
        ("chr2:40-51", {}, "does not lie within chr2, which has 50 bases"),
        (Region("chr2", 4, 4), {}, "does not lie within"),
        (Region("chr2", -1, 4), {}, "does not lie within"),
        ("chr2:1-9", {"out": "x.vcf"}, "ending"),
        ("chr2:1-9", {"picture": "x.jpg"}, "ending"),
        ("chr2:1-9", {"out": "none/x.tsv"}, "there is no folder"),
        ("chr2:1-9", {"out": "taken.tsv"}, "not a regular file"),
        (f"chr1:1-{MOST_BASES + 1}", {"picture": "x.png"}, "at most"),
        ("chr2:1-9", {"window": 1}, "at least"),
    ],
)
def test_saturate_refuses_what_it_cannot_do(
    region: str,
    changes: dict[str, object],
    message: str,
    predictor: fg.Predictor,
    genome: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.tsv").mkdir()
    arguments = {"out": "x.tsv", "window": WINDOW, "run": ONE, **changes}
    with pytest.raises(ArgumentError, match=message):
        fg.saturate(predictor, genome, region, **arguments)
    assert not list(tmp_path.glob("x.*"))


def test_saturate_refuses_a_picture_of_too_many_scores(
    predictor: fg.Predictor, genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastgenome.scoring.saturation.MOST_PANELS", 0)
    arguments = {"out": tmp_path / "x.tsv", "window": WINDOW, "run": ONE}
    with pytest.raises(ArgumentError, match="and 0 scores"):
        fg.saturate(predictor, genome, "chr2:1-9", picture=tmp_path / "x.png", **arguments)
    assert fg.saturate(predictor, genome, "chr2:1-9", **arguments).n_scored == 27


def test_saturate_names_the_extra_that_pictures_need(
    predictor: fg.Predictor, genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out = tmp_path / "x.tsv"
    with pytest.raises(MissingExtraError, match=r"fastgenome\[plot\]"):
        fg.saturate(
            predictor, genome, "chr2:1-9", out=out, window=WINDOW, picture=tmp_path / "x.png", run=ONE
        )
    assert not out.exists()


def test_variants_command_saturates_a_region(predictor: fg.Predictor, genome: Path, tmp_path: Path) -> None:
    predictor.save(tmp_path / "run")
    out, picture = tmp_path / "map.tsv", tmp_path / "map.svg"
    outs = ("-o", out, "--picture", picture, "--json")
    result = run_variants(tmp_path / "run", genome, "--saturate", "chr1:40-49", *outs, window=WINDOW)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["alleles"]["n_scored"] == 30
    assert len(out.read_text().splitlines()) == 31
    assert picture.exists()


def test_variants_command_refuses_options_that_saturate_has_no_use_for(
    predictor: fg.Predictor, genome: Path, tmp_path: Path
) -> None:
    predictor.save(tmp_path / "run")
    arguments = ("--saturate", "chr1:1-9", "-o", tmp_path / "map.tsv")
    for wrong in (("--info-prefix", "X_"), ("--max-ref-mismatch", "0.5")):
        result = run_variants(tmp_path / "run", genome, *arguments, *wrong, window=WINDOW)
        assert result.exit_code == 1
        assert "for a VCF or BCF file" in result.stderr
    assert not (tmp_path / "map.tsv").exists()
