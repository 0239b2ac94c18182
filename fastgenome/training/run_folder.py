"""The folder of a tuning run: checkpoints while it trains, then the predictor with its log and plots."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgenome.atomic import atomic_folder, check_output_folder
from fastgenome.errors import CheckpointError
from fastgenome.training.predictor_folder import DESCRIPTION
from fastgenome.training.run_log import plot_lines, write_rows
from fastgenome.training.tuning_checkpoint import CheckpointFolder

if TYPE_CHECKING:
    from fastgenome.prediction import Predictor
    from fastgenome.training.tuning_run import TuningRun

# Holds the checkpoints, and the marker by which a run that has not ended is known.
CHECKPOINTS = "training"
_RUNNING = f"{CHECKPOINTS}/running.json"
METRICS = "metrics.json"


def check_run_folder(path: str | Path) -> Path:
    """Check, before any work, that a run can be kept at `path`; ArgumentError where it cannot."""
    folder = Path(path)
    marker = _RUNNING if (folder / _RUNNING).is_file() else DESCRIPTION
    return check_output_folder(folder, marker=marker)


def begin(folder: Path, settings: str, *, keep: int, resume: bool) -> CheckpointFolder:
    """Make room for a run's checkpoints; without `resume` those of an earlier run are removed."""
    import shutil

    if not resume:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    (folder / _RUNNING).write_text(json.dumps({"settings": settings}) + "\n")
    return CheckpointFolder(folder / CHECKPOINTS, settings, keep)


def is_finished(folder: Path, settings: str) -> bool:
    """Whether this very run has ended here; CheckpointError where another one has."""
    if (folder / CHECKPOINTS).exists() or not (folder / METRICS).is_file():
        return False
    try:
        stored = json.loads((folder / METRICS).read_text())["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"cannot read {folder / METRICS}: {error!r}") from None
    if stored != settings:
        raise CheckpointError(
            f"{folder} holds a finished run with other data or settings; choose another folder, or "
            "replace it with resume=False"
        )
    return True


def end(folder: Path, predictor: Predictor, run: TuningRun, settings: str) -> None:
    """Put the predictor, the log and the plots in the place of the checkpoints, at once."""
    marker = _RUNNING if (folder / _RUNNING).is_file() else DESCRIPTION
    report = {
        "settings": settings,
        "seconds": run.seconds,
        "metrics": predictor.metrics,
        **predictor.hyperparameters,
    }
    with atomic_folder(folder, marker=marker) as hidden:
        predictor.write(hidden)
        write_rows(hidden / "log.csv", run.log)
        write_rows(hidden / "validation.csv", run.selection.evaluations)
        (hidden / METRICS).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if run.allocator is not None:
            history = run.allocator.history
            history.write_csv(hidden / "ranks.csv")
            if find_spec("matplotlib") is not None:
                history.plot(hidden / "ranks.png", total_steps=run.step)
        plot_lines(hidden / "training.png", _panels(run))


def _panels(run: TuningRun) -> dict[str, Any]:
    """The losses, and the figure that chose the best weights."""
    steps = [row["step"] for row in run.log]
    times = [row["step"] for row in run.selection.evaluations]
    losses = {
        "training": (steps, [row["loss"] for row in run.log]),
        "validation": (times, [row["loss"] for row in run.selection.evaluations]),
    }
    chosen = run.selection.criterion
    if chosen == "loss":
        return {"loss": losses}
    figures = [row[chosen] for row in run.selection.evaluations]
    return {"loss": losses, f"validation {chosen}": {chosen: (times, figures)}}
