"""The importance of every triplet: sensitivity × uncertainty, averaged over optimizer steps."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgenome.adapters.triplet_stacks import TripletStacks


class Importance:
    """Averages Ī and Ū of I = |w · ∂L/∂w| for every entry w of A, λ and B (Lingo, Eq. 1–3).

    Attributes:
        sensitivity: Ī, flat (size,).
        uncertainty: Ū / (1 − β2), flat (size,), which one sum updates; Ū averages |I_t − Ī_{t−1}| as in both
            papers. The published code of both has |I_t − Ī_t|, β1 times as much: see `scores`.
    """

    def __init__(self, stacks: TripletStacks, *, beta1: float, beta2: float) -> None:
        self.stacks = stacks
        self.beta1, self.beta2 = beta1, beta2
        self.sensitivity, self.uncertainty = stacks.zeros(), stacks.zeros()

    @torch.no_grad()
    def update(self) -> None:
        """Takes the parameters and their gradients, as they are, into the averages."""
        change = self.stacks.gather_gradients()
        change.mul_(self.stacks.gather_parameters()).abs_()
        change.sub_(self.sensitivity)  # I_t − Ī_{t−1}
        self.sensitivity.add_(change, alpha=1 - self.beta1)
        torch.add(change.abs_(), self.uncertainty, alpha=self.beta2, out=self.uncertainty)

    @torch.no_grad()
    def scores(self, *, as_published: bool = False) -> Tensor:
        """S = s(λ) + mean s(A's row) + mean s(B's column), s = Ī · Ū (Eq. 1), (triplets,).

        ``as_published`` gives the published code's values, of the same order: β1 times these.
        """
        products = torch.mul(self.sensitivity, self.uncertainty, out=self.stacks.scratch)
        scale = (1 - self.beta2) * (self.beta1 if as_published else 1)
        return self.stacks.per_triplet(products) * scale
