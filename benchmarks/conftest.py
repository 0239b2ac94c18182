"""What all benchmarks share: percentiles beside the mean, and the same DNA for every peer.

`pytest benchmarks` measures; `pytest --benchmark-disable benchmarks` runs each once and checks the answers.
"""

from collections.abc import Iterator

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.fixture(autouse=True)
def percentiles(benchmark: BenchmarkFixture) -> Iterator[None]:
    """Puts p50, p90 and p99 of the rounds, in seconds, into the benchmark's extra_info."""
    yield
    if benchmark.stats is not None and benchmark.stats.stats.data:
        values = np.percentile(benchmark.stats.stats.data, [50, 90, 99])
        benchmark.extra_info.update(zip(("p50", "p90", "p99"), values.tolist(), strict=True))


def random_dna(n: int, length: int, seed: int = 0) -> list[str]:
    """n random sequences of one length."""
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)
    drawn = letters[np.random.default_rng(seed).integers(0, 4, (n, length))]
    return [bytes(row).decode() for row in drawn]


@pytest.fixture(scope="session")
def sequences() -> list[str]:
    """1,000 random sequences of 500 bp."""
    return random_dna(1000, 500)


@pytest.fixture(scope="session")
def few_sequences() -> list[str]:
    """50 random sequences of 500 bp, for peers that need milliseconds for each."""
    return random_dna(50, 500, seed=1)


@pytest.fixture(scope="session")
def training_sequences() -> list[str]:
    """400 random sequences of 1,000 bp that no benchmark encodes."""
    return random_dna(400, 1000, seed=2)
