"""Embedding with packed batches against the same weights run padded, as most scripts do today.

The peer pads batches of 32 in the order of arrival, passes an attention mask, computes in float32 and takes
the mean over the mask. Both start from strings and end with one vector per sequence.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.nn import functional as F

from fastgenome import models
from fastgenome.models.model import Model
from fastgenome.models.stem import BASES, UNKNOWN
from fastgenome.models.tiny import TinyConfig, create

GROUPS = {"100-2000 bp": (100, 2000, 96), "500 bp": (500, 500, 192)}


class PaddedPeer:
    """The weights of a model of the tiny family in a plain padded implementation."""

    def __init__(self, model: Model) -> None:
        self.tokenizer = model.tokenizer
        self.config = model.encoder.config
        assert (self.config.norm, self.config.positions, self.config.activation) == ("pre", "rotary", "geglu")
        self.weights = {name: weight.float() for name, weight in model.network.encoder.state_dict().items()}

    def embed(self, sequences: Sequence[str], batch_size: int = 32) -> NDArray[np.float32]:
        """Mean of the last hidden states over the attention mask, (n, dim)."""
        batches = [sequences[i : i + batch_size] for i in range(0, len(sequences), batch_size)]
        with torch.inference_mode():
            return np.concatenate([self._embed_batch(batch) for batch in batches])

    def _embed_batch(self, sequences: Sequence[str]) -> NDArray[np.float32]:
        stride = self.config.stem_stride
        tokens = [torch.from_numpy(self.tokenizer([sequence]).ids).long() for sequence in sequences]
        width = -(-max(map(len, tokens)) // stride) * stride
        ids = torch.stack([F.pad(t, (0, width - len(t)), value=UNKNOWN) for t in tokens])
        known = torch.stack([F.pad(torch.ones(len(t)), (0, width - len(t))) for t in tokens])
        mask = known.unflatten(1, (-1, stride)).any(-1)
        x = self._norm("embedding_norm", self._stem(ids))
        cosine, sine = self._rotary(x.shape[1])
        for index in range(self.config.layers):
            x = self._layer(f"layers.{index}", x, mask, cosine, sine)
        x = self._norm("final_norm", x)
        weight = mask[..., None].float()
        pooled: NDArray[np.float32] = ((x * weight).sum(1) / weight.sum(1)).numpy()
        return pooled

    def _stem(self, ids: Tensor) -> Tensor:
        """A convolution over one-hot bases, and the embeddings of the k-mers that start in each row."""
        stride, window, k = self.config.stem_stride, self.config.stem_window, self.config.stem_k
        before = (window - stride) // 2
        bases = F.pad(ids, (before, window - stride - before), value=UNKNOWN)
        filters = self.weights["stem.places.weight"].unflatten(0, (window, BASES + 1)).permute(2, 1, 0)
        around = F.conv1d(F.one_hot(bases, BASES + 1).float().transpose(1, 2), filters, stride=stride)
        words = F.pad(ids, (0, k - 1), value=UNKNOWN).unfold(1, k, 1)
        code = (words * BASES ** torch.arange(k - 1, -1, -1)).sum(-1)
        code = code.masked_fill((words == UNKNOWN).any(-1), BASES**k)
        within = F.embedding(code, self.weights["stem.kmers.weight"]).unflatten(1, (-1, stride)).sum(2)
        return around.transpose(1, 2) + within

    def _layer(self, name: str, x: Tensor, mask: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        qkv = self._linear(f"{name}.qkv", self._norm(f"{name}.attention_norm", x))
        q, k, v = qkv.unflatten(2, (3, self.config.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = (t * cosine + self._turn(t) * sine for t in (q, k))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        x = x + self._linear(f"{name}.output", mixed.transpose(1, 2).flatten(2))
        gate, wide = self._linear(f"{name}.up", self._norm(f"{name}.ffn_norm", x)).chunk(2, -1)
        return x + self._linear(f"{name}.down", F.gelu(gate) * wide)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        return F.layer_norm(x, weight.shape, weight, bias, self.config.norm_eps)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _rotary(self, length: int) -> tuple[Tensor, Tensor]:
        head_dim = self.config.dim // self.config.heads
        frequencies = self.config.rotary_base ** (-torch.arange(0, head_dim, 2) / head_dim)
        angles = torch.outer(torch.arange(length), frequencies).repeat_interleave(2, 1)
        return angles.cos(), angles.sin()

    @staticmethod
    def _turn(x: Tensor) -> Tensor:
        return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of "tiny", or random ones of its shape where they are not installed: the time is the same."""
    shipped = models.REGISTRY["tiny"].directory
    if shipped and (shipped / "model.safetensors").exists():
        return shipped
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    create(TinyConfig()).save(folder)
    return folder


@pytest.fixture(scope="module", params=GROUPS)
def sequences(request: pytest.FixtureRequest) -> list[str]:
    shortest, longest, count = GROUPS[request.param]
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("ACGT"), n)) for n in rng.integers(shortest, longest + 1, count)]


@pytest.fixture(scope="module")
def expected(directory: Path, sequences: list[str]) -> NDArray[np.float32]:
    return PaddedPeer(models.load(directory, device="cpu", dtype="float32")).embed(sequences)


def measure(
    benchmark: BenchmarkFixture, embed: Callable[[list[str]], NDArray[np.float32]], sequences: list[str]
) -> NDArray[np.float32]:
    """Time one call over all sequences; sequences of one length class form one group."""
    lengths = sorted({len(sequence) for sequence in sequences})
    benchmark.group = f"embed, {lengths[0]}-{lengths[-1]} bp, {torch.get_num_threads()} threads"
    benchmark.extra_info["bases"] = sum(map(len, sequences))
    found: NDArray[np.float32] = benchmark.pedantic(embed, (sequences,), warmup_rounds=1, rounds=7)
    return found


def test_embed_padded_float32(
    benchmark: BenchmarkFixture, directory: Path, sequences: list[str], expected: NDArray[np.float32]
) -> None:
    peer = PaddedPeer(models.load(directory, device="cpu", dtype="float32"))
    np.testing.assert_array_equal(measure(benchmark, peer.embed, sequences), expected)


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_embed_packed(
    benchmark: BenchmarkFixture,
    directory: Path,
    sequences: list[str],
    expected: NDArray[np.float32],
    dtype: str,
) -> None:
    model = models.load(directory, device="cpu", dtype=dtype)
    found = measure(benchmark, lambda s: model.embed(s, pooling="mean", layer=-1), sequences)
    # bfloat16 has three significant digits.
    bound = 1e-4 if model.dtype == torch.float32 else 0.05 * float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
