"""What tuning minimises: the loss of each kind of task, its weights and targets, and the trained head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fastgenome.errors import ArgumentError
from fastgenome.training.heads import LinearHead
from fastgenome.training.targets import Task


class Unit(NamedTuple):
    """Mean and standard deviation of a regression's targets, 0 and 1 of other tasks."""

    mean: float
    scale: float


def unit_of(task: Task, targets: NDArray[Any]) -> Unit:
    """The unit in which a regression's targets are learned."""
    return Unit(float(targets.mean()), float(targets.std())) if task.kind == "regression" else Unit(0.0, 1.0)


def example_losses(task: Task, scores: Tensor, targets: Tensor) -> Tensor:
    """Loss of each example, (n,), of a multi-label task (n, labels).

    `scores` (n, outputs) are logits, of a regression values in its unit, as are its `targets`, (n,).
    """
    match task.kind:
        case "regression":
            return (scores[:, 0] - targets) ** 2
        case "multiclass":
            return F.cross_entropy(scores, targets, reduction="none")
        case "binary":
            return F.binary_cross_entropy_with_logits(scores[:, 0], targets, reduction="none")
        case "multilabel":
            return F.binary_cross_entropy_with_logits(scores, targets, reduction="none")


def target_tensor(task: Task, targets: NDArray[Any], unit: Unit) -> Tensor:
    """Encoded labels as `example_losses` takes them."""
    if task.kind == "multiclass":
        return torch.from_numpy(targets.astype(np.int64))
    return torch.from_numpy(((targets - unit.mean) / unit.scale).astype(np.float32))


def example_weights(
    task: Task, targets: NDArray[Any], class_weights: str | Sequence[float] | None
) -> NDArray[np.float32]:
    """Weights of the examples' losses, in the shape of the targets, 1 on average.

    "balanced" gives every class the same sum. ArgumentError where weights and task do not fit.
    """
    if class_weights is None:
        return np.ones(targets.shape, dtype=np.float32)
    if task.kind == "regression":
        raise ArgumentError("class_weights: a regression has no classes")
    columns = targets if task.kind == "multilabel" else targets[:, None]
    count = 2 if task.kind == "multilabel" else len(task.classes)
    if isinstance(class_weights, str):
        sizes = np.stack([(columns == label).sum(axis=0) for label in range(count)])
        table = len(columns) / (count * np.maximum(sizes, 1))  # (classes, columns)
    else:
        given = np.asarray(class_weights, dtype=np.float64)
        wanted = columns.shape[1] if task.kind == "multilabel" else count
        if given.shape != (wanted,):
            raise ArgumentError(
                f"class_weights must hold {wanted} numbers for {task.output_names}; got {len(given)}"
            )
        table = np.stack([np.ones_like(given), given]) if task.kind == "multilabel" else given[:, None]
    chosen = np.take_along_axis(table, columns, axis=0)
    weights: NDArray[np.float32] = (chosen / chosen.mean(axis=0)).reshape(targets.shape).astype(np.float32)
    return weights


class TunedHead(nn.Module):
    """A linear head on standardised inputs, in training; `to_linear_head` gives what a Predictor holds."""

    mean: Tensor
    scale: Tensor

    def __init__(self, start: LinearHead, unit: Unit, *, zero: bool) -> None:
        super().__init__()
        self.kind, self.unit = start.kind, unit
        weight, bias = start.weight / unit.scale, (start.bias - unit.mean) / unit.scale
        if zero:
            weight, bias = np.zeros_like(weight), np.zeros_like(bias)
        self.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)))
        self.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))
        self.register_buffer("mean", torch.from_numpy(start.mean.astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy(start.scale.astype(np.float32)))

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, f) float32 -> scores (n, outputs)."""
        return F.linear((inputs - self.mean) / self.scale, self.weight, self.bias)

    def to_linear_head(self) -> LinearHead:
        """The head as it is now, in the unit of the labels."""
        parts = (self.mean, self.scale, self.weight, self.bias)
        # A NumPy view would pin the weight's storage, which FSDP frees.
        mean, scale, weight, bias = (part.detach().cpu().double().numpy() for part in parts)
        return LinearHead(
            self.kind, mean, scale, weight * self.unit.scale, bias * self.unit.scale + self.unit.mean
        )
