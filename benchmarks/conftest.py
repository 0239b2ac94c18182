"""What all benchmarks share: the same DNA for every peer, percentiles beside the mean, versions of the peers.

`pytest benchmarks` measures; `pytest --benchmark-disable benchmarks` runs each once and checks the answers.
The DNA is the yeast genome where it is at hand (in FASTGENOME_DATA, or ../shared/data), else random.
"""

import gzip
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FASTGENOME_DATA", ROOT.parent / "shared" / "data"))
PEERS = (
    "numpy",
    "numba",
    "tokenizers",
    "transformers",
    "tokie",
    "ZCurvePy",
    "pykmertools",
    "pyfastx",
    "pysam",
)


def versions() -> dict[str, str]:
    """Installed versions of the packages that are measured against."""
    found = {}
    for peer in PEERS:
        try:
            found[peer] = metadata.version(peer)
        except metadata.PackageNotFoundError:
            found[peer] = "not installed"
    return found


def pytest_report_header() -> str:
    return "peers: " + ", ".join(f"{peer} {version}" for peer, version in versions().items())


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["peers"] = versions()
    machine_info["genome"] = "yeast" if (DATA / "yeast_genome").is_dir() else "random"


@pytest.fixture(autouse=True)
def percentiles(benchmark: BenchmarkFixture) -> Iterator[None]:
    """Puts p50, p90 and p99 of the rounds, in seconds, into the benchmark's extra_info."""
    yield
    if benchmark.stats is not None and benchmark.stats.stats.data:
        values = np.percentile(benchmark.stats.stats.data, [50, 90, 99])
        benchmark.extra_info.update(zip(("p50", "p90", "p99"), values.tolist(), strict=True))


def random_dna(size: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).choice(np.frombuffer(b"ACGT", np.uint8), size)


def read_genome() -> NDArray[np.uint8]:
    """Letters of a genome of about 12 Mb, all records behind one another."""
    files = sorted((DATA / "yeast_genome").glob("*.dna.toplevel.fa.gz"))
    if not files:
        return random_dna(12_000_000, seed=0)
    lines = gzip.decompress(files[0].read_bytes()).split(b"\n")
    return np.frombuffer(b"".join(line for line in lines if not line.startswith(b">")), np.uint8)


@pytest.fixture(scope="session")
def genome() -> NDArray[np.uint8]:
    """A, C, G and T in upper case: (about 12 million,)."""
    return read_genome()


@pytest.fixture(scope="session")
def sequences(genome: NDArray[np.uint8]) -> list[str]:
    """10,000 sequences of 500 bp, evenly spread over the genome."""
    starts = np.linspace(0, len(genome) - 500, 10_000, dtype=int)
    return [genome[start : start + 500].tobytes().decode() for start in starts]


@pytest.fixture(scope="session")
def few_sequences(sequences: list[str]) -> list[str]:
    """500 of them, for peers that need milliseconds for each."""
    return sequences[::20]


@pytest.fixture(scope="session")
def long_sequence(genome: NDArray[np.uint8]) -> str:
    """10 million bases in one sequence."""
    return genome[:10_000_000].tobytes().decode()


@pytest.fixture(scope="session")
def training_sequences() -> list[str]:
    """400 random sequences of 1,000 bp, to train a vocabulary where no published one is at hand."""
    return [random_dna(1000, seed).tobytes().decode() for seed in range(1, 401)]
