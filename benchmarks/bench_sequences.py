"""Files of sequences and genomes against their peers: CPU time from path to letters, answers asserted.

Whole files: `Genome(path, in_memory=True)` reads, checks and cleans all letters into one buffer and names the
contigs; `read_sequences` cleans, judges and counts every record and makes a str of each. pyfastx and pysam do
neither; they hand over name and sequence as they stand. Windows: 1 kb each, in random order, as str unless
said otherwise.
"""

import gzip
import os
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyfastx
import pysam
import pytest
from conftest import random_dna
from pytest_benchmark.fixture import BenchmarkFixture

from fastgenome.genome import Genome
from fastgenome.sequences import read_sequences

pytestmark = pytest.mark.benchmark(timer=time.process_time, min_rounds=7, warmup=True)

YEAST = "yeast_genome/Saccharomyces_cerevisiae.R64-1-1.dna.toplevel.fa.gz"
Records = list[tuple[str, str]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sequences")


@pytest.fixture(scope="session")
def yeast(folder: Path) -> Path:
    """The yeast genome, 12.2 Mb in 17 contigs, as plain FASTA."""
    data = Path(os.environ.get("FASTGENOME_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (data / YEAST).is_file():
        pytest.skip("needs the yeast genome in ../shared/data, or FASTGENOME_DATA pointing at such a folder")
    path = folder / "yeast.fa"
    path.write_bytes(gzip.decompress((data / YEAST).read_bytes()))
    return path


@pytest.fixture(scope="session")
def many(folder: Path) -> Path:
    """10,000 records of 500 bp in lines of 60."""
    path = folder / "many.fa"
    with path.open("w") as file:
        for number, sequence in enumerate(random_dna(10_000, 500)):
            lines = "\n".join(sequence[i : i + 60] for i in range(0, 500, 60))
            file.write(f">record{number} some words\n{lines}\n")
    return path


@pytest.fixture(scope="session", params=["yeast", "many"])
def whole(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def reference(path: Path) -> Records:
    """Names and sequences, read the short way."""
    records = path.read_text().lstrip(">").split("\n>")
    return [(record.split(maxsplit=1)[0], "".join(record.split("\n")[1:])) for record in records]


def check(
    benchmark: BenchmarkFixture, path: Path, run: Callable[[], object], records: Callable[[object], Records]
) -> None:
    """Measures `run` among all that read this file; `records` makes its answer comparable."""
    benchmark.group = f"whole file, {path.stem}"
    benchmark.extra_info["pyfastx"] = pyfastx.version()
    benchmark.extra_info["pysam"] = pysam.__version__
    assert records(benchmark(run)) == reference(path)


def as_list(records: Iterable[tuple[str, ...]]) -> Records:
    return [(name, sequence) for name, sequence, *_ in records]


def test_whole_file_genome(benchmark, whole):
    def records(genome: Genome) -> Records:
        return list(
            zip(genome.names, genome.fetch_many((name, 0, None) for name in genome.names), strict=True)
        )

    def run() -> Genome:
        genome = Genome(whole, in_memory=True)
        assert genome.names
        return genome

    check(benchmark, whole, run, records)


def test_whole_file_read_sequences(benchmark, whole):
    check(benchmark, whole, lambda: list(read_sequences(whole)), as_list)


def test_whole_file_pyfastx(benchmark, whole):
    check(benchmark, whole, lambda: list(pyfastx.Fasta(str(whole), build_index=False)), as_list)


def test_whole_file_pyfastx_upper(benchmark, whole):
    """Upper case as ours, though without the check of the letters."""

    def run() -> Records:
        return list(pyfastx.Fasta(str(whole), build_index=False, uppercase=True))

    check(benchmark, whole, run, as_list)


def test_whole_file_pysam(benchmark, whole):
    def run() -> Records:
        with pysam.FastxFile(str(whole)) as file:
            return [(record.name, record.sequence) for record in file]

    check(benchmark, whole, run, as_list)


# Windows

WINDOW = 1000


@pytest.fixture(scope="session")
def windows(yeast: Path) -> list[tuple[str, int, int]]:
    genome = Genome(yeast)
    lengths = zip(genome.names, genome.lengths.tolist(), strict=True)
    found = [(name, i, i + WINDOW) for name, size in lengths for i in range(0, size - WINDOW, WINDOW)]
    random.Random(0).shuffle(found)
    return found


@pytest.fixture(scope="session")
def letters(yeast: Path, windows: list[tuple[str, int, int]]) -> list[str]:
    contigs = dict(reference(yeast))
    return [contigs[name][start:end] for name, start, end in windows]


def check_windows(benchmark: BenchmarkFixture, run: Callable[[], list[str]], letters: list[str]) -> None:
    benchmark.group = f"{len(letters):,} windows of 1 kb, yeast"
    benchmark.extra_info["pysam"] = pysam.__version__
    assert benchmark(run) == letters


@pytest.fixture(params=["memory", "index"])
def genome(request: pytest.FixtureRequest, yeast: Path) -> Genome:
    return Genome(yeast, in_memory=request.param == "memory")


def test_windows_fetch_many(benchmark, genome, windows, letters):
    check_windows(benchmark, lambda: genome.fetch_many(windows, threads=1), letters)


def test_windows_fetch(benchmark, genome, windows, letters):
    check_windows(benchmark, lambda: [genome.fetch(*window) for window in windows], letters)


def test_windows_fetch_packed(benchmark, genome, windows, letters):
    contigs = np.array([genome.index(name) for name, _, _ in windows])
    starts = np.array([start for _, start, _ in windows])
    benchmark.group = f"{len(letters):,} windows of 1 kb, yeast"
    packed = benchmark(lambda: genome.fetch_packed(contigs, starts, starts + WINDOW, threads=1))
    assert packed.letters.tobytes().decode() == "".join(letters)


def test_windows_pysam(benchmark, yeast, folder, windows, letters):
    copy = folder / "pysam.fa"
    copy.write_bytes(yeast.read_bytes())
    with pysam.FastaFile(str(copy)) as file:
        check_windows(benchmark, lambda: [file.fetch(*window) for window in windows], letters)
