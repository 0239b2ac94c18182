"""The same data and model tuned with every combination of some settings, and a table of what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgenome.errors import ArgumentError
from fastgenome.training.finetune import finetune
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
        rows: one for each combination: its settings, the figures on the validation data, steps, parameters,
            and whether it is the best by the criterion of Training.
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
        ArgumentError: a name is no setting, or a value is not accepted. Others as ``finetune``.
    """
    settings = Settings.of(method, training)
    if settings.training is None:
        raise ArgumentError("sweep: the probe chooses its penalty by itself; give a method that tunes")
    names = {name: settings.field_name(name) for name in grid}
    if unknown := [name for name, full in names.items() if full is None]:
        raise ArgumentError(f"grid has {unknown}, expected some of {', '.join(settings.types())}")
    if not grid or not all(isinstance(values, (list, tuple)) and values for values in grid.values()):
        raise ArgumentError(f"grid must hold a list of values for each of its settings; got {dict(grid)!r}")
    points = [dict(zip(names.values(), values, strict=True)) for values in product(*grid.values())]
    chosen = [settings.replaced(point) for point in points]  # type: ignore[arg-type]
    rows: list[dict[str, Any]] = []
    best: Predictor | None = None
    for point, configs in zip(points, chosen, strict=True):
        folder = None if out is None else Path(out) / ",".join(f"{k}={_text(v)}" for k, v in point.items())
        predictor = finetune(data, method=configs.method, training=configs.training, out=folder, **arguments)
        rows.append({**{str(k): _text(v) for k, v in point.items()}, **_figures(predictor)})
        if best is None or _standing(predictor) > _standing(best):
            best = predictor
            for row in rows:
                row["best"] = row is rows[-1]
        if out is not None:
            write_rows(Path(out) / TABLE, rows)
    assert best is not None
    return Sweep(rows, best)


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
