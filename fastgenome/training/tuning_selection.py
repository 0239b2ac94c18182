"""Which weights of a tuning run are the best, by the validation data alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from torch import Tensor

from fastgenome.errors import ArgumentError, InputError
from fastgenome.training.state import whole
from fastgenome.training.targets import Task
from fastgenome.training.tuning_config import Criterion

# Criteria of which less is better.
_FALLING = ("loss", "brier", "rmse")

_REGRESSION = ("r2", "pearson", "spearman", "rmse")

# Criteria that equal predictions leave undefined, whatever the data.
_CORRELATIONS = ("pearson", "spearman")


class Selection:
    """Evaluations so far, and a copy of the best weights.

    Attributes:
        criterion: the figure that decides; of equal figures the lower loss does.
        evaluations: one row of figures each, with "step" and "loss".
        best: tensors by name, on the CPU.
        best_step: at which they were taken.
        since_best: evaluations since then.
    """

    def __init__(self, task: Task, criterion: str | None) -> None:
        self.criterion = criterion or ("r2" if task.kind == "regression" else "mcc")
        self.evaluations: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.best_step = 0
        self.since_best = 0

    def add(self, row: dict[str, float], tensors: Mapping[str, Tensor], *, eligible: bool) -> None:
        """Note an evaluation of these weights, which may be the best only where they are eligible.

        Raises:
            InputError: it lacks the criterion.
        """
        reached = standing(row, self.criterion)
        self.evaluations.append(row)
        if not eligible:
            return
        if self.best and reached <= standing(self.best_row, self.criterion):
            self.since_best += 1
            return
        self.best_step, self.since_best = int(row["step"]), 0
        self.best = {name: whole(tensor.detach()).cpu().clone() for name, tensor in tensors.items()}

    @property
    def best_row(self) -> dict[str, float]:
        """The evaluation of the best weights."""
        return next(row for row in self.evaluations if row["step"] == self.best_step)

    def state(self) -> dict[str, Any]:
        """All but the weights, for JSON."""
        names = ("evaluations", "best_step", "since_best")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, Any], best: dict[str, Tensor]) -> None:
        """Put back a state and the best weights."""
        for name, value in state.items():
            setattr(self, name, value)
        self.best = best


def check_criterion(task: Task, criterion: Criterion | None) -> None:
    """ArgumentError for a criterion that is none of this kind of task."""
    of_regression = ("loss", *_REGRESSION)
    of_classes = tuple(name for name in get_args(Criterion) if name not in _REGRESSION)
    known = of_regression if task.kind == "regression" else of_classes
    if criterion is not None and criterion not in known:
        raise ArgumentError(
            f"criterion of a {task.kind} task must be one of {', '.join(known)}; got {criterion!r}"
        )


def standing(figures: Mapping[str, float], criterion: str) -> tuple[float, float]:
    """How good figures with their "loss" are, greater is better; InputError where they lack the criterion.

    NaN, and correlations with predictions that are all equal, are worse than any number.
    """
    if criterion in _CORRELATIONS and "r2" in figures:
        figures = {criterion: math.nan, **figures}
    if criterion not in figures:
        raise InputError(
            f"the validation data do not define {criterion} of this task; they give "
            f"{', '.join(name for name in figures if name in get_args(Criterion))}: choose one as criterion="
        )
    signs = (-1 if criterion in _FALLING else 1, -1)
    values = [sign * figures[name] for sign, name in zip(signs, (criterion, "loss"), strict=True)]
    reached, loss = (-math.inf if math.isnan(value) else value for value in values)
    return reached, loss
