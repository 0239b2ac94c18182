"""HyenaDNA against a plain implementation of its published definition with the same weights.

The peer does what the published code does: it pads batches of 32 in the order of arrival, computes the filter
of every layer at every call, and transforms with twice the padded length. It pads on the right, where padding
changes nothing that is pooled. Both start from strings and end with the mean over the bases of each sequence.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import fastgenome as fg
from fastgenome.models.model import Model

# Layers, width and longest sequence of two of the published sizes.
SIZES = {"tiny-1k": (2, 128, 1026), "small-32k": (4, 256, 32770)}
SEQUENCES = 96


def write_checkpoint(directory: Path, layers: int, dim: int, longest: int) -> Path:
    """A random checkpoint in the published layout."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    def affine(name: str, outputs: int, inputs: int) -> dict[str, Tensor]:
        weight = normal(outputs, inputs, scale=inputs**-0.5)
        return {f"{name}.weight": weight, f"{name}.bias": normal(outputs, scale=0.1)}

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + normal(dim, scale=0.1), f"{name}.bias": normal(dim, scale=0.1)}

    time = torch.linspace(0, 1, longest)[:, None]
    angle = torch.arange(longest)[:, None] * 2 * math.pi / longest * torch.tensor([1e-4, 1.0])
    features = torch.cat([time, angle.cos(), -angle.sin()], 1)
    tensors = {"hyena.backbone.embeddings.word_embeddings.weight": normal(16, dim)}
    for index in range(layers):
        layer = f"hyena.backbone.layers.{index}"
        filters = f"{layer}.mixer.filter_fn"
        tensors |= norm(f"{layer}.norm1") | norm(f"{layer}.norm2")
        tensors |= affine(f"{layer}.mlp.fc1", 4 * dim, dim) | affine(f"{layer}.mlp.fc2", dim, 4 * dim)
        tensors |= affine(f"{layer}.mixer.in_proj", 3 * dim, dim) | affine(
            f"{layer}.mixer.out_proj", dim, dim
        )
        tensors[f"{layer}.mixer.short_filter.weight"] = normal(3 * dim, 1, 3, scale=0.5)
        tensors[f"{layer}.mixer.short_filter.bias"] = normal(3 * dim, scale=0.1)
        for place, inputs in ((0, 5), (2, 64), (4, 64)):
            tensors |= affine(f"{filters}.implicit_filter.{place}", 64, inputs)
        tensors[f"{filters}.implicit_filter.1.freq"] = torch.full((1, 64), 10.0)
        tensors[f"{filters}.implicit_filter.6.weight"] = normal(dim, 64, scale=0.02)
        tensors[f"{filters}.bias"] = normal(dim)
        tensors[f"{filters}.pos_emb.z"], tensors[f"{filters}.pos_emb.t"] = (
            features[None].clone(),
            time[None].clone(),
        )
        tensors[f"{filters}.modulation.deltas"] = torch.linspace(
            math.log(0.01) / 1.5, math.log(0.01) / 0.3, dim
        )[None, None]
    tensors |= norm("hyena.backbone.ln_f")
    config = {
        "model_type": "hyenadna", "d_model": dim, "d_inner": 4 * dim, "n_layer": layers, "vocab_size": 12,
        "pad_vocab_size_multiple": 8, "max_seq_len": longest, "emb_dim": 5, "filter_order": 64,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    save_file(tensors, directory / "model.safetensors")
    return directory


class PaddedHyena:
    """The published definition on padded batches."""

    PAD = 4

    def __init__(self, directory: Path, model: Model) -> None:
        self.tokenizer = model.tokenizer
        self.layers = model.config["n_layer"]
        tensors = load_file(directory / "model.safetensors")
        self.weights = {name.removeprefix("hyena.backbone."): weight for name, weight in tensors.items()}

    def embed(self, sequences: Sequence[str], batch_size: int = 32) -> NDArray[np.float32]:
        batches = [sequences[i : i + batch_size] for i in range(0, len(sequences), batch_size)]
        with torch.inference_mode():
            return np.concatenate([self._embed_batch(batch) for batch in batches])

    def _embed_batch(self, sequences: Sequence[str]) -> NDArray[np.float32]:
        tokens = [torch.from_numpy(self.tokenizer([sequence]).ids).long() for sequence in sequences]
        ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=self.PAD)
        x = F.embedding(ids, self.weights["embeddings.word_embeddings.weight"])
        for index in range(self.layers):
            x = x + self._mixer(f"layers.{index}.mixer", self._norm(f"layers.{index}.norm1", x))
            wide = self._linear(f"layers.{index}.mlp.fc1", self._norm(f"layers.{index}.norm2", x))
            x = x + self._linear(f"layers.{index}.mlp.fc2", F.gelu(wide, approximate="tanh"))
        x = self._norm("ln_f", x)
        # The last token, SEP, is no base.
        bases = torch.tensor([[len(token) - 1] for token in tokens])
        mask = (torch.arange(ids.shape[1]) < bases).float()[..., None]
        pooled: NDArray[np.float32] = ((x * mask).sum(1) / mask.sum(1)).numpy()
        return pooled

    def _mixer(self, name: str, x: Tensor) -> Tensor:
        length = x.shape[1]
        u = self._linear(f"{name}.in_proj", x).transpose(1, 2)
        weight, bias = (self.weights[f"{name}.short_filter.{kind}"] for kind in ("weight", "bias"))
        x0, x1, v = F.conv1d(u, weight, bias, padding=2, groups=len(weight))[..., :length].chunk(3, 1)
        v = v * x1
        spectrum = torch.fft.rfft(self._filter(f"{name}.filter_fn", length), n=2 * length)
        y = torch.fft.irfft(torch.fft.rfft(v, n=2 * length) * spectrum, n=2 * length)[..., :length]
        y = y + v * self.weights[f"{name}.filter_fn.bias"][:, None]
        return self._linear(f"{name}.out_proj", (y * x0).transpose(1, 2))

    def _filter(self, name: str, length: int) -> Tensor:
        h = self.weights[f"{name}.pos_emb.z"][:, :length]
        for place in (0, 2, 4):
            h = self._linear(f"{name}.implicit_filter.{place}", h)
            h = torch.sin(self.weights[f"{name}.implicit_filter.1.freq"] * h)
        h = F.linear(h, self.weights[f"{name}.implicit_filter.6.weight"])
        time = self.weights[f"{name}.pos_emb.t"][:, :length]
        decay = torch.exp(-time * self.weights[f"{name}.modulation.deltas"].abs())
        return (h * (decay + 0.05))[0].T

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])


@pytest.fixture(scope="module", params=SIZES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp(request.param), *SIZES[request.param])


@pytest.fixture(scope="module")
def dna() -> list[str]:
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("ACGT"), n)) for n in rng.integers(200, 1001, SEQUENCES)]


@pytest.mark.parametrize("peer", ["padded", "packed"])
def test_embed_hyenadna(benchmark: BenchmarkFixture, checkpoint: Path, dna: list[str], peer: str) -> None:
    model = fg.load(checkpoint, device="cpu", dtype="float32")
    padded = PaddedHyena(checkpoint, model)
    measured, other = (padded, model) if peer == "padded" else (model, padded)
    config = model.config
    benchmark.group = (
        f"hyenadna {config['n_layer']} x {config['d_model']}, 200-1000 bp, {torch.get_num_threads()} threads"
    )
    benchmark.extra_info["bases"] = sum(map(len, dna))
    found = benchmark.pedantic(measured.embed, (dna,), warmup_rounds=1, rounds=5)
    expected = other.embed(dna)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))
