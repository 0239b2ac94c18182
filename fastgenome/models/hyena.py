"""Hyena decoder on packed ids: gated causal convolutions, short and long, instead of attention.

Poli et al., Hyena Hierarchy (ICML 2023), in the form of HyenaDNA (Nguyen et al., NeurIPS 2023). Sequences are
taken by runs of equal length and never padded; residual stream, norms and convolutions are float32.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastgenome.errors import ArgumentError
from fastgenome.models.encoder import HiddenStates, Packing, Run, layer_indices, packing_of
from fastgenome.models.long_convolution import FilterForms, FilterPositions, LongConvolution
from fastgenome.models.transformer import check_fields, linear

# Rows that go through a layer at a time: on the CPU as many as stay in its cache.
_CPU_ROWS = 1024
_GPU_ROWS = 1 << 17

# Taps of the short convolution.
_SHORT = 3


@dataclass(frozen=True)
class HyenaConfig:
    """Shape of a Hyena decoder for sequences of at most `max_length` tokens.

    `ffn_dim` is the width between the two feed-forward products. The long filters come from networks with
    `filter_features` inputs, `filter_dim` hidden units and `filter_layers` layers between the first and the
    last; `filter_shift` is added to their decay. `final_eps` is that of the last norm, `norm_eps` that of
    the others.
    """

    vocabulary_size: int
    dim: int
    layers: int
    ffn_dim: int
    max_length: int
    filter_features: int = 5
    filter_dim: int = 64
    filter_layers: int = 2
    filter_shift: float = 0.05
    norm_eps: float = 1e-5
    final_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("vocabulary_size", "dim", "ffn_dim", "max_length", "filter_features", "filter_dim"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.layers < 0 or self.filter_layers < 0:
            raise ArgumentError("layers and filter_layers must not be negative")


class HyenaMixer(nn.Module):
    """Second-order Hyena operator: out(x0 * long(x1 * v)) with x0, x1, v = short(in(x))."""

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        dim = config.dim
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.short_weight = nn.Parameter(torch.empty(3 * dim, 1, _SHORT))
        self.short_bias = nn.Parameter(torch.empty(3 * dim))
        self.long = LongConvolution(
            dim,
            max_length=config.max_length,
            features=config.filter_features,
            filter_dim=config.filter_dim,
            inner=config.filter_layers,
            shift=config.filter_shift,
        )
        self.out_proj = nn.Linear(dim, dim)

    def gates(self, x: Tensor, before: int = 0) -> tuple[Tensor, Tensor]:
        """(sequences, before + length, dim) -> x0 and x1 * v, each (sequences, length, dim).

        The first `before` places only reach into the short convolution of those that follow.
        """
        projected = linear(self.in_proj, x).float()
        oldest, older, newest = self.short_weight[:, 0].unbind(1)
        mixed = torch.addcmul(self.short_bias, projected, newest)
        mixed[:, 1:].addcmul_(projected[:, :-1], older)
        mixed[:, 2:].addcmul_(projected[:, :-2], oldest)
        x0, x1, v = mixed[:, before:].chunk(3, 2)
        return x0, x1 * v


class HyenaLayer(nn.Module):
    """Mixer and feed-forward network, each after its norm and with its residual connection."""

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.mixer_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.mixer = HyenaMixer(config)
        self.ffn_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.up = nn.Linear(config.dim, config.ffn_dim)
        self.down = nn.Linear(config.ffn_dim, config.dim)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """(rows, dim) -> (rows, dim)."""
        rows = _CPU_ROWS if x.device.type == "cpu" else _GPU_ROWS
        forms = self.mixer.long.forms()
        blocks: list[Tensor] = []
        for run in _pieces(packing.runs, rows):
            blocks += self._run(_rows_of(x, run), forms, rows)
        if len(blocks) == 1:
            return blocks[0]
        return torch.cat(blocks) if blocks else x

    def _run(self, x: Tensor, forms: FilterForms, rows: int) -> list[Tensor]:
        """(sequences, length, dim) -> (sequences * length, dim) in blocks of some rows."""
        gate, wave = self._gates(x, rows)
        mixed = self.mixer.long(wave, forms)
        del wave
        blocks = zip(*(part.flatten(0, 1).split(rows) for part in (x, mixed, gate)), strict=True)
        return [self._finish(*block) for block in blocks]

    def _gates(self, x: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """The mixer's gates; of a long sequence for some rows at a time, with those just before them."""
        if x.shape[1] <= rows:
            return self.mixer.gates(self.mixer_norm(x))
        gates, waves = [], []
        for start in range(0, x.shape[1], rows):
            before = min(start, _SHORT - 1)
            part = self.mixer_norm(x[:, start - before : start + rows])
            gate, wave = self.mixer.gates(part, before)
            # The gate is a view of three times its size.
            gates.append(gate.contiguous())
            waves.append(wave)
        gate = torch.cat(gates, 1)
        del gates
        return gate, torch.cat(waves, 1)

    def _finish(self, x: Tensor, mixed: Tensor, gate: Tensor) -> Tensor:
        """The rest of the layer, which knows no neighbours, (rows, dim)."""
        x = x + linear(self.mixer.out_proj, mixed * gate)
        wide = F.gelu(linear(self.up, self.ffn_norm(x)), approximate="tanh")
        return x + linear(self.down, wide)


class Hyena(nn.Module):
    """A packed Hyena decoder: ids in, hidden states of chosen layers out. Trains through the same code."""

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary_size = config.vocabulary_size
        self.widths = (config.dim,) * (config.layers + 2)
        self.stride = 1
        self.has_attention = False
        self.embedding = nn.Embedding(config.vocabulary_size, config.dim)
        self.layers = nn.ModuleList(HyenaLayer(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.dim, eps=config.final_eps)

    def forward(
        self,
        ids: Tensor,
        offsets: Tensor,
        layers: Sequence[int] = (-1,),
        token_types: Tensor | None = None,
    ) -> HiddenStates:
        """Hidden states of a packed batch, float32.

        `ids` (total,) int32 or int64 on the model's device, `offsets` (n + 1,) int64 on the CPU. `layers`: 0
        is the embedding output, i the residual stream after layer i, `n_layers + 1` or -1 that stream after
        the final norm. Layers above the highest wanted are not run.
        """
        if token_types is not None:
            raise ArgumentError("this model has no token types")
        wanted = layer_indices(layers, len(self.widths))
        packing = packing_of(offsets, ids.device)
        longest = max((run.length for run in packing.runs), default=0)
        if longest > self.config.max_length:
            raise ArgumentError(
                f"a sequence has {longest} tokens, the filters end at {self.config.max_length}"
            )
        x = self.embedding(ids)
        states = {0: x} if 0 in wanted else {}
        for index in range(1, max(wanted, default=0) + 1):
            last = index > len(self.layers)
            x = self.final_norm(x) if last else self.layers[index - 1](x, packing)
            if index in wanted:
                states[index] = x
        return HiddenStates(tuple(states[index] for index in wanted), offsets)

    def settle_tables(self) -> None:
        """Make the loaded tables of the filters buffers, one for all layers whose tables are equal.

        Positions of a million places take 24 MB in each layer.
        """
        distinct: list[FilterPositions] = []
        for long in [part for part in self.modules() if isinstance(part, LongConvolution)]:
            _make_buffers(long, "deltas")
            _make_buffers(long.positions, "z", "t")
            equal = (p for p in distinct if torch.equal(p.z, long.positions.z))
            same = next((p for p in equal if torch.equal(p.t, long.positions.t)), None)
            if same is None:
                distinct.append(long.positions)
            else:
                long.positions = same


def _make_buffers(module: nn.Module, *names: str) -> None:
    for name in names:
        tensor = getattr(module, name).detach()
        delattr(module, name)
        module.register_buffer(name, tensor)


def _pieces(runs: Sequence[Run], rows: int) -> Iterator[Run]:
    """The runs cut into such of at most `rows` rows, or of one sequence."""
    for run in runs:
        step = max(1, rows // run.length)
        for first in range(0, run.sequences, step):
            count = min(step, run.sequences - first)
            yield Run(run.start + first * run.length, count, run.length)


def _rows_of(x: Tensor, run: Run) -> Tensor:
    """The rows of a run as (sequences, length, dim)."""
    rows = x[run.start : run.start + run.sequences * run.length]
    return rows.view(run.sequences, run.length, x.shape[1])
