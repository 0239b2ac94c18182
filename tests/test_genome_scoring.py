"""Scores of genomes: each window against its definition, tracks against tables."""

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from genome_files import bgzf, two_bit
from scored_genomes import (
    COMPLEMENT,
    HERE,
    defined_windows,
    letters,
    make_contigs,
    read_scores,
    trained,
    write_fasta,
)
from typer.testing import CliRunner

import fastgenome as fg
from fastgenome.cli import app
from fastgenome.errors import ArgumentError
from fastgenome.scoring import window_plan
from fastgenome.scoring.tracks import check_bigwig
from fastgenome.scoring.window_plan import WindowOptions

pyBigWig = pytest.importorskip("pyBigWig")


@pytest.fixture(scope="module")
def of_features() -> fg.Predictor:
    return trained(None, ("gc", "kmer", "zcurve"))


@pytest.fixture(scope="module")
def of_gc() -> fg.Predictor:
    return trained(None, ("gc",))


@pytest.fixture(scope="module")
def of_tiny() -> fg.Predictor:
    return trained("tiny", ("gc",))


@pytest.fixture(scope="module")
def contigs() -> dict[str, str]:
    return make_contigs()


@pytest.fixture
def genome(tmp_path: Path, contigs: dict[str, str]) -> Path:
    return write_fasta(tmp_path / "genome.fa", contigs)


def defined_scores(
    predictor: fg.Predictor, contigs: dict[str, str], options: WindowOptions
) -> list[tuple[str, int, int, np.ndarray]]:
    """Contig, start, end and outputs of each window, every one made and judged by itself."""
    found = []
    for name, text in contigs.items():
        for start in defined_windows(len(text), options):
            window = text[start : start + options.window].upper()
            if window.count("N") / len(window) > options.max_n:
                continue
            padded = window.ljust(options.window, "N")
            strands = {"forward": [padded], "reverse": [padded[::-1].translate(COMPLEMENT)]}
            chosen = strands.get(options.strand) or strands["forward"] + strands["reverse"]
            scores = predictor.predict_proba(chosen).mean(axis=0)
            found.append((name, start, start + len(window), scores))
    return found


@pytest.mark.parametrize("edge", ["skip", "pad"])
@pytest.mark.parametrize(("window", "stride"), [(64, 16), (60, 60), (50, 70), (33, 7)])
def test_window_options_count_windows(edge: str, window: int, stride: int) -> None:
    options = WindowOptions(window, stride, edge=edge)
    lengths = np.arange(0, 260)
    counted = [len(defined_windows(length, options)) for length in lengths.tolist()]
    assert options.count(lengths).tolist() == counted


@pytest.mark.parametrize("strand", ["forward", "reverse", "both"])
@pytest.mark.parametrize("edge", ["skip", "pad"])
@pytest.mark.parametrize("kind", ["of_features", "of_tiny"])
def test_score_genome_scores_each_window_as_if_alone(
    kind: str, edge: str, strand: str, genome: Path, contigs: dict[str, str], request: pytest.FixtureRequest
) -> None:
    predictor = request.getfixturevalue(kind)
    options = WindowOptions(60, 25, strand, edge, max_n=0.2)
    out = genome.with_name("scores.parquet")
    report = fg.score_genome(
        predictor, genome, out=out, window=60, stride=25, strand=strand, edge=edge, max_n=0.2, run=HERE
    )
    expected = defined_scores(predictor, contigs, options)
    found = read_scores(out)
    assert list(found) == [row[:3] for row in expected]
    np.testing.assert_allclose(list(found.values()), [row[3][1] for row in expected], rtol=2e-5, atol=1e-6)
    assert report.windows.n_scored == len(expected)
    assert report.windows.reasons.keys() == {"too_many_n"}
    assert report.records.n_in == 3
    assert report.records.reasons == ({"too_short": 1} if edge == "skip" else {})


@pytest.mark.parametrize("stride", [20, 50])
def test_score_genome_writes_tracks_that_hold_the_numbers_of_the_table(
    stride: int, genome: Path, contigs: dict[str, str], of_features: fg.Predictor
) -> None:
    names = ["scores.parquet", "scores.bw", "scores.bedgraph.gz", "scores.bed", "scores.tsv"]
    outs = [genome.with_name(name) for name in names]
    fg.score_genome(of_features, genome, out=outs, window=60, stride=stride, edge="pad", run=HERE)
    scores = read_scores(outs[0])
    first, last = (60 - stride) // 2, (60 + stride) // 2
    bins = {
        (name, start + first, min(start + last, len(contigs[name]))): value
        for (name, start, _), value in scores.items()
        if start + first < len(contigs[name])
    }
    with pyBigWig.open(str(outs[1])) as track:
        assert track.chroms() == {name: len(text) for name, text in contigs.items()}
        values = {name: track.values(name, 0, len(text), numpy=True) for name, text in contigs.items()}
        covered = sum(end - start for _, start, end in bins)
        assert track.header()["nBasesCovered"] == covered
    drawn = {name: np.full(len(text), np.nan, dtype=np.float32) for name, text in contigs.items()}
    for (name, start, end), value in bins.items():
        drawn[name][start:end] = value
    for name in contigs:
        np.testing.assert_array_equal(values[name].astype(np.float32), drawn[name])
    lines = [line.split("\t") for line in gzip.decompress(outs[2].read_bytes()).decode().splitlines()]
    assert {(name, int(start), int(end)): np.float32(value) for name, start, end, value in lines} == bins
    bed = [line.split("\t") for line in outs[3].read_text().splitlines()]
    assert {(row[0], int(row[1]), int(row[2])): np.float32(row[6]) for row in bed} == scores
    assert [int(row[4]) for row in bed] == [round(1000 * float(value)) for value in scores.values()]
    rows = [line.split("\t") for line in outs[4].read_text().splitlines()]
    assert rows[0] == ["contig", "start", "end", "probability_1"]
    assert [np.float32(row[3]) for row in rows[1:]] == list(scores.values())


@pytest.mark.parametrize("lost", [1, 4, 100, 0.5])
def test_check_bigwig_finds_a_file_cut_short(lost: float, genome: Path, of_features: fg.Predictor) -> None:
    out = genome.with_name("scores.bw")
    fg.score_genome(of_features, genome, out=out, window=60, stride=20, run=HERE)
    with pyBigWig.open(str(out)) as track:
        covered = track.header()["nBasesCovered"]
    check_bigwig(out, out, covered)
    with pytest.raises(OSError, match=r"scores\.bw could not be written"):
        check_bigwig(out, out, covered + 1)
    content = out.read_bytes()
    out.write_bytes(content[: int(len(content) * lost) if lost < 1 else -int(lost)])
    with pytest.raises(OSError, match=r"scores\.bw could not be written"):
        check_bigwig(out, out, covered)


def test_score_genome_writes_a_track_for_each_class(genome: Path) -> None:
    out = genome.with_name("scores.bw")
    report = fg.score_genome(
        trained(None, ("gc",), classes=3), genome, out=[out, out.with_suffix(".parquet")], window=90, run=HERE
    )
    table = parquet.read_table(out.with_suffix(".parquet")).to_pydict()
    for label in (0, 1, 2):
        path = out.with_name(f"scores.probability_{label}.bw")
        assert str(path) in report.outputs
        with pyBigWig.open(str(path)) as track:
            numbers = [interval[2] for name in track.chroms() for interval in track.intervals(name) or ()]
        assert numbers == table[f"probability_{label}"]


def test_score_genome_reads_every_format_alike(
    tmp_path: Path, contigs: dict[str, str], of_features: fg.Predictor
) -> None:
    fasta = write_fasta(tmp_path / "genome.fa", contigs)
    upper = {name: text.upper() for name, text in contigs.items()}
    (tmp_path / "plain.fa.gz").write_bytes(gzip.compress(fasta.read_bytes()))
    (tmp_path / "blocks.fa.gz").write_bytes(bgzf(fasta.read_bytes(), 512))
    (tmp_path / "genome.2bit").write_bytes(two_bit(upper))
    found = []
    for name in ("genome.fa", "plain.fa.gz", "blocks.fa.gz", "genome.2bit"):
        out = tmp_path / f"{name}.parquet"
        fg.score_genome(of_features, tmp_path / name, out=out, window=50, stride=30, run=HERE)
        found.append(out.read_bytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize("windows_of_a_shard", [2, 1000])
def test_score_genome_scores_regions_and_their_aggregates(
    windows_of_a_shard: int,
    genome: Path,
    contigs: dict[str, str],
    of_features: fg.Predictor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(window_plan, "_SHARD_WINDOWS", windows_of_a_shard)
    bed = genome.with_name("regions.bed")
    bed.write_text(
        "chrB\t100\t260\tlate\nchrA\t5\t225\tfirst\nnone\t0\t90\nchrA\t0\t9999\nchrA\t30\t60\ttiny\n"
        "chrA\t700\t790\tgap\nchrB\tx\t9\nchrA\t120\t333\tsecond\n"
    )
    out = genome.with_name("windows.parquet")
    report = fg.score_genome(
        of_features, genome, out=out, window=60, stride=25, regions=bed, strand="forward", run=HERE
    )
    found = parquet.read_table(out).to_pydict()
    expected = [
        (contig, start, name)
        for contig, begin, end, name in [
            ("chrA", 5, 225, "first"),
            ("chrA", 120, 333, "second"),
            ("chrB", 100, 260, "late"),
        ]
        for start in range(begin, end - 60 + 1, 25)
    ]
    assert list(zip(found["contig"], found["start"], found["name"], strict=True)) == expected
    windows = [contigs[contig][start : start + 60].upper() for contig, start, _ in expected]
    scores = of_features.predict_proba(windows)[:, 1]
    np.testing.assert_allclose(found["probability_1"], scores, rtol=1e-6)
    assert (report.records.n_in, report.records.n_scored) == (8, 3)
    assert report.records.reasons == {
        "unknown_contig": 1, "outside_contig": 1, "malformed": 1, "too_short": 1, "too_many_n": 1,
    }  # fmt: skip
    table = genome.with_name("regions.tsv")
    fg.score_genome(
        of_features, genome, out=table, window=60, stride=25, regions=bed, strand="forward",
        aggregates=["mean", "max"], run=HERE,
    )  # fmt: skip
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    assert rows[0] == ["contig", "start", "end", "name", "windows", "probability_1_mean", "probability_1_max"]
    for row in rows[1:]:
        own = [score for score, (_, _, name) in zip(scores, expected, strict=True) if name == row[3]]
        assert int(row[4]) == len(own)
        np.testing.assert_allclose([float(row[5]), float(row[6])], [np.mean(own), max(own)], rtol=1e-6)
    with pytest.raises(ArgumentError, match="overlap"):
        fg.score_genome(
            of_features, genome, out=out.with_suffix(".bw"), window=60, stride=25, regions=bed, run=HERE
        )


def test_score_genome_writes_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr = pytest.importorskip("zarr")
    monkeypatch.setattr(window_plan, "_SHARD_WINDOWS", 3)
    text = letters(9, 500)
    genome = write_fasta(tmp_path / "one.fa", {"first": text[:200], "second": text[200:]})
    model = fg.load("tiny")
    outs = [tmp_path / "windows.zarr", tmp_path / "windows.parquet"]
    fg.score_genome(model, genome, out=outs, window=100, stride=50, strand="forward", run=HERE)
    places = [(0, start) for start in (0, 50, 100)] + [(1, start) for start in range(0, 201, 50)]
    windows = [text[200 * contig + start :][:100] for contig, start in places]
    group = zarr.open_group(str(outs[0]), mode="r")
    np.testing.assert_allclose(group["embedding"][:], model.embed(windows), atol=2e-5)
    assert group["start"][:].tolist() == [start for _, start in places]
    assert [group.attrs["contigs"][place] for place in group["contig"][:]] == ["first"] * 3 + ["second"] * 5
    of_table = np.array(parquet.read_table(outs[1])["embedding"].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(of_table, group["embedding"][:])
    again = {"out": outs, "window": 100, "stride": 50, "strand": "forward", "run": HERE}
    assert fg.score_genome(model, genome, **again).earlier
    shutil.rmtree(outs[0] / "embedding")
    assert not fg.score_genome(model, genome, **again).earlier
    assert zarr.open_group(str(outs[0]), mode="r")["embedding"].shape == (8, 768)
    with pytest.raises(ArgumentError, match=r"no track; use \.zarr"):
        fg.score_genome(model, genome, out=tmp_path / "x.bw", window=100, run=HERE)


def test_score_genome_without_any_window_writes_empty_files(
    tmp_path: Path, of_features: fg.Predictor
) -> None:
    genome = write_fasta(tmp_path / "short.fa", {"a": "ACGT" * 5})
    outs = [tmp_path / f"scores{ending}" for ending in (".parquet", ".bw", ".tsv", ".bed", ".bedgraph")]
    report = fg.score_genome(of_features, genome, out=outs, window=60, run=HERE)
    assert report.records.reasons == {"too_short": 1}
    assert parquet.read_table(outs[0]).column_names == ["contig", "start", "end", "probability_1"]
    assert [out.stat().st_size for out in outs[3:]] == [0, 0]


def test_score_command_writes_a_report(genome: Path, tmp_path: Path, of_features: fg.Predictor) -> None:
    of_features.save(tmp_path / "predictor")
    out = tmp_path / "scores.parquet"
    arguments = ["score", str(genome), "--predictor", str(tmp_path / "predictor"), "--window", "60"]
    arguments += ["--workers", "1", "--json", "-o", str(out)]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    report = json.loads(first.output)
    assert report == {**json.loads((tmp_path / "scores.parquet.report.json").read_text())}
    assert report["windows"]["n_scored"] == parquet.read_table(out).num_rows
    assert report["footprint"]["energy_kwh"] > 0
    # The same again is told, not computed.
    again = json.loads(CliRunner().invoke(app, arguments).output)
    assert again["earlier"] is True
    wrong = CliRunner().invoke(app, [*arguments, "--shard", "5/4"])
    assert wrong.exit_code == 1


@pytest.fixture(autouse=True)
def _restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == threads


MEASURE = """
import sys
from pathlib import Path
import fastgenome as fg
folder, genome = sys.argv[1:]
fg.score_genome(folder, genome, out=[genome + ".parquet", genome + ".bw"], window=1000, stride=500,
                run=fg.RunOptions(workers=1))
status = Path("/proc/self/status").read_text()
print(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_score_genome_needs_no_more_memory_for_a_long_chromosome(tmp_path: Path, of_gc: fg.Predictor) -> None:
    of_gc.save(tmp_path / "predictor")
    peaks = []
    for megabases in (20, 200):
        genome = tmp_path / f"{megabases}.fa"
        genome.write_bytes(b">one line\n" + letters(1, 1_000_000).encode() * megabases + b"\n")
        command = [sys.executable, "-c", MEASURE, str(tmp_path / "predictor"), str(genome)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True).stdout))
        assert parquet.ParquetFile(f"{genome}.parquet").metadata.num_rows == megabases * 2000 - 1
    assert peaks[1] <= 1.2 * peaks[0]
