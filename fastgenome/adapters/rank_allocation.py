"""Gives a shrinking budget of ranks to the matrices that need them most, while an adapter is trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from fastgenome.adapters.adalora import AdaLoRA
from fastgenome.adapters.importance import Importance
from fastgenome.adapters.orthogonality import OrthogonalityGradient, orthogonality
from fastgenome.adapters.rank_history import RankHistory
from fastgenome.adapters.rank_sampling import ARS, resampled
from fastgenome.adapters.triplet_stacks import Triplets, TripletStacks
from fastgenome.errors import ArgumentError, CheckpointError, ModelError

_LINGO_SCORE_STEPS = 50  # between two updates of the scores in the published code


class RankAllocator:
    """Allocates ranks over all matrices at once, in a number of operations that does not grow with theirs.

    A training step, of one or more backward passes, counted from 1:

        backward, gradients unscaled
        allocator.add_orthogonality_gradient()  # where the settings have a weight
        allocator.after_backward(step)
        clipping, optimizer.step()
        allocator.after_step(step)
        optimizer.zero_grad()

    In mode "eq4" the importance |w · ∂L/∂w| is measured before the optimizer's step, where w is what the
    gradient was taken at. AdaLoRA and "lingo" measure after it, as their published code does; so gradients
    must last until `after_step`. Nothing here waits for the device, except reading `history`,
    `pattern` and `state_dict`. On several ranks all gradients must be whole and averaged (not FSDP's shards).

    Args:
        triplets: the adapted matrices by name, on their device; their masks are set here.
        settings: AdaLoRA or ARS.
        total_steps: optimizer steps of the run.

    Attributes:
        schedule: of the budget, over all matrices.
        step: the last finished one.
    """

    def __init__(self, triplets: Mapping[str, Triplets], settings: AdaLoRA, *, total_steps: int) -> None:
        self.settings = settings
        self._stacks = TripletStacks(triplets)
        self.schedule = settings.schedule(total_steps, matrices=len(triplets), triplets=self._stacks.triplets)
        self._mode = settings.mode if isinstance(settings, ARS) else "adalora"
        self._importance = Importance(self._stacks, beta1=settings.beta1, beta2=settings.beta2)
        self._regulariser = OrthogonalityGradient(self._stacks) if settings.orthogonality else None
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._pattern = torch.ones(self._stacks.triplets, dtype=torch.bool, device=self._stacks.device)
        self._held = torch.zeros(self._stacks.triplets, device=self._stacks.device)
        self._history = [(0, self._pattern)]
        self.step = self._taken = 0

    def orthogonality(self) -> Tensor:
        """The regulariser, without its weight: a scalar with gradients. Either add it to every loss, or call
        `add_orthogonality_gradient` once in a step, which is faster and independent of accumulation.
        """
        return orthogonality(self._stacks)

    def add_orthogonality_gradient(self) -> Tensor:
        """Adds the weighted regulariser's gradient to the parameters'; returns its value, a scalar."""
        if self._regulariser is None:
            return torch.zeros((), device=self._stacks.device)
        return self._regulariser.add(self.settings.orthogonality)

    @torch.no_grad()
    def after_backward(self, step: int) -> None:
        """Takes in the gradients of optimizer step ``step``, and in mode "eq4" the values of pruned triplets.

        Raises:
            ArgumentError: a step was left out or told twice.
            ModelError: a parameter has no gradient.
        """
        if step != self.step + 1 or step == self._taken:
            raise ArgumentError(f"step must be {self._taken + 1}, the one after the last; got {step}")
        if self._mode == "eq4":
            self._held = torch.cat(self._stacks.values)
            self._measure(step)
        self._taken = step

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Allocates the ranks that hold from step ``step`` + 1 on; call it before zero_grad.

        Raises:
            ArgumentError: a step was left out or told twice.
            ModelError: a parameter has no gradient.
        """
        if step != self.step + 1 or step != self._taken:
            raise ArgumentError(f"step must be {self._taken}, that of after_backward; got {step}")
        self.step = step
        if self._mode == "eq4":
            # A pruned value has no gradient; momentum and weight decay must not move it either.
            values = torch.where(self._pattern, torch.cat(self._stacks.values), self._held)
            self._stacks.spread(values, self._stacks.values)
        else:
            self._measure(step)
        if self.schedule.allocates(step):
            self._allocate(step)
        elif step > self.schedule.end and self._mode != "eq4":
            self._zero_all_but(self._pattern)

    @property
    def pattern(self) -> dict[str, list[bool]]:
        """Which triplets of every matrix are kept, by its name; waits for the device."""
        parts = torch.split(self._pattern.cpu(), self._stacks.ranks)
        return {name: part.tolist() for name, part in zip(self._stacks.names, parts, strict=True)}

    @property
    def history(self) -> RankHistory:
        """The ranks over time; waits for the device.

        Raises:
            ModelError: a gradient was not finite.
        """
        self._check_finite()
        patterns = torch.stack([pattern for _, pattern in self._history]).cpu()
        ranks = torch.stack([part.sum(1) for part in torch.split(patterns, self._stacks.ranks, dim=1)], 1)
        steps = np.array([step for step, _ in self._history], np.int64)
        return RankHistory(tuple(self._stacks.names), steps, ranks.numpy())

    def scores(self) -> Tensor:
        """The importance of every triplet (Eq. 1), (triplets,), in the order of the matrices."""
        return self._importance.scores(as_published=self._mode != "eq4")

    def state_dict(self) -> dict[str, Tensor]:
        """All that a run needs to go on as if it had not stopped, beside the network and the optimizer.

        Raises:
            ModelError: a gradient was not finite.
        """
        self._check_finite()
        return {
            "step": torch.tensor(self.step),
            "shapes": self._shapes(),
            "sensitivity": self._importance.sensitivity.clone(),
            "uncertainty": self._importance.uncertainty.clone(),
            "pattern": self._pattern.clone(),
            "generator": self._generator.get_state(),
            "history_steps": torch.tensor([step for step, _ in self._history]),
            "history_patterns": torch.stack([pattern for _, pattern in self._history]),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave.

        Raises:
            CheckpointError: it is of other matrices, or incomplete.
        """
        expected = self.state_dict()
        if state.keys() != expected.keys():
            raise CheckpointError(
                f"the ranks' state must hold {', '.join(expected)}; got {', '.join(state) or 'nothing'}"
            )
        for name, own in expected.items():
            free = name.startswith("history")  # of any length
            if state[name].dtype != own.dtype or state[name].shape[free:] != own.shape[free:]:
                raise CheckpointError(
                    f"the ranks' state {name} must be {own.dtype} {tuple(own.shape)}; "
                    f"got {state[name].dtype} {tuple(state[name].shape)}"
                )
        if not torch.equal(state["shapes"].cpu(), expected["shapes"]):
            raise CheckpointError("the ranks' state is of matrices of other shapes, or in another order")
        if len(state["history_steps"]) != len(state["history_patterns"]):
            raise CheckpointError("the ranks' state has a history of steps and one of patterns that differ")
        self.step = self._taken = int(state["step"])
        self._importance.sensitivity.copy_(state["sensitivity"])
        self._importance.uncertainty.copy_(state["uncertainty"])
        self._generator.set_state(state["generator"].cpu())
        patterns = state["history_patterns"].to(self._stacks.device)
        self._history = list(zip(state["history_steps"].tolist(), patterns, strict=True))
        self._pattern = state["pattern"].to(self._stacks.device, copy=True)
        self._set_masks()

    def _measure(self, step: int) -> None:
        due = self._mode != "lingo" or step % _LINGO_SCORE_STEPS == 0
        if step < self.schedule.end and due:
            self._importance.update()

    def _allocate(self, step: int) -> None:
        """Draws the pattern of triplets that are kept, and prunes the others as the mode does."""
        top = _top(self._importance.scores(), self.schedule.budget(step))
        self._pattern = top
        if isinstance(self.settings, ARS) and self._mode != "adalora" and step < self.schedule.end:
            p = self.settings.probability
            self._pattern = resampled(top, probability=p, generator=self._generator)
        if self._mode != "eq4":
            # "lingo" re-introduces values that are 0 by then: only its pattern has them.
            self._zero_all_but(self._pattern & top)
        self._history.append((step, self._pattern))
        self._set_masks()

    def _set_masks(self) -> None:
        # Where pruning sets values to 0, they get gradients and may grow again until the final phase.
        if self._mode == "eq4" or self.step >= self.schedule.end:
            self._stacks.spread(self._pattern, self._stacks.masks)

    def _zero_all_but(self, kept: Tensor) -> None:
        values = torch.cat(self._stacks.values).masked_fill_(~kept, 0)
        self._stacks.spread(values, self._stacks.values)

    def _shapes(self) -> Tensor:
        """(matrices, 3): rank, in, out."""
        return torch.tensor(self._stacks.shapes)

    def _check_finite(self) -> None:
        # A NaN or infinity in a gradient stays in the averages, so one look at the end finds it.
        if not torch.isfinite(self._importance.uncertainty).all():
            raise ModelError(
                f"a gradient of an adapter was not finite at or before step {self.step}: the importance of "
                "its triplets is unknown; lower the learning rate or clip gradients, and begin again"
            )


def _top(scores: Tensor, budget: int) -> Tensor:
    """(triplets,) bool: exactly ``budget`` of the highest, of equal ones the first."""
    order = scores.argsort(descending=True, stable=True)
    return torch.zeros_like(scores, dtype=torch.bool).index_fill_(0, order[:budget], True)
