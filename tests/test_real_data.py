"""The embedded model on real DNA: invariance, accounting, and a trivial baseline beside it."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import fastgenome as fg
from fastgenome.sequences import read_sequences
from fastgenome.training.labelled import read_labelled
from fastgenome.training.metrics import evaluate

FEATURES = ("zcurve", "gc", "kmer")


@pytest.fixture(scope="module")
def genome(data_dir: Path) -> Path:
    return data_dir / "yeast_genome" / "Saccharomyces_cerevisiae.R64-1-1.dna.toplevel.fa.gz"


@pytest.fixture(scope="module")
def mixed(data_dir: Path, genome: Path) -> list[str]:
    """60 sequences of 40 to 2,000 bases: enhancers, histone marks and pieces of chromosome I."""
    enhancers = [r.sequence for r in read_sequences(data_dir / "iEnhancer2L" / "test_enhancers.fa.gz")]
    marks = read_labelled(data_dir / "gue" / "H3" / "test.csv.gz").sequences
    chromosome = next(iter(read_sequences(genome))).sequence
    rng = np.random.default_rng(0)
    pieces = [chromosome[start : start + int(rng.integers(40, 2001))] for start in range(0, 100_000, 5_000)]
    return enhancers[:20] + marks[:20] + pieces


def test_embedding_does_not_depend_on_company(mixed: list[str]) -> None:
    model = fg.load("tiny", dtype="float32")
    together = model.embed(mixed)
    rng = np.random.default_rng(1)
    alone = np.concatenate([model.embed([sequence]) for sequence in mixed])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-5)
    for size in (2, 7, 30, 60):
        chosen = rng.permutation(60)[:size]
        found = model.embed([mixed[i] for i in chosen], batch_tokens=int(rng.integers(10, 5000)))
        np.testing.assert_allclose(found, together[chosen], rtol=0, atol=1e-5)


def test_whole_genome_in_windows_is_accounted_for(genome: Path, tmp_path: Path) -> None:
    out = tmp_path / "yeast.parquet"
    # The embedding output alone: no layer above it runs.
    report = fg.embed(genome, out=out, window=1000, pooling="mean", layer=0)
    assert (report.reading.n_in, report.reading.n_out, report.bases) == (17, 17, 12_157_105)
    lengths = [len(record.sequence) for record in read_sequences(genome)]
    assert report.rows == sum(-(-length // 1000) for length in lengths) == 12_165
    assert report.windows_too_short == 0
    table = pq.read_table(out, columns=["id", "start", "end"])
    assert table.num_rows == report.rows
    assert sum(table["end"].to_numpy() - table["start"].to_numpy()) == 12_157_105


def test_tiny_with_features_beats_the_trivial_baseline(data_dir: Path) -> None:
    task = data_dir / "gue" / "prom_300_tata"
    test = read_labelled(task / "test.csv.gz")
    scores = {}
    for model in (None, "tiny"):
        predictor = fg.finetune(task / "train.csv.gz", model=model, features=FEATURES)
        targets = predictor.task.encode(test.labels)
        scores[model] = evaluate(predictor.task, targets, predictor.outputs(test.sequences))["mcc"]
    assert scores["tiny"] > scores[None] > 0.2
