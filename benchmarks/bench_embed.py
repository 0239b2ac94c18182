"""Embedding with packed batches against the same weights run padded, as most scripts do today.

The peer pads batches of 32 in the order of arrival, passes an attention mask, computes in float32 and takes
the mean over the mask. Both start from strings and end with one vector per sequence.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from padded_peer import PaddedPeer
from pytest_benchmark.fixture import BenchmarkFixture

import fastgenome as fg

GROUPS = {"100-2000 bp": (100, 2000, 96), "500 bp": (500, 500, 192)}


@pytest.fixture(scope="module", params=GROUPS)
def sequences(request: pytest.FixtureRequest) -> list[str]:
    shortest, longest, count = GROUPS[request.param]
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("ACGT"), n)) for n in rng.integers(shortest, longest + 1, count)]


@pytest.fixture(scope="module")
def padded(sequences: list[str]) -> NDArray[np.float32]:
    return PaddedPeer(fg.load("tiny", device="cpu", dtype="float32")).embed(sequences)


def measure(
    benchmark: BenchmarkFixture, embed: Callable[[list[str]], NDArray[np.float32]], sequences: list[str]
) -> NDArray[np.float32]:
    """Time one call over all sequences; sequences of one length class form one group."""
    lengths = sorted({len(sequence) for sequence in sequences})
    benchmark.group = f"embed, {lengths[0]}-{lengths[-1]} bp, {torch.get_num_threads()} threads"
    benchmark.extra_info["bases"] = sum(map(len, sequences))
    found: NDArray[np.float32] = benchmark.pedantic(embed, (sequences,), warmup_rounds=1, rounds=7)
    return found


def test_embed_padded_float32(benchmark: BenchmarkFixture, sequences: list[str]) -> None:
    model = fg.load("tiny", device="cpu", dtype="float32")
    packed = model.embed(sequences, pooling="mean", layer=-1)
    found = measure(benchmark, PaddedPeer(model).embed, sequences)
    np.testing.assert_allclose(found, packed, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_embed_packed(
    benchmark: BenchmarkFixture,
    sequences: list[str],
    padded: NDArray[np.float32],
    dtype: str,
) -> None:
    model = fg.load("tiny", device="cpu", dtype=dtype)
    found = measure(benchmark, lambda s: model.embed(s, pooling="mean", layer=-1), sequences)
    # bfloat16 has three significant digits.
    bound = 1e-4 if model.dtype == torch.float32 else 0.05 * float(np.abs(padded).max())
    np.testing.assert_allclose(found, padded, rtol=0, atol=bound)
