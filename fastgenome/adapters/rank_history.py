"""The rank of every adapted matrix over a run, as a table and as a picture."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastgenome.atomic import atomic_file
from fastgenome.errors import MissingExtraError

_MOST_LABELS = 40  # of matrices, beyond which a picture names only every second, third, …


@dataclass(frozen=True)
class RankHistory:
    """Ranks after each allocation.

    Attributes:
        names: of the matrices.
        steps: (allocations + 1,) optimizer steps after which ranks were allocated, the first 0: the start.
        ranks: (allocations + 1, matrices) triplets that each matrix has from that step on.
    """

    names: tuple[str, ...]
    steps: NDArray[np.int64]
    ranks: NDArray[np.int64]

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes one line per allocation: step, total, then the rank of every matrix under its name."""
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["step", "total", *self.names])
        totals = self.ranks.sum(1)
        for step, total, ranks in zip(self.steps, totals, self.ranks, strict=True):
            table.writerow([step, total, *ranks])
        with atomic_file(path) as file:
            file.write(text.getvalue().encode())

    def plot(self, path: str | os.PathLike[str], *, total_steps: int | None = None) -> None:
        """Draws a heat map, matrix × step, beside the final ranks; the file's suffix gives the format.

        Args:
            path: of a .png, .svg or .pdf.
            total_steps: of the run, where the last ranks end; by default one more than the last allocation.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError("plots need matplotlib: pip install 'fastgenome[plot]'") from error
        last = max(int(self.steps[-1]) + 1, total_steps or 0)
        count = len(self.names)
        most = max(int(self.ranks.max()), 1)
        # Without pyplot, no window system is asked for and no figure stays in memory.
        figure = Figure(figsize=(10, 2 + 0.18 * min(count, _MOST_LABELS)), layout="constrained")
        over_time, final = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
        edges = np.append(self.steps, last), np.arange(count + 1) - 0.5
        mesh = over_time.pcolormesh(*edges, self.ranks.T, vmin=0, vmax=most, cmap="viridis")
        figure.colorbar(mesh, ax=over_time, label="rank")
        labelled = range(0, count, -(-count // _MOST_LABELS))
        over_time.set_yticks(labelled, [self.names[i] for i in labelled], fontsize=6)
        over_time.set(xlabel="optimizer step", ylim=(count - 0.5, -0.5))
        final.barh(range(count), self.ranks[-1])
        final.set(xlabel="final rank", xlim=(0, most))
        kind = os.path.splitext(path)[1].removeprefix(".") or "png"
        with atomic_file(path) as file:
            figure.savefig(file, format=kind, dpi=150)
