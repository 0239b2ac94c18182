"""Embedding with Caduceus (four layers of 256) against its definition in the reference's own steps.

The peer does what the published code does where no GPU kernel can be built: each sequence alone, each way by
itself, decays and inputs of all tokens at once, then one step of the recurrence after the other. Both start
from strings and end with one vector per sequence. CPU time, to which other processes add nothing:
`OMP_NUM_THREADS=1 pytest --benchmark-timer=time.process_time benchmarks/bench_caduceus.py`.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import read_genome
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.nn import functional as F

from fastgenome.models.mamba import BidirectionalMamba, MambaConfig
from fastgenome.models.model import Model, Network
from fastgenome.tokenizers import load_tokenizer

COMPLEMENTS = [0, 1, 2, 3, 4, 5, 6, 10, 9, 8, 7, 11, 12, 13, 14, 15]
VARIANTS = {"PH": False, "PS": True}
# Shortest and longest in bases, and how many.
GROUPS = {"200-1000 bp": (200, 1000, 4), "500 bp": (500, 500, 4)}


def make_model(both_strands: bool) -> Model:
    torch.manual_seed(0)
    config = MambaConfig(
        vocabulary_size=16,
        dim=256,
        layers=4,
        inner_dim=512,
        states=16,
        kernel=4,
        rank=16,
        both_strands=both_strands,
        swap_strands=both_strands,
    )
    encoder = BidirectionalMamba(config).eval()
    if both_strands:
        encoder.complement_map.copy_(torch.tensor(COMPLEMENTS))
    return Model(
        name="caduceus",
        network=Network(encoder),
        tokenizer=load_tokenizer("caduceus"),
        licence="Apache-2.0",
        config={},
    )


class PlainCaduceus:
    """The weights of a model in a plain implementation, in the layout (sequences, channels, tokens)."""

    def __init__(self, model: Model) -> None:
        self.tokenizer = model.tokenizer
        self.config = model.network.encoder.config
        self.weights = model.network.encoder.state_dict()

    def embed(self, sequences: list[str]) -> NDArray[np.float32]:
        """Mean of the last hidden states over all tokens, (n, dim)."""
        with torch.inference_mode():
            return np.stack([self._states(sequence)[0].mean(0).numpy() for sequence in sequences])

    def _states(self, sequence: str) -> Tensor:
        ids = torch.from_numpy(self.tokenizer([sequence]).ids).long()[None]
        embedding, dim = self.weights["embedding.weight"], self.config.dim
        x = embedding[ids]
        if self.config.both_strands:
            reverse = self.weights["complement_map"][ids].flip(1)
            x = torch.cat((x, embedding[reverse].flip(1, 2)), 2)
        residual = torch.zeros_like(x)
        for index in range(self.config.layers):
            residual = residual + x
            if not self.config.both_strands:
                x = self._mix(index, self._norm(f"layers.{index}.norm", residual))
                continue
            residual = torch.cat((residual[..., dim:], residual[..., :dim]), 2)
            there, back = residual[..., :dim], residual[..., dim:].flip(1, 2)
            there, back = (
                self._mix(index, self._norm(f"layers.{index}.norm", strand)) for strand in (there, back)
            )
            x = torch.cat((there, back.flip(1, 2)), 2)
        x = residual + x
        halves = (x[..., :dim], x[..., dim:].flip(2)) if self.config.both_strands else (x,)
        normed = [self._norm("final_norm", half) for half in halves]
        return torch.cat((normed[0], *(half.flip(2) for half in normed[1:])), 2)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config.norm_eps)
        return x * scale * self.weights[f"{name}.weight"]

    def _mix(self, index: int, x: Tensor) -> Tensor:
        return self._one_way(index, 0, x) + self._one_way(index, 1, x.flip(1)).flip(1)

    def _one_way(self, index: int, way: int, x: Tensor) -> Tensor:
        prefix = f"layers.{index}.mixer."
        named = {k.removeprefix(prefix): v for k, v in self.weights.items() if k.startswith(prefix)}
        own = {name: value.chunk(2)[way] for name, value in named.items() if "proj.weight" not in name}
        inner, rank, states = self.config.inner_dim, self.config.rank, self.config.states
        u, gate = (named["in_proj.weight"] @ x.transpose(1, 2)).chunk(2, 1)  # (1, inner, tokens)
        edge = self.config.kernel - 1
        u = F.conv1d(u, own["conv_weight"], own["conv_bias"], padding=edge, groups=inner)[..., : x.shape[1]]
        u = F.silu(u)
        low, b, c = (own["x_proj"] @ u).split([rank, states, states], 1)
        delta = F.softplus(own["delta_weight"] @ low + own["delta_bias"][:, None])
        y = self._scan(u, delta, -torch.exp(own["a_log"]), b, c) + own["skip"][:, None] * u
        return (named["out_proj.weight"] @ (y * F.silu(gate))).transpose(1, 2)

    @staticmethod
    def _scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        decays = torch.exp(torch.einsum("ndl,ds->ndls", delta, a))
        pushed = torch.einsum("ndl,nsl,ndl->ndls", delta, b, u)
        state = pushed.new_zeros(*u.shape[:2], a.shape[1])
        outputs = []
        for step in range(u.shape[2]):
            state = decays[:, :, step] * state + pushed[:, :, step]
            outputs.append(torch.einsum("nds,ns->nd", state, c[:, :, step]))
        return torch.stack(outputs, 2)


@pytest.fixture(scope="module", params=GROUPS)
def group(request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    """Name and sequences, evenly spread over a genome."""
    shortest, longest, count = GROUPS[request.param]
    genome = read_genome()
    starts = np.linspace(0, len(genome) - longest, count, dtype=int)
    lengths = np.random.default_rng(0).integers(shortest, longest + 1, count)
    pairs = zip(starts, lengths, strict=True)
    return request.param, [genome[start : start + n].tobytes().decode() for start, n in pairs]


def measure(
    benchmark: BenchmarkFixture,
    embed: Callable[[list[str]], NDArray[np.float32]],
    group: tuple[str, list[str]],
    variant: str,
) -> NDArray[np.float32]:
    name, sequences = group
    benchmark.group = f"caduceus {variant}, {name}, {torch.get_num_threads()} threads"
    benchmark.extra_info["bases"] = sum(map(len, sequences))
    found: NDArray[np.float32] = benchmark.pedantic(embed, (sequences,), warmup_rounds=1, rounds=3)
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_embed_caduceus_plain(
    benchmark: BenchmarkFixture, group: tuple[str, list[str]], variant: str
) -> None:
    model = make_model(VARIANTS[variant])
    found = measure(benchmark, PlainCaduceus(model).embed, group, variant)
    np.testing.assert_allclose(found, model.embed(group[1], special_tokens=True), rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_embed_caduceus_packed(
    benchmark: BenchmarkFixture, group: tuple[str, list[str]], variant: str
) -> None:
    model = make_model(VARIANTS[variant])
    found = measure(benchmark, lambda s: model.embed(s, special_tokens=True), group, variant)
    np.testing.assert_allclose(found, PlainCaduceus(model).embed(group[1]), rtol=0, atol=1e-5)
