"""The command line: every command end to end, bad input, exit codes, JSON."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_checkpoints import write_tiny
from typer.testing import CliRunner, Result

import fastgenome as fg
from fastgenome.cli import app
from fastgenome.errors import InputError
from fastgenome.models import REGISTRY, RegisteredModel
from fastgenome.scoring import sequence_table
from fastgenome.scoring.writers import TableWriter

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def random_dna(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "in.fa"
    records = {"a": random_dna(2500), "b": random_dna(700, 1).lower(), "c": "N" * 50}
    path.write_text("".join(f">{name} text\n{sequence}\n" for name, sequence in records.items()))
    return path


def test_embed_windows_to_parquet(fasta: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    result = run("embed", fasta, "-o", out, "--window", 1000, "--stride", 1000, "--json")
    assert result.exit_code == 0, result.output
    table = pq.read_table(out)
    spans = list(zip(*(table[name].to_pylist() for name in ("id", "start", "end")), strict=True))
    assert spans == [("a", 0, 1000), ("a", 1000, 2000), ("a", 2000, 2500), ("b", 0, 700), ("c", 0, 50)]
    report = json.loads(result.stdout)
    assert (report["rows"], report["bases"]) == (5, 3250)
    reading = report["reading"]
    assert reading["n_in"] == reading["n_out"] + reading["n_rejected"] == 3
    assert reading["lowercase_bases"] == 700
    expected = fg.load("tiny").embed([random_dna(2500)[1000:2000], random_dna(700, 1)])
    stored = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    np.testing.assert_allclose(stored[[1, 3]], expected, atol=2e-2)
    assert stored.shape[1] == fg.load("tiny").embedding_dim


def test_embed_reads_standard_input_and_writes_standard_output(fasta: Path) -> None:
    result = run("embed", "-", "-o", "-", "--dtype", "float32", stdin=gzip.compress(fasta.read_bytes()))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split("\t")[:2] == ["id", "embedding_0"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["a", "b", "c"]
    assert "3 rows" in result.stderr


def test_embed_npy_holds_the_matrix(fasta: Path, tmp_path: Path) -> None:
    assert run("embed", fasta, "-o", tmp_path / "e.npy", "--pooling", "mean", "--layer", 0).exit_code == 0
    assert np.load(tmp_path / "e.npy").shape == (3, fg.load("tiny").dim)


def test_embed_too_long_names_the_option(tmp_path: Path) -> None:
    path = tmp_path / "long.fa"
    path.write_text(f">short\n{random_dna(100)}\n>chromosome\n{random_dna(10_000)}\n")
    result = run("embed", path, "-o", tmp_path / "out.tsv")
    assert result.exit_code == 1
    assert "record 'chromosome'" in result.stderr
    assert "--window" in result.stderr
    assert not (tmp_path / "out.tsv").exists()


def test_embed_truncated_gzip_leaves_nothing(fasta: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.fa.gz"
    path.write_bytes(gzip.compress(fasta.read_bytes())[:-20])
    result = run("embed", path, "-o", tmp_path / "out.parquet")
    assert result.exit_code == 1
    assert "fastgenome: error:" in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.fa.gz", "in.fa"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (">p\nMKVLAAGIVGLPNVGKSTL\n", "this looks like protein"),
        ("", "in.fa holds no records"),
        (">a\n\n>b\n\n", "2 rejected (empty 2)"),
    ],
    ids=["protein", "nothing", "empty-records"],
)
def test_embed_refuses_what_is_no_dna(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "in.fa"
    path.write_text(content)
    result = run("embed", path, "-o", tmp_path / "out.tsv")
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "out.tsv").exists()


@pytest.fixture
def with_rejects(tmp_path: Path) -> Path:
    path = tmp_path / "in.fa"
    path.write_text(f">good\n{random_dna(100)}\n>more\n{random_dna(90)}\n>bad\nACGTEFJ\n>void\n\n")
    return path


def test_rejects_are_listed(with_rejects: Path, tmp_path: Path) -> None:
    result = run("features", with_rejects, "-o", tmp_path / "out.tsv")
    assert result.exit_code == 0
    assert "4 records read, 2 used, 2 rejected" in result.stdout
    assert "rejected record 3 (bad): not_dna" in result.stdout


@pytest.mark.parametrize("command", ["features", "embed"])
def test_strict_leaves_no_output_and_gives_the_account(
    with_rejects: Path, tmp_path: Path, command: str
) -> None:
    result = run(command, with_rejects, "-o", tmp_path / "out.tsv", "--strict", "--json", "--emissions")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert [r["reason"] for r in report["reading"]["rejections"]] == ["not_dna", "empty"]
    assert report["emissions"]["seconds"] > 0
    assert json.loads(result.stderr)["error"] == "RejectedRecordsError"
    assert "2 of the 4 records" in json.loads(result.stderr)["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["in.fa"]


def test_strict_passes_where_nothing_is_rejected(fasta: Path, tmp_path: Path) -> None:
    assert run("features", fasta, "-o", tmp_path / "out.tsv", "--strict").exit_code == 0
    assert (tmp_path / "out.tsv").exists()


def ids_of(path: Path) -> list[str]:
    return [line.split("\t")[0] for line in path.read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    ("arguments", "ids", "text"),
    [
        ([], ["a", "b", "a"], "1 repeated ids kept"),
        (["--duplicates", "reject"], ["a", "b"], "rejected record 3 (a): duplicate_id"),
        (["--duplicates", "ignore"], ["a", "b", "a"], "3 records read, 3 used, 0 rejected\n"),
    ],
    ids=["keep", "reject", "ignore"],
)
def test_duplicate_ids_are_counted_or_rejected(
    tmp_path: Path, arguments: list[str], ids: list[str], text: str
) -> None:
    path, out = tmp_path / "in.fa", tmp_path / "out.tsv"
    path.write_text(">a\nACGTA\n>b\nGGGGG\n>a\nCCCCC\n")
    result = run("features", path, "-o", out, "--set", "gc", *arguments)
    assert result.exit_code == 0, result.output
    assert ids_of(out) == ids
    assert text in result.stdout


@pytest.mark.parametrize(
    ("arguments", "ids", "text"),
    [
        ([], ["a", "n"], "1 records of N alone kept"),
        (["--all-n", "reject"], ["a"], "rejected record 2 (n): all_n, 8 bases, all of them N"),
    ],
    ids=["keep", "reject"],
)
def test_all_n_records_are_counted_or_rejected(
    tmp_path: Path, arguments: list[str], ids: list[str], text: str
) -> None:
    path, out = tmp_path / "in.fa", tmp_path / "out.tsv"
    path.write_text(">a\nACGTACGT\n>n\nNNNNNNNN\n")
    result = run("features", path, "-o", out, *arguments)
    assert result.exit_code == 0, result.output
    assert ids_of(out) == ids
    assert text in result.stdout


def test_records_shorter_than_k_are_rejected(tmp_path: Path) -> None:
    path, out = tmp_path / "in.fa", tmp_path / "out.tsv"
    path.write_text(">a\nACGT\n>b\nACG\n")
    assert (
        "rejected record 2 (b): too_short, 3 bases, fewer than 4" in run("features", path, "-o", out).stdout
    )
    assert ids_of(out) == ["a"]
    assert run("features", path, "-o", out, "--set", "gc,zcurve").exit_code == 0
    assert ids_of(out) == ["a", "b"]


FASTA = b">a\nAC-GT..\nacgt\n>b\nGGGGC\n"


@pytest.mark.parametrize(
    "content",
    [
        FASTA,
        FASTA.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + FASTA,
        gzip.compress(FASTA[:20]) + gzip.compress(FASTA[20:]),
    ],
    ids=["plain", "crlf", "bom", "gzip-members"],
)
@pytest.mark.parametrize("from_stdin", [False, True], ids=["file", "stdin"])
def test_every_way_of_writing_gives_the_same_table(tmp_path: Path, content: bytes, from_stdin: bool) -> None:
    path = tmp_path / "in.fa"
    path.write_bytes(content)
    source = "-" if from_stdin else path
    result = run("features", source, "-o", tmp_path / "out.tsv", "--set", "gc", stdin=content)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.tsv").read_text() == "id\tgc__gc_content\na\t0.5\nb\t1\n"
    assert "4 lower-case bases raised; 3 gap characters removed" in result.stdout


def test_output_may_not_be_the_input(tmp_path: Path) -> None:
    path, link = tmp_path / "t.csv", tmp_path / "link.csv"
    path.write_text("sequence\nACGTACGT\n")
    link.symlink_to(path)
    for source, out in ((path, path), (link, path), (path, link)):
        result = run("features", source, "-o", out)
        assert result.exit_code == 1
        assert "is the input itself" in result.stderr
    assert path.read_text() == "sequence\nACGTACGT\n"


@pytest.mark.parametrize("command", ["embed", "features"])
def test_failure_after_rows_were_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(sequence_table, "BASES_AT_A_TIME", 1 << 14)
    rows = []
    write = TableWriter.write
    monkeypatch.setattr(
        TableWriter, "write", lambda self, columns: (rows.append(len(columns["id"])), write(self, columns))
    )
    path = tmp_path / "in.fa.gz"
    content = gzip.compress(
        "".join(f">{i}\n{random_dna(2000, i)}\n" for i in range(800)).encode(), compresslevel=1
    )
    # Stored bytes are read in pieces of 256 kB; the damage stands in the second.
    assert len(content) > 400_000
    path.write_bytes(content[:-80_000] + b"\xff" * 80_000)
    extra = ["--layer", 0, "--pooling", "mean"] if command == "embed" else ["--set", "gc"]
    result = run(command, path, "-o", tmp_path / "out.parquet", *extra)
    assert result.exit_code == 1
    assert "damaged gzip data" in result.stderr
    assert sum(rows) > 50
    assert [found.name for found in tmp_path.iterdir()] == ["in.fa.gz"]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("none/out.tsv", "No such file or directory"),
        ("file/out.tsv", "Not a directory"),
        ("folder.tsv", "it exists and is not a regular file"),
        ("out.doc", "the ending of"),
    ],
    ids=["no-folder", "below-a-file", "a-folder", "unknown-ending"],
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_unwritable_output_is_one_line(
    fasta: Path, tmp_path: Path, out: str, message: str, as_json: bool
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.tsv").mkdir()
    result = run("features", fasta, "-o", tmp_path / out, *["--json"] * as_json)
    assert (result.exit_code, result.stdout) == (1, "")
    if as_json:
        error = json.loads(result.stderr)
        assert (error["error"], message in error["message"]) == ("ArgumentError", True)
    else:
        assert result.stderr.startswith("fastgenome: error: ")
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("ending", [".tsv", ".tsv.gz", ".parquet", ".npy"])
def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "in.fa"
    path.write_text("".join(f">{i}\n{random_dna(60, i)}\n" for i in range(300)))
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
        "from fastgenome.cli import main; main()"
    )
    out = tmp_path / f"out{ending}"
    done = subprocess.run(
        [sys.executable, "-c", code, "features", path, "-o", out],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"fastgenome: error: {out}: File too large\n"
    assert [found.name for found in tmp_path.iterdir()] == ["in.fa"]


def test_features_table_equals_the_transformers(fasta: Path, tmp_path: Path) -> None:
    assert run("features", fasta, "--set", "gc,kmer", "-o", tmp_path / "out.tsv").exit_code == 0
    header, *rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_text().splitlines()]
    assert header[:3] == ["id", "gc__gc_content", "kmer__AAAA"]
    sequence = random_dna(2500)
    assert float(rows[0][1]) == pytest.approx((sequence.count("G") + sequence.count("C")) / 2500, rel=1e-6)
    assert all(float(value) == 0 for value in rows[2][1:])


def test_features_refuses_an_unknown_set(fasta: Path, tmp_path: Path) -> None:
    result = run("features", fasta, "--set", "colour", "-o", tmp_path / "out.tsv")
    assert result.exit_code == 1
    assert "no feature set 'colour', expected zcurve, gc, kmer" in result.stderr


def test_finetune_then_predict(tmp_path: Path) -> None:
    predictor, out = tmp_path / "run", tmp_path / "predictions.tsv"
    train = run(
        "finetune",
        EXAMPLES / "train.csv",
        "--features",
        "zcurve,gc,kmer",
        "-o",
        predictor,
        "--json",
        "--emissions",
    )
    assert train.exit_code == 0, train.output
    report = json.loads(train.stdout)
    assert report["metrics"]["train"]["accuracy"] > 0.8
    assert report["emissions"]["energy_kwh"] > 0
    assert report["train_reading"]["n_in"] == 400
    result = run("predict", EXAMPLES / "test.csv", "--predictor", predictor, "-o", out)
    assert result.exit_code == 0, result.output
    header, *rows = [line.split("\t") for line in out.read_text().splitlines()]
    assert header == ["id", "prediction", "probability_0", "probability_1"]
    assert len(rows) == 200
    loaded = fg.Predictor.load(predictor)
    assert [int(row[1]) for row in rows] == loaded.predict(EXAMPLES / "test.csv").tolist()


def test_predict_windows_of_a_long_record(fasta: Path, tmp_path: Path) -> None:
    predictor = tmp_path / "run"
    assert (
        run(
            "finetune", EXAMPLES / "train.csv", "--model", "none", "--features", "gc", "-o", predictor
        ).exit_code
        == 0
    )
    result = run("predict", fasta, "--predictor", predictor, "--window", 500, "-o", tmp_path / "p.parquet")
    assert result.exit_code == 0, result.output
    assert pq.read_table(tmp_path / "p.parquet").num_rows == 5 + 2 + 1


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        (["ACGTACGT,1", "ACGTACGA,1"], [], "one class only"),
        (["ACGTACGT,1", "ACGTACGA,0"], ["--label", "target"], "no column 'target' (label_columns)"),
        (["ACGTACGT,1", "ACGTACGA,0"], ["--method", "magic"], "got 'magic'"),
        (["ACGTACGT,1", "ACGTACGA,0"], ["--set", "depth=3"], "each of pooling, layer, seed"),
        (["ACGTACGT,1", "ACGTACGA,0"], ["--set", "seed"], "'seed': expected KEY=VALUE"),
        (["ACGTACGT,1", "ACGTACGA,0"], ["--set", "seed=x"], "seed must be a whole number"),
        (["ACGTACGT,1", "ACGTACGA,0"], ["--set", "layer=99"], "layer must be one or more of"),
        (["ACGTACGT,1", "ACGTACGA,0"], ["--set", "pooling=3"], "pooling must be one or more of mean"),
        (["ACGTACGT,1", "ACGTACGA,0", "ACGT,nan"], ["--strict"], "missing_label"),
    ],
    ids=[
        "one-class",
        "missing-column",
        "unknown-method",
        "setting",
        "no-value",
        "seed",
        "layer",
        "pooling",
        "strict",
    ],
)
def test_finetune_refuses(tmp_path: Path, rows: list[str], arguments: list[str], message: str) -> None:
    path = tmp_path / "train.csv"
    path.write_text("\n".join(["sequence,label", *rows]) + "\n")
    result = run("finetune", path, "-o", tmp_path / "run", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


LABELLED = "ACGTACGTGG,1\nGGGGCCCCGC,1\nCCGCGGCAGG,1\nAATTATATAA,0\nTTTATAACTA,0\nTAATCTATTA,0\n"


def test_finetune_counts_missing_targets(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text(f"sequence,label\n{LABELLED}ACGTACGTAC,NaN\nACGTACGTAC,\nACGTACGTAC,N/A\n")
    result = run("finetune", path, "--model", "none", "--features", "gc", "-o", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    reading = json.loads(result.stdout)["train_reading"]
    assert (reading["n_in"], reading["n_out"], reading["reasons"]) == (9, 6, {"missing_label": 3})


def test_finetune_settings_reach_the_method(tmp_path: Path) -> None:
    path, folder = tmp_path / "train.csv", tmp_path / "run"
    path.write_text(f"sequence,label\n{LABELLED}")
    options = ["--set", "layer=0,-1", "--set", "pooling=mean+max", "--set", "seed=7"]
    result = run("finetune", path, "-o", folder, *options)
    assert result.exit_code == 0, result.output
    predictor = fg.Predictor.load(folder)
    assert (tuple(predictor.layer), predictor.pooling) == ((0, -1), "mean+max")


@pytest.mark.parametrize("out", ["file", "file/sub", "taken"], ids=["a-file", "below-a-file", "taken"])
def test_finetune_checks_its_folder_before_it_reads(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    result = run("finetune", tmp_path / "missing.csv", "-o", tmp_path / out)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert ("not a folder" if out != "taken" else "is not empty") in result.stderr


def test_predict_needs_a_predictor(fasta: Path, tmp_path: Path) -> None:
    result = run("predict", fasta, "-o", tmp_path / "out.tsv")
    assert result.exit_code == 2
    assert "--predictor" in result.stderr
    result = run("predict", fasta, "-o", tmp_path / "out.tsv", "--predictor", tmp_path / "none")
    assert result.exit_code == 1
    assert "is no readable predictor" in result.stderr


def test_labels_may_be_called_like_other_columns(tmp_path: Path) -> None:
    path, out = tmp_path / "train.csv", tmp_path / "out.tsv"
    rows = [f"r{i},{row.split(',')[0]},{i % 2},{i // 3}" for i, row in enumerate(LABELLED.split())]
    path.write_text("\n".join(["name,sequence,id,start", *rows]) + "\n")
    arguments = ["--model", "none", "--features", "gc", "--label", "id", "--label", "start"]
    assert run("finetune", path, "-o", tmp_path / "run", *arguments).exit_code == 0
    arguments = ["--predictor", tmp_path / "run", "--id-column", "name", "--window", 5]
    assert run("predict", path, "-o", out, *arguments).exit_code == 0
    header = "id start end prediction_id prediction_start probability_id probability_start"
    assert out.read_text().splitlines()[0].split("\t") == header.split()
    assert ids_of(out) == [f"r{i}" for i in range(6) for _ in range(2)]


def test_regression_column_is_called_prediction(tmp_path: Path) -> None:
    path, out = tmp_path / "train.csv", tmp_path / "out.npy"
    path.write_text("sequence,id\nACGTA,0.5\nGGGGA,1.25\nAAAAA,-2\nCGCGC,3.5\n")
    arguments = ["--model", "none", "--features", "gc", "--label", "id", "--task", "regression"]
    assert run("finetune", path, "-o", tmp_path / "run", *arguments).exit_code == 0
    assert run("predict", path, "--predictor", tmp_path / "run", "-o", tmp_path / "out.tsv").exit_code == 0
    header, *rows = (tmp_path / "out.tsv").read_text().splitlines()
    assert header == "id\tprediction"
    # The ending decides the format whatever its case.
    assert run("predict", path, "--predictor", tmp_path / "run", "-o", out.with_suffix(".NPY")).exit_code == 0
    matrix = np.load(out.with_suffix(".NPY"))
    np.testing.assert_allclose(matrix[:, 0], [float(row.split("\t")[1]) for row in rows], rtol=1e-6)


@pytest.mark.parametrize("command", ["features", "embed"])
def test_tables_of_any_layout_are_read(tmp_path: Path, command: str) -> None:
    path, out = tmp_path / "in.dat", tmp_path / "out.tsv"
    path.write_text("0.5\tx\tACGTACGT\n0.7\ty\tGGGGGGGG\n")
    layout = ["--format", "tsv", "--no-header", "--sequence-column", 2]
    assert run(command, path, "-o", out, *layout).exit_code == 0
    assert ids_of(out) == ["1", "2"]
    assert run(command, path, "-o", out, *layout, "--id-column", 1).exit_code == 0
    assert ids_of(out) == ["x", "y"]
    result = run(command, path, "-o", out, "--format", "tsv", "--no-header")
    assert result.exit_code == 1
    assert "give columns as numbers from 0, not as the name 'sequence'" in result.stderr
    result = run(command, path, "-o", out, "--format", "genbank")
    assert "format is 'genbank'; use one of fasta" in result.stderr


def test_yeast_reporter_trains_and_predicts(data_dir: Path, tmp_path: Path) -> None:
    path, out = data_dir / "yeast_3utr_reporter" / "shalem_15.tsv.gz", tmp_path / "out.tsv"
    layout = ["--no-header", "--sequence-column", 0]
    train = ["--label", 1, "--model", "none", "--features", "gc", "--json", "-o", tmp_path / "run"]
    result = run("finetune", path, *layout, *train)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["task"], report["train_reading"]["n_in"]) == ("regression", 14_172)
    result = run("predict", path, *layout, "--predictor", tmp_path / "run", "-o", out)
    assert result.exit_code == 0, result.output
    assert ids_of(out) == [str(number) for number in range(1, 14_173)]


def test_human_promoters_are_read_by_their_column(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "human_nontata_promoters" / "test.csv.gz"
    result = run("features", path, "-o", tmp_path / "out.npy")
    assert result.exit_code == 1
    assert "no column 'sequence'" in result.stderr
    result = run("features", path, "--sequence-column", "seq", "-o", tmp_path / "out.npy", "--json")
    assert result.exit_code == 0, result.output
    reading = json.loads(result.stdout)["reading"]
    assert (reading["n_in"], reading["n_out"]) == (9_034, 9_034)
    assert len(np.load(tmp_path / "out.npy")) == 9_034


def test_embed_reads_tables_of_any_layout_to_an_array(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("seq\nACGTACGTAC\nGGGGCCGGAA\n")
    found = fg.embed(path, reading=fg.ReadOptions(sequence_column="seq"))
    np.testing.assert_array_equal(found, fg.load("tiny").embed(["ACGTACGTAC", "GGGGCCGGAA"]))
    path.write_text("seq\nACGTACGTAC\nLLL\n")
    with pytest.raises(InputError, match="1 of the 2 records"):
        fg.embed(path, reading=fg.ReadOptions(sequence_column="seq"))


def test_errors_of_the_system_are_one_line(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("fastgenome.streams.ByteStream._read", fail)
    result = run("features", fasta, "-o", tmp_path / "out.tsv")
    assert (result.exit_code, result.stderr) == (1, "fastgenome: error: Input/output error\n")
    result = run("features", fasta, "-o", tmp_path / "out.tsv", "--json")
    assert json.loads(result.stderr) == {"error": "OSError", "message": "Input/output error"}


def test_errors_are_json_for_machines(tmp_path: Path) -> None:
    result = run("embed", tmp_path / "missing.fa", "-o", tmp_path / "out.tsv", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stderr)["error"] == "InputError"


def test_pretrain_makes_a_model_that_embeds(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(f">a\n{random_dna(120_000)}\n")
    result = run(
        "pretrain", path, "-o", tmp_path / "model", "--bases", "4000", "--batch-bases", "2000", "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["steps"] == 2
    out = tmp_path / "out.npy"
    assert run("embed", path, "--model", tmp_path / "model", "--window", 1000, "-o", out).exit_code == 0
    assert np.load(out).shape[0] == 120


def test_models_lists_source_revision_licence_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    listed = json.loads(run("models", "--json").stdout)["models"]
    assert listed["tiny"]["licence"] == "Apache-2.0"
    assert listed["tiny"]["cached"]
    assert listed["tiny"]["size_bytes"] <= 8_000_000
    published = listed["dnabert2"]
    assert published["repository"] == "zhihan1996/DNABERT-2-117M"
    assert (published["parameters"], published["size_bytes"]) == (117_000_000, None)
    assert (published["cached"], published["verifiable"]) == (False, True)
    lines = run("models").stdout.splitlines()
    assert len(lines) == len(listed) + 1
    row = next(line for line in lines if line.startswith("nt-v2-50m "))
    assert "CC-BY-NC-SA-4.0" in row
    assert f"@{listed['nt-v2-50m']['revision'][:12]}" in row


def test_models_finds_what_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    listed = json.loads(run("models", "--json").stdout)["models"]["dnabert2"]
    place = tmp_path / "models--zhihan1996--DNABERT-2-117M" / "snapshots" / listed["revision"]
    place.mkdir(parents=True)
    for file in ("config.json", "tokenizer.json", "pytorch_model.bin"):
        assert not json.loads(run("models", "--json").stdout)["models"]["dnabert2"]["cached"]
        (place / file).write_bytes(b"12345")
    listed = json.loads(run("models", "--json").stdout)["models"]["dnabert2"]
    assert (listed["cached"], listed["size_bytes"], listed["directory"]) == (True, 5, str(place))


def test_a_licence_that_excludes_commerce_is_shown_in_one_line(
    tmp_path: Path, fasta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write_tiny(tmp_path / "model")
    entry = RegisteredModel("limited", "tiny", "CC-BY-NC-4.0", "a test", directory=directory)
    monkeypatch.setitem(REGISTRY, "limited", entry)
    result = run("embed", fasta, "--model", "limited", "--window", 300, "-o", tmp_path / "out.npy")
    assert result.exit_code == 0, result.output
    line = "fastgenome: warning: the weights of 'limited' are under CC-BY-NC-4.0: not for commercial use"
    assert result.stderr.splitlines() == [line]


def test_convert_makes_a_directory_that_loads(tmp_path: Path) -> None:
    legacy = write_tiny(tmp_path / "legacy", legacy=True)
    result = run("convert", legacy, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["family"], report["read"]) == ("tiny", ["pytorch_model.bin"])
    assert fg.load(report["directory"]).embed(["ACGTACGTAC"]).shape == (1, 32)
    again = run("convert", tmp_path / "out", "-o", tmp_path / "again")
    assert again.exit_code == 1
    assert "holds safetensors already" in again.stderr
    assert not (tmp_path / "again").exists()


def test_command_runs_as_a_program() -> None:
    command = [sys.executable, "-c", "from fastgenome.cli import main; main()"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == fg.__version__
    assert subprocess.run([*command, "embed"], capture_output=True, cwd=ROOT, check=False).returncode == 2


def test_columns_named_by_numbers_are_names_under_a_header(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    rows = [f"{random_dna(40, i)},{i % 2},{i % 3 // 2}" for i in range(30)]
    path.write_text("\n".join(["sequence,0,1", *rows]) + "\n")
    arguments = ("--model", "none", "--features", "gc", "--label", "1", "--json")
    result = run("finetune", path, "-o", tmp_path / "run", *arguments)
    assert result.exit_code == 0, result.output
    assert fg.Predictor.load(tmp_path / "run").task.label_names == ("1",)


@pytest.mark.parametrize(("window", "message"), [("10000", "at most 6144"), ("2", "at least 4 bases")])
def test_windows_that_cannot_work_are_refused_at_once(
    fasta: Path, tmp_path: Path, window: str, message: str
) -> None:
    command = ("embed",) if window == "10000" else ("features", "--set", "kmer")
    result = run(*command, fasta, "-o", tmp_path / "out.tsv", "--window", window)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "out.tsv").exists()


def test_embed_writes_a_row_for_each_token(tmp_path: Path) -> None:
    fasta, out = tmp_path / "in.fa", tmp_path / "e.parquet"
    fasta.write_text(">a\nACGTACGTACGTA\n>b\nTTTTTT\n")
    result = run("embed", fasta, "-o", out, "--pooling", "token", "--output-dtype", "float16")
    assert result.exit_code == 0, result.output
    table = pq.read_table(out)
    assert table["id"].to_pylist() == ["a", "a", "a", "b"]
    assert table["token"].to_pylist() == [0, 1, 2, 0]
    assert table.schema.field("embedding").type.value_type == pa.float16()
    values, _ = fg.load("tiny").token_embeddings(["ACGTACGTACGTA", "TTTTTT"], output_dtype="float16")
    np.testing.assert_array_equal(np.stack(table["embedding"].to_numpy()), values)
