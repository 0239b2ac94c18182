"""What a training run tells: tables of its steps, and plots of them where matplotlib is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastgenome.atomic import atomic_file

Rows = Sequence[Mapping[str, Any]]


def write_rows(path: Path, rows: Rows) -> None:
    """Write rows as CSV, whole or not at all; columns are those of all rows in the order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_file(path) as file:
        file.write(text.getvalue().encode())


def plot_lines(
    path: Path, panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]
) -> bool:
    """Draw one panel of lines over the steps for each figure; False, and no file, without matplotlib.

    `panels`: figure → name of a line → (steps, values). The file's ending chooses the format.
    """
    if find_spec("matplotlib") is None:
        return False
    # Not pyplot, which would choose a backend for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0 * len(panels), 3.5), layout="constrained")
    for axes, (name, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for label, (steps, values) in lines.items():
            axes.plot(steps, values, label=label, marker="." if len(steps) < 40 else None, linewidth=1)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(name)
        if 1 < len(lines) <= 12:
            axes.legend(frameon=False)
    with atomic_file(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)
    return True
