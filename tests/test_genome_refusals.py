"""What a genome job refuses before any work."""

from pathlib import Path
from typing import Any

import pytest
from scored_genomes import HERE, letters, make_contigs, trained, write_fasta

import fastgenome as fg
from fastgenome.errors import ArgumentError, InputError

pytest.importorskip("pyBigWig")


@pytest.fixture(scope="module")
def of_features() -> fg.Predictor:
    return trained(None, ("gc", "kmer", "zcurve"))


@pytest.fixture(scope="module")
def contigs() -> dict[str, str]:
    return make_contigs()


@pytest.fixture
def genome(tmp_path: Path, contigs: dict[str, str]) -> Path:
    return write_fasta(tmp_path / "genome.fa", contigs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 3}, "at least 4 bases"),
        ({"stride": 0}, "stride=0"),
        ({"strand": "up"}, "strand='up'"),
        ({"edge": "wrap"}, "edge='wrap'"),
        ({"max_n": 2}, "max_n=2"),
        ({"context": 70}, "context=70"),
        ({"context": 600}, "needs a model"),
        ({"aggregates": ["mean"]}, "need regions="),
        ({"out": "scores.doc"}, "is not known"),
        ({"out": []}, "one or more different files"),
        ({"out": "missing/folder/scores.npy"}, "is not known"),
        ({"out": "missing/folder/scores.bw"}, "there is no folder"),
        ({"out": "taken.parquet"}, "not a regular file"),
        ({"out": "taken.zarr"}, "holds no zarr.json"),
    ],
)
def test_score_genome_refuses_what_does_not_fit(
    arguments: dict[str, Any], message: str, genome: Path, of_features: fg.Predictor, monkeypatch: Any
) -> None:
    monkeypatch.chdir(genome.parent)
    for name in ("taken.parquet", "taken.zarr"):
        genome.with_name(name).mkdir()
        (genome.with_name(name) / "mine.txt").write_text("mine")
    usual: dict[str, Any] = {"out": "scores.parquet", "window": 60, "run": HERE}
    with pytest.raises(ArgumentError, match=message):
        fg.score_genome(of_features, genome, **(usual | arguments))
    assert not list(genome.parent.glob("scores*"))


def test_score_genome_refuses_to_replace_an_input(tmp_path: Path, of_features: fg.Predictor) -> None:
    genome = write_fasta(tmp_path / "genome.bed", {"a": letters(1, 300)})
    with pytest.raises(ArgumentError, match="is an input itself"):
        fg.score_genome(of_features, genome, out=genome, window=60, run=HERE)
    assert genome.read_text().startswith(">a")
    regions = tmp_path / "regions.bed"
    regions.write_text("a\t0\t100\n")
    with pytest.raises(ArgumentError, match="is an input itself"):
        fg.score_genome(of_features, genome, out=regions, regions=regions, window=60, run=HERE)
    assert regions.read_text() == "a\t0\t100\n"


def test_score_genome_reports_an_unreadable_genome(tmp_path: Path, of_features: fg.Predictor) -> None:
    with pytest.raises(InputError, match="there is no file"):
        fg.score_genome(of_features, tmp_path / "none.fa", out=tmp_path / "s.bw", window=60, run=HERE)
