"""Bidirectional Mamba-1 on packed ids, for one strand or for both at once.

A layer adds what the layer before it gave to the residual stream, norms the sum and mixes it: each sequence
is read from left to right and from right to left, each way with its own short convolution and selective scan
(Gu and Dao 2023), and both share the products before and after. A model of both strands (Schiff et al. 2024)
runs the sequence and its reverse complement through the same weights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastgenome.errors import ArgumentError
from fastgenome.models.encoder import HiddenStates, Packing, layer_indices, packing_of
from fastgenome.models.selective_scan import selective_scan
from fastgenome.models.transformer import check_fields, linear

# From left to right and from right to left.
WAYS = 2

# Numbers of one step's state up to which sequences of equal length share the steps.
_STEP_NUMBERS = 1 << 17

# Rows of a sequence group that are mixed at a time; the state and the convolution's edge are carried over.
_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class MambaConfig:
    """Shape of a bidirectional Mamba.

    `inner_dim` channels of `states` states each; `kernel` taps of the convolution; `rank` of the product that
    gives the step sizes. With `both_strands` hidden states are 2 * dim wide, and `swap_strands` lets every
    layer read each strand's stream as that of the other.
    """

    vocabulary_size: int
    dim: int
    layers: int
    inner_dim: int
    states: int
    kernel: int
    rank: int
    norm_type: Literal["layer", "rms"] = "rms"
    norm_eps: float = 1e-5
    both_strands: bool = False
    swap_strands: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("vocabulary_size", "dim", "inner_dim", "states", "kernel", "rank"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.layers < 0:
            raise ArgumentError(f"layers must not be negative, got {self.layers}")
        if self.swap_strands and not self.both_strands:
            raise ArgumentError("swap_strands needs both_strands")


def _make_norm(config: MambaConfig) -> nn.Module:
    kind = nn.RMSNorm if config.norm_type == "rms" else nn.LayerNorm
    return kind(config.dim, eps=config.norm_eps)


class MambaMixer(nn.Module):
    """Mixes the rows of each sequence both ways.

    What each way has of its own is stacked along the first dimension, left to right first. Only the products
    that both ways share take a lower precision.
    """

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        inner, states, rank = config.inner_dim, config.states, config.rank
        self.config = config
        self.in_proj = nn.Linear(config.dim, 2 * inner, bias=False)
        self.out_proj = nn.Linear(inner, config.dim, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(WAYS * inner, 1, config.kernel))
        self.conv_bias = nn.Parameter(torch.zeros(WAYS * inner))
        self.x_proj = nn.Parameter(torch.empty(WAYS * (rank + 2 * states), inner))
        self.delta_weight = nn.Parameter(torch.empty(WAYS * inner, rank))
        # The inverse softplus of a step size of 0.01.
        self.delta_bias = nn.Parameter(torch.full((WAYS * inner,), math.log(math.expm1(0.01))))
        self.a_log = nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(WAYS * inner, 1))
        self.skip = nn.Parameter(torch.ones(WAYS * inner))
        for weight in (self.conv_weight, self.x_proj, self.delta_weight):
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """(strands, rows, dim) -> (strands, rows, dim) float32; each strand's rows are packed alike."""
        inner = self.config.inner_dim
        channels, gate = linear(self.in_proj, x).float().chunk(2, -1)
        mixed = []
        group = max(1, _STEP_NUMBERS // (WAYS * self.config.states * inner))
        for run in packing.runs:
            stop = run.start + run.sequences * run.length
            sequences = channels[:, run.start : stop].reshape(-1, run.length, inner)
            groups = [self._mix(part) for part in torch.split(sequences, group)]
            mixed.append(_joined(groups, 0).reshape(len(x), -1, inner))
        y = _joined(mixed, 1) if mixed else channels
        return linear(self.out_proj, y * F.silu(gate)).float()

    def _mix(self, x: Tensor) -> Tensor:
        """(sequences, length, inner) -> the same: convolution and scan of both ways, added."""
        sequences, length, inner = x.shape
        both = torch.stack((x, x.flip(1)))
        edge = self.config.kernel - 1
        both = F.pad(both, (0, 0, edge, 0))  # (ways, sequences, edge + length, inner)
        a = -torch.exp(self.a_log).view(WAYS, inner, -1).transpose(1, 2).contiguous()
        state = x.new_zeros(WAYS, sequences, self.config.states, inner)
        block = max(1, _BLOCK_ROWS // sequences)
        blocks = []
        for start in range(0, length, block):
            y, state = self._mix_block(both[:, :, start : start + block + edge], a, state)
            blocks.append(y)
        there, back = _joined(blocks, 2).unbind(0)
        return there + back.flip(1)

    def _mix_block(self, x: Tensor, a: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(ways, sequences, kernel - 1 + rows, inner) -> (ways, sequences, rows, inner), and the state."""
        rank, states = self.config.rank, self.config.states
        x = F.silu(self._convolve(x))
        shape = x.shape[:-1]
        flat = x.flatten(1, 2)  # (ways, sequences * rows, inner)
        projected = torch.bmm(flat, self.x_proj.view(WAYS, -1, x.shape[-1]).transpose(1, 2))
        low, b, c = torch.split(projected, [rank, states, states], -1)
        weight = self.delta_weight.view(WAYS, -1, rank).transpose(1, 2)
        delta = F.softplus(torch.baddbmm(self.delta_bias.view(WAYS, 1, -1), low, weight))
        y, state = selective_scan(
            x, delta.view(x.shape), a, b.reshape(*shape, -1), c.reshape(*shape, -1), state
        )
        return torch.addcmul(y, self.skip.view(WAYS, 1, 1, -1), x), state

    def _convolve(self, x: Tensor) -> Tensor:
        """Causal convolution of each channel: (ways, sequences, kernel - 1 + rows, inner) -> (…, rows, …)."""
        rows = x.shape[2] - self.config.kernel + 1
        taps = self.conv_weight.view(WAYS, 1, 1, -1, self.config.kernel).unbind(-1)
        out = self.conv_bias.view(WAYS, 1, 1, -1)
        for place, tap in enumerate(taps):
            out = torch.addcmul(out, x[:, :, place : place + rows], tap)
        return out


def _joined(pieces: list[Tensor], dim: int) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)


class MambaLayer(nn.Module):
    """Norm and mixer; the residual stream is the caller's."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.norm = _make_norm(config)
        self.mixer = MambaMixer(config)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """(strands, rows, dim) -> (strands, rows, dim)."""
        mixed: Tensor = self.mixer(self.norm(x), packing)
        return mixed


class BidirectionalMamba(nn.Module):
    """Ids in, hidden states of chosen layers out: what enters each layer, and the normed sum after the last.

    A strand's stream is kept as that strand is read: the second holds the reverse complement from its own
    first row on. Hidden states of both strands join them as published, the second with its rows and its
    channels reversed.
    """

    stride = 1
    has_attention = False
    complement_map: Tensor

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary_size = config.vocabulary_size
        self.widths = ((2 if config.both_strands else 1) * config.dim,) * (config.layers + 1)
        self.embedding = nn.Embedding(config.vocabulary_size, config.dim)
        if config.both_strands:
            self.register_buffer("complement_map", torch.arange(config.vocabulary_size))
        self.layers = nn.ModuleList(MambaLayer(config) for _ in range(config.layers))
        self.final_norm = _make_norm(config)

    def forward(
        self,
        ids: Tensor,
        offsets: Tensor,
        layers: Sequence[int] = (-1,),
        token_types: Tensor | None = None,
    ) -> HiddenStates:
        """Hidden states of a packed batch, float32, see `Encoder`; there are no token types."""
        if token_types is not None:
            raise ArgumentError("this model has no token types")
        wanted = layer_indices(layers, len(self.widths))
        packing = packing_of(offsets, ids.device)
        mirrored = _mirrored_rows(offsets, packing)
        x = self.embedding(self._strands(ids, mirrored)).float()  # (strands, rows, dim)
        residual = torch.zeros_like(x)
        states = {}
        highest = max(wanted, default=0)
        for index in range(highest + 1):
            if index in wanted:
                last = index == len(self.layers)
                states[index] = self._joined(self.final_norm(x + residual) if last else x, mirrored)
            if index < highest:
                residual = x + residual
                if self.config.swap_strands:
                    residual = residual.flip(0, 2)[:, mirrored]
                x = self.layers[index](residual, packing)
        return HiddenStates(tuple(states[index] for index in wanted), offsets)

    def _strands(self, ids: Tensor, mirrored: Tensor) -> Tensor:
        if not self.config.both_strands:
            return ids[None]
        ids = ids.long()
        return torch.stack((ids, self.complement_map[ids[mirrored]]))

    def _joined(self, x: Tensor, mirrored: Tensor) -> Tensor:
        if not self.config.both_strands:
            return x[0]
        return torch.cat((x[0], x[1, mirrored].flip(1)), 1)


def _mirrored_rows(offsets: Tensor, packing: Packing) -> Tensor:
    """For each row the row that lies as far from its sequence's end, (rows,) int64."""
    ends = torch.repeat_interleave(offsets[1:], offsets.diff()).to(packing.positions.device)
    return ends - 1 - packing.positions


class BothStrandsHead(nn.Module):
    """Logits of both strands, added: those of the second with every token's complement in its place."""

    complement_map: Tensor

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.decoder = nn.Linear(dim, outputs, bias=False)
        self.register_buffer("complement_map", torch.arange(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(rows, 2 * dim) -> (rows, outputs), float32."""
        forward, reverse = x.chunk(2, 1)
        logits = linear(self.decoder, reverse.flip(1)).float()[:, self.complement_map]
        return linear(self.decoder, forward).float() + logits
