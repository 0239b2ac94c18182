"""The optimizer of a training run, and the learning rate over the steps of tuning."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def make_optimizer(
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """AdamW whose weight decay acts on matrices alone."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)


def rate_at(step: int, steps: int, *, highest: float, warmup: float) -> float:
    """Learning rate of a step, from 0 on: linear rise, then linear fall that would reach 0 after the last."""
    rise = round(warmup * steps)
    if step < rise:
        return highest * (step + 1) / rise
    return highest * (steps - step) / (steps - rise)
