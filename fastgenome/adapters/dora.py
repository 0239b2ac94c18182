"""DoRA (Liu et al. 2024): the magnitude of each row of the weight is learned apart from its direction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator, nn

from fastgenome.adapters.branch import Branch
from fastgenome.adapters.lora import LoRA


@dataclass(frozen=True)
class DoRA(LoRA):
    """y = m / ‖W + s B A‖ ⊙ (x Wᵀ + s · drop(x) Aᵀ Bᵀ) + b; settings as for LoRA.

    No gradient flows through the norm (section 4.3 of the paper). m starts as the norms of the rows of W.
    """

    def make_branch(
        self, layer: nn.Linear, rows: range, roles: Sequence[str], generator: Generator
    ) -> Branch:
        """As LoRA's, with m."""
        down, up = self.initial_factors(layer, rows, generator)
        magnitude = layer.weight.detach()[rows.start : rows.stop].float().norm(dim=1)
        return Branch(rows, scale=self.scale, down=down, up=up, magnitude=magnitude)

    def peft_fields(self) -> dict[str, Any]:
        """The method's own fields of adapter_config.json."""
        return super().peft_fields() | {"use_dora": True}
