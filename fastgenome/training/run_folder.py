"""The folder of a tuning run: checkpoints while it trains, then the predictor with its log and plots."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgenome.atomic import atomic_file, atomic_folder, check_output_folder
from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.training.predictor_folder import DESCRIPTION, ESTIMATOR, LINEAR
from fastgenome.training.run_log import plot_lines, write_rows
from fastgenome.training.tuning_checkpoint import CheckpointFolder

if TYPE_CHECKING:
    from fastgenome.prediction import Predictor
    from fastgenome.training.tuning_run import TuningRun

# Holds the checkpoints, and the marker by which a run that has not ended is known.
CHECKPOINTS = "training"
_RUNNING = f"{CHECKPOINTS}/running.json"
METRICS = "metrics.json"

# All that a run writes; whatever else lies in its folder is not ours.
_WRITTEN = {
    *(DESCRIPTION, LINEAR, ESTIMATOR, "adapter", "model", CHECKPOINTS, METRICS),
    *("log.csv", "validation.csv", "ranks.csv", "ranks.png", "training.png"),
}


def check_run_folder(path: str | Path, *, resume: bool | None, tunes: bool = True) -> Path:
    """Check, before any work, that a run can be kept at `path`.

    Raises:
        ArgumentError: it cannot, or an unfinished run lies there and `resume` does not say what becomes of
            it; a probe (`tunes` is False) takes the place of a predictor alone.
    """
    folder = Path(path)
    running = (folder / _RUNNING).is_file()
    if running and resume is None:
        raise ArgumentError(
            f"{folder} holds an unfinished run; resume=True (--resume) continues it, "
            "resume=False (--restart) discards it"
        )
    if not tunes:
        return check_output_folder(folder, marker=DESCRIPTION)
    if not running and _only_begun(folder):
        check_output_folder(folder.parent)
        return check_output_folder(folder)
    return check_output_folder(folder, marker=_RUNNING if running else DESCRIPTION)


def _only_begun(folder: Path) -> bool:
    """Whether a run was killed here before it wrote anything."""
    checkpoints = folder / CHECKPOINTS
    if not checkpoints.is_dir() or list(folder.iterdir()) != [checkpoints]:
        return False
    # The marker itself may be half written.
    return all(path.name.startswith(f".{Path(_RUNNING).name}.") for path in checkpoints.iterdir())


def begin(folder: Path, settings: str, *, keep: int, resume: bool) -> CheckpointFolder:
    """Make room for a run's checkpoints; without `resume` those of an earlier run are removed."""
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    # First: what lies beside it is known by it, whenever this ends.
    with atomic_file(folder / _RUNNING) as file:
        file.write(json.dumps({"settings": settings}).encode() + b"\n")
    if not resume:
        for path in (folder / CHECKPOINTS).iterdir():
            if path.is_dir():
                shutil.rmtree(path)
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
            "replace it with resume=False (--restart)"
        )
    return True


def save(folder: Path, predictor: Predictor) -> None:
    """Put a predictor that was not tuned into its folder."""
    with _replaced(folder, DESCRIPTION) as hidden:
        predictor.write(hidden)


@contextmanager
def _replaced(folder: Path, marker: str) -> Iterator[Path]:
    """A new folder in the place of the old one, of which files that no run writes are kept."""
    with atomic_folder(folder, marker=marker) as hidden:
        yield hidden
        for path in folder.iterdir() if folder.exists() else ():
            if path.is_dir() and path.name not in _WRITTEN:
                shutil.copytree(path, hidden / path.name, symlinks=True)
            elif path.name not in _WRITTEN:
                shutil.copy2(path, hidden / path.name, follow_symlinks=False)


def end(folder: Path, predictor: Predictor, run: TuningRun, settings: str) -> None:
    """Put the predictor, the log and the plots in the place of the checkpoints, at once."""
    marker = _RUNNING if (folder / _RUNNING).is_file() else DESCRIPTION
    report = {
        "settings": settings,
        "seconds": run.seconds,
        "metrics": predictor.metrics,
        **predictor.hyperparameters,
    }
    with _replaced(folder, marker) as hidden:
        predictor.write(hidden)
        write_rows(hidden / "log.csv", run.log)
        write_rows(hidden / "validation.csv", run.selection.evaluations)
        (hidden / METRICS).write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
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
    figures = [row.get(chosen, math.nan) for row in run.selection.evaluations]
    return {"loss": losses, f"validation {chosen}": {chosen: (times, figures)}}
