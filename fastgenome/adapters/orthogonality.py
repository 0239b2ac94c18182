"""AdaLoRA's regulariser: the rows of A and the columns of B shall be orthonormal."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgenome.adapters.triplet_stacks import Block, TripletStacks


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
        self._ranks = _by_rank(stacks.blocks)

    @torch.no_grad()
    def add(self, weight: float) -> Tensor:
        """Adds the gradient of ``weight * orthogonality(stacks)``; returns its value, a scalar."""
        blocks = self.stacks.blocks
        parameters, gradients = self.stacks.gather_parameters(), self.stacks.scratch
        norms = []
        for same in self._ranks:
            chosen = [blocks[i] for i in same]
            excess = _excess(chosen, [block.of(parameters) for block in chosen])
            norm = torch.linalg.vector_norm(excess, dim=(1, 2), keepdim=True)
            norms.append(norm.view(-1))
            # ∂‖AAᵀ − I‖/∂A = 2 (AAᵀ − I) A / ‖AAᵀ − I‖, and 0 where A is orthonormal.
            excess /= norm.clamp_min(torch.finfo(norm.dtype).tiny)
            parts = torch.split(excess, [block.shape[0] for block in chosen])
            for block, part in zip(chosen, parts, strict=True):
                matrix, gradient = block.of(parameters), block.of(gradients)
                factors = (part, matrix) if block.is_down else (matrix, part)
                torch.bmm(*factors, out=gradient)
        added = [gradient for block in blocks for gradient in block.of(gradients).unbind()]
        own = self.stacks.gradients()[len(self.stacks.values) :]
        torch._foreach_add_(own, added, alpha=2 * weight / len(added))
        return torch.cat(norms).mean() * weight


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
