"""Files of sequences and genomes against their peers: from path to letters, answers asserted.

Whole files: `Genome(path, in_memory=True)` reads, checks and cleans all letters into one buffer and names the
contigs; `read_sequences` cleans, judges and counts every record and makes a str of each. pyfastx and pysam
hand over name and sequence as they stand (pyfastx also in upper case). Windows: in random order, as str
unless said otherwise.
"""

import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyfastx
import pysam
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from fastgenome.genome import Genome
from fastgenome.sequences import read_sequences

pytestmark = pytest.mark.benchmark(timer=time.process_time, min_rounds=5, warmup=False)

Records = list[tuple[str, str]]
Files = dict[str, tuple[Path, Records]]

LINE = 60
WINDOW = 1000
# What it is called in the table, by file.
WHOLE = {"genome": "whole FASTA, 12 Mb in 16 records", "many": "whole FASTA, 10,000 records of 500 bp"}


def write_fasta(path: Path, records: Records) -> Path:
    with path.open("w") as file:
        for name, sequence in records:
            lines = "\n".join(sequence[i : i + LINE] for i in range(0, len(sequence), LINE))
            file.write(f">{name} some words\n{lines}\n")
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, genome: NDArray[np.uint8], sequences: list[str]) -> Files:
    """Paths and what they hold: the genome in 16 contigs, and 10,000 short records."""
    folder = tmp_path_factory.mktemp("sequences")
    letters = {
        "genome": [part.tobytes().decode() for part in np.array_split(genome, 16)],
        "many": sequences,
    }
    found = {}
    for name, parts in letters.items():
        records = [(f"record{number}", sequence) for number, sequence in enumerate(parts)]
        found[name] = (write_fasta(folder / f"{name}.fa", records), records)
    return found


def whole_genome(path: Path) -> Genome:
    genome = Genome(path, in_memory=True)
    assert genome.names
    return genome


def contigs(genome: Genome) -> Records:
    letters = genome.fetch_many((name, 0, None) for name in genome.names)
    return list(zip(genome.names, letters, strict=True))


def by_pysam(path: Path) -> Records:
    with pysam.FastxFile(str(path)) as file:
        return [(record.name, record.sequence) for record in file]


PEERS: dict[str, Callable[[Path], Any]] = {
    "pyfastx.Fastx": lambda path: list(pyfastx.Fastx(str(path))),
    "pyfastx.Fastx, upper case": lambda path: list(pyfastx.Fastx(str(path), uppercase=True)),
    "pyfastx.Fasta": lambda path: list(pyfastx.Fasta(str(path), build_index=False)),
    "pysam": by_pysam,
}
INTO_MEMORY = {"fastgenome": whole_genome, **PEERS}
AS_RECORDS = {"fastgenome": lambda path: list(read_sequences(path)), **PEERS}


def as_pairs(records: Iterable[tuple[str, ...]]) -> Records:
    return [(name, sequence) for name, sequence, *_ in records]


@pytest.mark.parametrize("side", INTO_MEMORY)
@pytest.mark.parametrize("file", WHOLE)
def test_whole_file(benchmark: BenchmarkFixture, files: Files, file: str, side: str) -> None:
    benchmark.group = f"{WHOLE[file]}: into memory"
    path, expected = files[file]
    answer = benchmark(INTO_MEMORY[side], path)
    assert (contigs(answer) if isinstance(answer, Genome) else as_pairs(answer)) == expected


@pytest.mark.parametrize("side", AS_RECORDS)
@pytest.mark.parametrize("file", WHOLE)
def test_records(benchmark: BenchmarkFixture, files: Files, file: str, side: str) -> None:
    benchmark.group = f"{WHOLE[file]}: as records, by fastgenome cleaned and counted"
    path, expected = files[file]
    assert as_pairs(benchmark(AS_RECORDS[side], path)) == expected


# Windows


@pytest.fixture(scope="session")
def windows(files: Files) -> list[tuple[str, int, int]]:
    _, records = files["genome"]
    found = [
        (name, i, i + WINDOW) for name, letters in records for i in range(0, len(letters) - WINDOW, WINDOW)
    ]
    return random.Random(0).sample(found, 10_000)


@pytest.fixture(scope="session")
def letters(files: Files, windows: list[tuple[str, int, int]]) -> list[str]:
    found = dict(files["genome"][1])
    return [found[name][start:end] for name, start, end in windows]


@pytest.fixture(scope="session")
def readers(files: Files, windows: list[tuple[str, int, int]]) -> dict[str, Callable[[], object]]:
    """How each side reads the windows; every file is open and indexed before."""
    path, _ = files["genome"]
    indexed, loaded = Genome(path), Genome(path, in_memory=True)
    peer = pysam.FastaFile(str(path))
    names = np.array([indexed.index(name) for name, _, _ in windows])
    starts = np.array([start for _, start, _ in windows])
    return {
        "fastgenome": lambda: indexed.fetch_many(windows, threads=1),
        "fastgenome, one by one": lambda: [indexed.fetch(*window) for window in windows],
        "fastgenome, in memory": lambda: loaded.fetch_many(windows, threads=1),
        "fastgenome, in memory, packed": lambda: loaded.fetch_packed(
            names, starts, starts + WINDOW, threads=1
        ),
        "pysam": lambda: [peer.fetch(*window) for window in windows],
    }


@pytest.mark.parametrize(
    "side",
    [
        "fastgenome",
        "fastgenome, one by one",
        "fastgenome, in memory",
        "fastgenome, in memory, packed",
        "pysam",
    ],
)
def test_windows(
    benchmark: BenchmarkFixture, readers: dict[str, Callable[[], Any]], letters: list[str], side: str
) -> None:
    benchmark.group = "10,000 windows of 1 kb from an indexed FASTA"
    answer = benchmark(readers[side])
    if side.endswith("packed"):
        assert answer.letters.tobytes().decode() == "".join(letters)
    else:
        assert answer == letters
