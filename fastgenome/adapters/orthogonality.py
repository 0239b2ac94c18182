"""AdaLoRA's regulariser: the rows of A and the columns of B shall be orthonormal."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgenome.adapters.triplet_stacks import Block, TripletStacks, gradient_of


def orthogonality(stacks: TripletStacks) -> Tensor:
    """Mean over all A and B of ‖A Aᵀ − I‖_F and ‖Bᵀ B − I‖_F, a scalar with gradients (AdaLoRA, Eq. 4)."""
    stacked = [torch.stack(block.parameters) for block in stacks.blocks]
    norms = [
        torch.linalg.vector_norm(excess, dim=(1, 2))
        for excess in (
            _excess([stacks.blocks[i] for i in same], [stacked[i] for i in same])
            for same in _by_rank(stacks.blocks)
        )
    ]
    return torch.cat(norms).mean()


class OrthogonalityGradient:
    """Adds the regulariser's gradient to the parameters' own in a few operations for all matrices.

    Through ``orthogonality`` and backward, every matrix would get an operation of its own.
    """

    def __init__(self, stacks: TripletStacks) -> None:
        self.stacks = stacks
        self._parameters, self._gradients = stacks.zeros(), stacks.zeros()
        self._ranks = _by_rank(stacks.blocks)

    @torch.no_grad()
    def add(self, weight: float) -> Tensor:
        """Adds the gradient of ``weight * orthogonality(stacks)``; returns its value, a scalar."""
        blocks = self.stacks.blocks
        self.stacks.gather(torch.Tensor.detach, out=self._parameters)
        norms = []
        for same in self._ranks:
            chosen = [blocks[i] for i in same]
            excess = _excess(chosen, [block.of(self._parameters) for block in chosen])
            norm = torch.linalg.vector_norm(excess, dim=(1, 2), keepdim=True)
            norms.append(norm.view(-1))
            # ∂‖AAᵀ − I‖/∂A = 2 (AAᵀ − I) A / ‖AAᵀ − I‖, and 0 where A is orthonormal.
            excess /= norm.clamp_min(torch.finfo(norm.dtype).tiny)
            parts = torch.split(excess, [block.shape[0] for block in chosen])
            for block, part in zip(chosen, parts, strict=True):
                matrix, gradient = block.of(self._parameters), block.of(self._gradients)
                factors = (part, matrix) if block.is_down else (matrix, part)
                torch.bmm(*factors, out=gradient)
        self._add_to_parameters(2 * weight / sum(block.shape[0] for block in blocks))
        return torch.cat(norms).mean() * weight

    def _add_to_parameters(self, factor: float) -> None:
        blocks = self.stacks.blocks
        own = [gradient_of(parameter) for parameter in self.stacks.parameters[len(self.stacks.values) :]]
        added = [gradient for block in blocks for gradient in block.of(self._gradients).unbind()]
        torch._foreach_add_(own, added, alpha=factor)


def _by_rank(blocks: list[Block]) -> list[list[int]]:
    """Which blocks have matrices of the same rank, and so Gram matrices of one shape."""
    ranks: dict[int, list[int]] = {}
    for i, block in enumerate(blocks):
        ranks.setdefault(block.rank, []).append(i)
    return list(ranks.values())


def _excess(blocks: list[Block], stacked: list[Tensor]) -> Tensor:
    """A Aᵀ − I and Bᵀ B − I of blocks of one rank, (matrices, rank, rank)."""
    grams = [x @ x.mT if block.is_down else x.mT @ x for block, x in zip(blocks, stacked, strict=True)]
    return torch.cat(grams) - torch.eye(blocks[0].rank, device=grams[0].device)
