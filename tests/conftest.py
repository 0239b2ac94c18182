"""Fixtures: real data and parity checkpoints beside the project; variants and tracks made for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from genome_files import write

from fastgenome import _core

# Modules that only some tests use are imported by the fixtures that need them.
if TYPE_CHECKING:
    from plotting_files import Rows

    import fastgenome as fg

ROOT = Path(__file__).resolve().parent.parent


def _outside_folder(variable: str, name: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / name))
    if not folder.is_dir():
        pytest.skip(f"needs the folder shared/{name} beside the project, or {variable} pointing at it")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real sequences (GUE, yeast genome, iEnhancer, tokenizer vocabularies)."""
    return _outside_folder("FASTGENOME_DATA", "data")


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Folder of tiny checkpoints in the published formats with the reference outputs."""
    return _outside_folder("FASTGENOME_PARITY", "parity")


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test once with each instruction set that the processor has."""
    best = _core.instruction_set()
    try:
        if _core.limit_instruction_set(request.param) != request.param:
            pytest.skip(f"the processor has no {request.param}")
        yield request.param
    finally:
        _core.limit_instruction_set(best)


@pytest.fixture(scope="session")
def yeast(data_dir: Path) -> Path:
    """The genome of yeast."""
    return data_dir / "yeast_genome" / "Saccharomyces_cerevisiae.R64-1-1.dna.toplevel.fa.gz"


@pytest.fixture(scope="session")
def yeast_genes(data_dir: Path) -> Path:
    """The genes of yeast."""
    return data_dir / "yeast_genome" / "Saccharomyces_cerevisiae.R64-1-1.96.gtf.gz"


@pytest.fixture(scope="session")
def predictor() -> fg.Predictor:
    """What scores variants, unless a module has another."""
    from scored_variants import make_predictor

    return make_predictor()


@pytest.fixture(scope="session")
def contigs() -> dict[str, str]:
    """A small genome for variants, unless a module has another."""
    from scored_variants import make_contigs

    return make_contigs()


@pytest.fixture
def genome(tmp_path: Path, contigs: dict[str, str]) -> Path:
    """FASTA of the contigs."""
    from small_variants import fasta

    return write(tmp_path / "genome.fa", fasta(contigs))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs over variants have several shards."""
    monkeypatch.setattr("fastgenome.scoring.allele_table._SHARD_ALLELES", 16)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a genome of 12 small shards, and a predictor."""
    from sharded_genome import make_place

    return make_place(tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="session")
def undisturbed(place: Path) -> bytes:
    """What scoring that genome writes when nothing disturbs it."""
    from sharded_genome import undisturbed_bytes

    return undisturbed_bytes(place)


@pytest.fixture
def small_genome_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs over genomes have several shards."""
    monkeypatch.setattr("fastgenome.scoring.window_plan._SHARD_WINDOWS", 100)


@pytest.fixture
def rows() -> Rows:
    """Scores of two contigs."""
    from plotting_files import random_rows

    return random_rows(0, 2000) + random_rows(1, 300, "two")


@pytest.fixture
def bigwig(tmp_path: Path, rows: Rows) -> Path:
    """The rows as bigWig."""
    from plotting_files import LENGTHS, write_bigwig

    return write_bigwig(tmp_path / "scores.bw", rows, LENGTHS)


@pytest.fixture
def gtf(tmp_path: Path) -> Path:
    """A few genes of these contigs."""
    from plotting_files import GENES

    return write(tmp_path / "genes.gtf", GENES)
