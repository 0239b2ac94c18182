"""The same data and model tuned with every combination of some settings, and a table of what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgenome.errors import ArgumentError, DivergedError
from fastgenome.training.distributed import is_first_process
from fastgenome.training.finetune import finetune
from fastgenome.training.run_folder import check_run_folder
from fastgenome.training.run_log import write_rows
from fastgenome.training.settings import Settings
from fastgenome.training.tuning_selection import standing

if TYPE_CHECKING:
    from fastgenome.adapters import AdapterConfig
    from fastgenome.prediction import Predictor
    from fastgenome.training.labelled import Labelled
    from fastgenome.training.methods import Full
    from fastgenome.training.tuning_config import Training

TABLE = "sweep.csv"


@dataclass(frozen=True)
class Sweep:
    """What a sweep gave.

    Attributes:
        rows: one for each combination: its settings, whether its run diverged, and if not the figures on the
            validation data, steps, parameters; and whether it is the best by the criterion of Training.
        best: its predictor.
    """

    rows: list[dict[str, Any]]
    best: Predictor


def sweep(
    data: Labelled,
    grid: Mapping[str, Sequence[Any]],
    *,
    method: str | Full | AdapterConfig = "lora",
    training: Training | None = None,
    out: str | Path | None = None,
    **arguments: Any,
) -> Sweep:
    """Tune with every combination of settings and compare them on the validation data.

    Args:
        data: labelled data to train on.
        grid: values by the name of a setting of the method or of Training, e.g. ``{"rank": (2, 4, 8)}``.
        method, training: the other settings.
        out: folder for sweep.csv and the folder of each run.
        arguments: as of ``finetune``; without ``validation`` all runs hold out the same share of ``data``.

    Raises:
        ArgumentError: a name is no setting, or one that the runs cannot be compared over, a value is not
            accepted, or is there twice. DivergedError: every run diverged. Others as ``finetune``.
    """
    settings = Settings.of(method, training)
    if settings.training is None:
        raise ArgumentError("sweep: the probe chooses its penalty by itself; give a method that tunes")
    names = {name: settings.field_name(name) for name in grid}
    if unknown := [name for name, full in names.items() if full is None]:
        raise ArgumentError(f"grid has {unknown}, expected some of {', '.join(settings.types())}")
    if not grid or not all(isinstance(values, (list, tuple)) and values for values in grid.values()):
        raise ArgumentError(f"grid must hold a list of values for each of its settings; got {dict(grid)!r}")
    _check_grid(grid, names, validated=arguments.get("validation") is not None)
    points = [dict(zip(names.values(), values, strict=True)) for values in product(*grid.values())]
    chosen = [settings.replaced(point) for point in points]  # type: ignore[arg-type]
    folders = [None if out is None else Path(out) / _name(point) for point in points]
    for folder in folders:
        if folder is not None:
            check_run_folder(folder, resume=arguments.get("resume"))
    rows: list[dict[str, Any]] = []
    best: Predictor | None = None
    for point, configs, folder in zip(points, chosen, folders, strict=True):
        row = {str(name): _text(value) for name, value in point.items()}
        try:
            predictor = finetune(
                data, method=configs.method, training=configs.training, out=folder, **arguments
            )
        except DivergedError:
            rows.append({**row, "diverged": True, "best": False})
        else:
            rows.append({**row, "diverged": False, **_figures(predictor)})
            if best is None or _standing(predictor) > _standing(best):
                best = predictor
                for row in rows:
                    row["best"] = row is rows[-1]
        if out is not None and is_first_process():
            write_rows(Path(out) / TABLE, rows)
    if best is None:
        raise DivergedError("every run of the sweep diverged; use lower learning rates")
    return Sweep(rows, best)


def _check_grid(
    grid: Mapping[str, Sequence[Any]], names: Mapping[str, str | None], *, validated: bool
) -> None:
    if "criterion" in names.values():
        raise ArgumentError("grid has criterion, by which the runs are compared; give it in training=")
    if not validated and (moving := {"seed", "held_out"} & set(names.values())):
        raise ArgumentError(
            f"grid has {', '.join(sorted(moving))}, which would give every run other data to be compared on; "
            "give validation="
        )
    if len(set(names.values())) < len(names):
        raise ArgumentError(f"grid names a setting twice: {', '.join(names)}")
    for name, values in grid.items():
        if len({str(_text(value)) for value in values}) < len(values):
            raise ArgumentError(f"grid has a value of {name} twice: {values!r}")


def _name(point: Mapping[Any, Any]) -> str:
    return ",".join(f"{name}={_text(value)}" for name, value in point.items())


def _text(value: Any) -> Any:
    return "+".join(map(str, value)) if isinstance(value, tuple | list) else value


def _figures(predictor: Predictor) -> dict[str, Any]:
    told = ("steps", "best_step", "trained_parameters")
    return {
        **_validation(predictor),
        **{name: predictor.hyperparameters[name] for name in told},
        "best": False,
    }


def _validation(predictor: Predictor) -> dict[str, float]:
    return {"loss": predictor.hyperparameters["validation_loss"], **predictor.metrics["validation"]}


def _standing(predictor: Predictor) -> tuple[float, float]:
    return standing(_validation(predictor), predictor.hyperparameters["criterion"])
