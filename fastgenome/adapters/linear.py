"""The general form of an adapted linear layer, of which every method is a case.

y = g ⊙ (x Wᵀ + s · ((drop(x) Aᵀ) ⊙ λ) Bᵀ) + b, with W and b frozen. LoRA: λ = 1, g = 1. AdaLoRA: λ are masked
singular values. DoRA: g = m / ‖W + s B A‖. IA3: no A and B; g, or a factor on x, is learned.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from fastgenome import ops
from fastgenome.adapters.branch import AdapterConfig, Branch


@dataclass
class AttachedAdapters:
    """The adapters of a model: their settings by name, the active one, and the parameters frozen for them."""

    configs: dict[str, AdapterConfig] = field(default_factory=dict)
    active: str | None = None
    frozen: list[nn.Parameter] = field(default_factory=list)


class Stack(NamedTuple):
    """The low-rank products of k adapters on one layer, side by side."""

    down: Tensor  # (k, rank, in)
    up: Tensor  # (k, out, rank)
    scale: Tensor  # (k,)


class Mixture(NamedTuple):
    """Which adapter each sequence of a packed batch has."""

    stacks: "Mapping[AdapterLinear, Stack]"
    offsets: Tensor  # (n + 1,) rows
    places: Tensor  # (n,) in the stacks, -1 for none


# Of the thread that runs the batch; None where the active adapter acts.
MIXTURE: ContextVar[Mixture | None] = ContextVar("mixture", default=None)


class AdapterLinear(nn.Linear):
    """A linear layer with named adapters, of which at most one is active.

    Weight and bias are the parameters of the layer whose place it takes, under their names. Without an active
    adapter, or merged, it is that layer.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight = layer.weight
        self.bias = layer.bias
        self.train(layer.training)
        self.adapters = nn.ModuleDict()
        self.dropouts: dict[str, float] = {}
        self.active: str | None = None
        self._unmerged: tuple[nn.Parameter, nn.Parameter | None] | None = None

    def add(self, name: str, branches: Iterable[Branch], *, dropout: float) -> None:
        """Attach an adapter, not active yet; `dropout` is the share of the low-rank products' input."""
        ordered = sorted(branches, key=lambda branch: branch.start)
        self.adapters[name] = nn.ModuleList(ordered)
        self.dropouts[name] = dropout

    def remove(self, name: str) -> None:
        """Take an adapter off."""
        del self.adapters[name], self.dropouts[name]
        if self.active == name:
            self.active = None

    def branches(self, name: str) -> list[Branch]:
        """The branches of an adapter by the order of their rows; none where it does not touch this layer."""
        return list(cast(Iterable[Branch], self.adapters[name])) if name in self.adapters else []

    @property
    def idle(self) -> bool:
        """Whether the layer is a plain one: no active adapter, or one that is merged into the weight."""
        if (mixture := MIXTURE.get()) is not None:
            return self not in mixture.stacks
        return self.active is None or self.active not in self.adapters or self._unmerged is not None

    @property
    def merged(self) -> bool:
        """Whether the active adapter is merged into the weight."""
        return self._unmerged is not None

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out) in the type of the weight."""
        if self.idle:
            return ops.linear(x, self.weight, self.bias)
        if (mixture := MIXTURE.get()) is not None:
            down, up, scale = mixture.stacks[self]
            return ops.multi_adapter_linear(
                x, self.weight, self.bias, mixture.offsets, mixture.places, down=down, up=up, scale=scale
            )
        assert self.active is not None
        branches = self.branches(self.active)
        x = x.to(self.weight.dtype)
        for branch in branches:
            if branch.input_gain is not None:
                # A factor near 1 needs more than the 8 bits of a bfloat16.
                x = (x * branch.input_gain).to(x.dtype)
        dropout = self.dropouts[self.active] if self.training else 0.0
        products = [product for branch in branches if (product := branch.low_rank()) is not None]
        y = ops.adapter_linear(
            x.reshape(-1, x.shape[-1]),
            self.weight,
            self._scaled_bias(branches),
            products,
            gain=self._output_gain(branches),
            dropout=dropout,
            # Drawn from the default generator: its saved state, or that of a checkpoint, gives the same mask.
            seed=int(torch.randint(2**31, ())) if dropout else 0,
        )
        return y.view(*x.shape[:-1], self.out_features)

    @torch.no_grad()
    def stacked(self, names: Sequence[str]) -> Stack | None:
        """The low-rank products of several adapters; None where none of them touches this layer."""
        products = [[branch.low_rank() for branch in self.branches(name)] for name in names]
        ranks = max((sum(len(p.down) for p in of_one if p) for of_one in products), default=0)
        if not ranks:
            return None
        down = self.weight.new_zeros(len(names), ranks, self.in_features, dtype=torch.float32)
        up = self.weight.new_zeros(len(names), self.out_features, ranks, dtype=torch.float32)
        for place, of_one in enumerate(products):
            first = 0
            for product in filter(None, of_one):
                part = slice(first, first + len(product.down))
                down[place, part] = product.down
                values = product.scale if product.values is None else product.scale * product.values
                up[place, product.start : product.start + len(product.up), part] = product.up * values
                first = part.stop
        return Stack(down, up, up.new_ones(len(names)))

    def _output_gain(self, branches: Sequence[Branch]) -> Tensor | None:
        return self._spread({branch: branch.output_gain(self.weight) for branch in branches})

    def _scaled_bias(self, branches: Sequence[Branch]) -> Tensor | None:
        gain = self._spread({branch: branch.gain for branch in branches})
        return self.bias if gain is None or self.bias is None else (self.bias * gain).to(self.bias.dtype)

    def _spread(self, pieces: dict[Branch, Tensor | None]) -> Tensor | None:
        """Numbers of branches on all rows of the layer, (out,), 1 elsewhere; None where there are none."""
        if all(piece is None for piece in pieces.values()):
            return None
        spread: list[Tensor] = []
        end = 0
        for branch, piece in pieces.items():
            if piece is not None:
                spread += [piece.new_ones(branch.start - end), piece]
                end = branch.stop
        spread.append(spread[-1].new_ones(self.out_features - end))
        return torch.cat([part for part in spread if len(part)])

    @torch.inference_mode(False)
    @torch.no_grad()
    def merge(self) -> None:
        """Write the active adapter into weight and bias, computed in float32; the originals are kept."""
        if self.idle:
            return
        assert self.active is not None
        branches = self.branches(self.active)
        weight = self.weight.float().clone()
        for branch in branches:
            if branch.input_gain is not None:
                weight *= branch.input_gain
            if (delta := branch.delta()) is not None:
                weight[branch.start : branch.stop] += delta
        if (gain := self._output_gain(branches)) is not None:
            weight *= gain[:, None]
        bias = self._scaled_bias(branches)
        self._unmerged = cast(nn.Parameter, self.weight), cast(nn.Parameter | None, self.bias)
        self.weight = nn.Parameter(weight.to(self.weight.dtype), requires_grad=False)
        if self.bias is not None and bias is not self.bias:
            self.bias = nn.Parameter(cast(Tensor, bias), requires_grad=False)

    def unmerge(self) -> None:
        """Put back the weight and the bias from before the merge, bit for bit."""
        if self._unmerged is None:
            return
        for kept in self._unmerged:
            if kept is not None:
                # Where the merged weight was moved or converted, so are these.
                kept.data = kept.data.to(self.weight.device, self.weight.dtype)
        self.weight, self.bias = self._unmerged  # type: ignore[assignment]
        self._unmerged = None
