"""What one adapter learns for some rows of a linear layer, and how a method describes itself."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from fastgenome.ops import LowRank
from fastgenome.tensor_state import state_of

# What a layer does, under the same names in every family.
ROLES = ("query", "key", "value", "output", "ffn_in", "ffn_out")


class AdapterConfig(Protocol):
    """A method and its settings: which roles it adapts, and how it makes their branches."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The roles to adapt."""

    @property
    def dropout(self) -> float:
        """Share of the input that is dropped before the low-rank products in training."""

    @property
    def seed(self) -> int:
        """Seed of the initial numbers."""

    def make_branch(
        self, layer: nn.Linear, rows: range, roles: Sequence[str], generator: Generator
    ) -> "Branch":
        """A new branch on some output rows of a layer, which play `roles`; numbers come from `generator`."""

    def peft_fields(self) -> dict[str, Any]:
        """The method's own fields of adapter_config.json."""


class Branch(nn.Module):
    """What one adapter does to the output rows start … stop of a linear layer.

    All are float32 and None where the method has none: `down` A (rank, in), `up` B (rows, rank), `values` λ
    (rank,) and `mask` (rank,) bool, `magnitude` m (rows,), `gain` (rows,), also on the bias, and `input_gain`
    (in,) on the layer's input. `scale` is s.
    """

    mask: Tensor | None

    def __init__(
        self,
        rows: range,
        *,
        scale: float = 1.0,
        down: Tensor | None = None,
        up: Tensor | None = None,
        values: Tensor | None = None,
        magnitude: Tensor | None = None,
        gain: Tensor | None = None,
        input_gain: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.start, self.stop = rows.start, rows.stop
        self.scale = scale
        self.down = _parameter(down)
        self.up = _parameter(up)
        self.values = _parameter(values)
        self.magnitude = _parameter(magnitude)
        self.gain = _parameter(gain)
        self.input_gain = _parameter(input_gain)
        self.register_buffer("mask", None if values is None else torch.ones_like(values, dtype=torch.bool))
        self._squares: tuple[object, Tensor] | None = None
        self._norm: tuple[object, Tensor] | None = None

    def low_rank(self) -> LowRank | None:
        """The branch's product, with masked values."""
        if self.down is None or self.up is None:
            return None
        values: Tensor | None = self.values
        if values is not None and self.mask is not None:
            values = values * self.mask
        return LowRank(self.down, self.up, values, self.start, self.scale)

    @property
    def gains(self) -> bool:
        """Whether factors on the layer's input or output are learned."""
        return any(x is not None for x in (self.magnitude, self.gain, self.input_gain))

    def factors(self) -> tuple[Tensor, Tensor]:
        """A and B of a method that has them."""
        assert self.down is not None
        assert self.up is not None
        return self.down, self.up

    def output_gain(self, weight: Tensor) -> Tensor | None:
        """g of the branch's rows, (rows,); `weight` is the layer's, (out, in)."""
        if self.magnitude is not None:
            return self.magnitude / self.norm(weight)
        return self.gain

    def delta(self) -> Tensor | None:
        """s · B diag(λ) A, (rows, in) float32."""
        product = self.low_rank()
        if product is None:
            return None
        up = product.up if product.values is None else product.up * product.values
        return product.scale * (up @ product.down)

    def norm(self, weight: Tensor) -> Tensor:
        """‖W + s B A‖ of each of the branch's rows, (rows,) float32, without gradient (Liu et al. 2024).

        B A is never built: ‖W‖² + 2 s rowsum((W Aᵀ) ⊙ B) + s² rowsum((B (A Aᵀ)) ⊙ B). Computed once for each
        state of the parameters, see `state_of`.
        """
        down, up = self.factors()
        state = tuple(map(state_of, (weight, down, up)))
        if self._norm is None or self._norm[0] != state:
            # A cached inference tensor would later break training.
            with torch.inference_mode(False):
                self._norm = state, self._row_norms(weight, down.detach().float(), up.detach().float())
        return self._norm[1]

    def _row_norms(self, weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
        rows = weight.detach()[self.start : self.stop].float()
        state = state_of(weight)
        if self._squares is None or self._squares[0] != state:
            self._squares = state, rows.square().sum(1)
        squares = self._squares[1]
        crossed = ((rows @ down.T) * up).sum(1)
        added = ((up @ (down @ down.T)) * up).sum(1)
        total = squares + 2 * self.scale * crossed + self.scale**2 * added
        # Where both cancel, rounding may leave less than nothing; a row of zeros has a magnitude of zero.
        least = torch.finfo(total.dtype).eps * squares + torch.finfo(total.dtype).tiny
        return total.maximum(least).sqrt()


def _parameter(tensor: Tensor | None) -> nn.Parameter | None:
    return None if tensor is None else nn.Parameter(tensor)
