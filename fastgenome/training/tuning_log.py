"""What is measured over the steps between two rows of a tuning run's log."""

from __future__ import annotations

import sys

import torch
from torch import Tensor


class StepTotals:
    """What was done since the last row of the log.

    Attributes:
        losses: of each step, on its device.
        seconds: that the steps took.
    """

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.sequences = self.bases = 0
        self.seconds = 0.0

    def add(self, loss: Tensor, *, sequences: int, bases: int, seconds: float) -> None:
        """Count one step."""
        self.losses.append(loss)
        self.sequences += sequences
        self.bases += bases
        self.seconds += seconds

    def rates(self) -> dict[str, float]:
        """Sequences and bases per second."""
        return {
            "sequences_per_second": self.sequences / self.seconds,
            "bases_per_second": self.bases / self.seconds,
        }


def peak_memory(device: torch.device) -> float:
    """Highest memory so far in megabytes (10⁶ bytes), of the GPU or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource

    # Kibibytes, but bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
