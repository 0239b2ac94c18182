"""The command line: every command end to end, bad input, exit codes, JSON."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import fastgenome as fg
from fastgenome.cli import app

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
    path.write_text(f">a\n{random_dna(10_000)}\n")
    result = run("embed", path, "-o", tmp_path / "out.tsv")
    assert result.exit_code == 1
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
        (">p\nMKVLAAGIVGLPNVGKSTL\n", "protein"),
        ("", "no records"),
        (">a\n\n>b\n\n", "empty"),
    ],
    ids=["protein", "nothing", "empty-records"],
)
def test_embed_refuses_what_is_no_dna(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "in.fa"
    path.write_text(content)
    result = run("embed", path, "-o", tmp_path / "out.tsv")
    assert result.exit_code == 1
    assert message in result.stderr


def test_rejects_are_listed_and_strict_fails(tmp_path: Path) -> None:
    path = tmp_path / "in.fa"
    path.write_text(f">good\n{random_dna(100)}\n>more\n{random_dna(90)}\n>bad\nACGTEFJ\n>void\n\n")
    result = run("features", path, "-o", tmp_path / "out.tsv")
    assert result.exit_code == 0
    assert "4 records read, 2 used, 2 rejected" in result.stdout
    assert "rejected record 3 (bad): not_dna" in result.stdout
    strict = run("features", path, "-o", tmp_path / "out.tsv", "--strict", "--json")
    assert strict.exit_code == 1
    assert [r["reason"] for r in json.loads(strict.stdout)["reading"]["rejections"]] == ["not_dna", "empty"]


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
    assert "zcurve" in result.stderr


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
        (["ACGTACGT,1", "ACGTACGA,0"], ["--label", "target"], "label"),
        (["ACGTACGT,1", "ACGTACGA,0"], ["--method", "magic"], "probe"),
    ],
    ids=["one-class", "missing-column", "unknown-method"],
)
def test_finetune_refuses(tmp_path: Path, rows: list[str], arguments: list[str], message: str) -> None:
    path = tmp_path / "train.csv"
    path.write_text("\n".join(["sequence,label", *rows]) + "\n")
    result = run("finetune", path, "-o", tmp_path / "run", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


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


def test_models_lists_tiny() -> None:
    result = run("models", "--json")
    assert json.loads(result.stdout)["tiny"]["licence"] == "Apache-2.0"
    assert json.loads(result.stdout)["tiny"]["size_bytes"] <= 8_000_000


def test_command_runs_as_a_program() -> None:
    command = [sys.executable, "-c", "from fastgenome.cli import main; main()"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == fg.__version__
    assert subprocess.run([*command, "embed"], capture_output=True, cwd=ROOT, check=False).returncode == 2
