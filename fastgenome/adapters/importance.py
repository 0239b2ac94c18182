"""The importance of every triplet: sensitivity × uncertainty, averaged over optimizer steps."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgenome.adapters.triplet_stacks import TripletStacks, gradient_of


class Importance:
    """Averages Ī and Ū of I = |w · ∂L/∂w| for every entry w of A, λ and B (Lingo, Eq. 1–3).

    Attributes:
        sensitivity: Ī, flat (size,).
        uncertainty: Ū, flat (size,), of |I_t − Ī_{t−1}| as in both papers. The published code of both
            takes |I_t − Ī_t|, which is β1 times as much: see ``scores``.
    """

    def __init__(self, stacks: TripletStacks, *, beta1: float, beta2: float) -> None:
        self.stacks = stacks
        self.beta1, self.beta2 = beta1, beta2
        self.sensitivity, self.uncertainty = stacks.zeros(), stacks.zeros()
        # Written anew by every update; kept, since fresh memory of this size costs more than the sums.
        self._parameters, self._change = stacks.zeros(), stacks.zeros()

    @torch.no_grad()
    def update(self) -> None:
        """Takes the parameters and their gradients, as they are, into the averages."""
        change = self.stacks.gather(gradient_of, out=self._change)
        change.mul_(self.stacks.gather(torch.Tensor.detach, out=self._parameters)).abs_()
        change.sub_(self.sensitivity)  # I_t − Ī_{t−1}
        self.sensitivity.add_(change, alpha=1 - self.beta1)
        self.uncertainty.lerp_(change.abs_(), 1 - self.beta2)

    @torch.no_grad()
    def scores(self, *, as_published: bool = False) -> Tensor:
        """S = s(λ) + mean s(A's row) + mean s(B's column), s = Ī · Ū (Eq. 1), (triplets,).

        ``as_published`` gives the published code's values, of the same order: β1 times these.
        """
        torch.mul(self.sensitivity, self.uncertainty, out=self._change)
        scores = self.stacks.per_triplet(self._change)
        return scores * self.beta1 if as_published else scores
