"""The command that trains predictors, alone or in a sweep over settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgenome.cli_options import (
    AllN,
    Device,
    Dtype,
    Duplicates,
    Emissions,
    FeatureSets,
    IdColumn,
    InputFormat,
    Json,
    NoHeader,
    Prompt,
    SequenceColumn,
    Species,
    Strict,
    as_column,
    feature_names,
    read_options,
    show_progress,
)
from fastgenome.cli_output import Output, command
from fastgenome.cli_settings import configured, grid_of
from fastgenome.errors import ArgumentError

if TYPE_CHECKING:
    from fastgenome.models import Model
    from fastgenome.prediction import Predictor
    from fastgenome.training.settings import Settings
    from fastgenome.training.sweep import Sweep


def finetune(
    train: Annotated[Path, typer.Argument(help="labelled sequences: CSV, TSV or Parquet, plain or gzip")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the predictor, or of the sweep")],
    more_axes: Annotated[list[str] | None, typer.Argument(help="further KEY=V1,V2 of --sweep")] = None,
    model: Annotated[str, typer.Option(help='name or directory; "none" trains on features alone')] = "tiny",
    method: Annotated[str, typer.Option(help="probe, lora, dora, ia3, adalora, ars or full")] = "probe",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the method or its training; repeat")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the data; not of the probe")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--lr", help="highest learning rate; default: the method's own")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="sequences of one optimizer step")] = None,
    validation: Annotated[Path | None, typer.Option(help="labelled sequences to choose settings on")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run in the folder")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="discard an unfinished run in the folder")
    ] = False,
    sweep: Annotated[
        list[str] | None, typer.Option("--sweep", help="KEY=V1,V2,…: tune with every combination; repeat")
    ] = None,
    feature_sets: FeatureSets = "",
    label: Annotated[
        list[str] | None, typer.Option(help="label column, by name or number from 0; repeat for multi-label")
    ] = None,
    task: Annotated[str | None, typer.Option(help="binary, multiclass, multilabel or regression")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    species: Species = None,
    prompt: Prompt = None,
    format: InputFormat = None,
    sequence_column: SequenceColumn = "sequence",
    id_column: IdColumn = None,
    no_header: NoHeader = False,
    duplicates: Duplicates = "keep",
    all_n: AllN = "keep",
    strict: Strict = False,
    as_json: Json = False,
    emissions: Emissions = False,
) -> None:
    """Train a predictor on labelled sequences, or with --sweep one for every combination of settings."""
    reading = read_options(format, sequence_column, id_column, no_header, duplicates, all_n, strict)
    from fastgenome.training.distributed import is_first_process

    # Of several processes one tells what they did.
    first = is_first_process()
    with command(as_json, emissions=emissions and first) as output:
        from fastgenome.training.finetune import finetune as train_predictor
        from fastgenome.training.run_folder import check_run_folder
        from fastgenome.training.sweep import sweep as train_grid

        if more_axes and not sweep:
            raise ArgumentError(f"unexpected argument {more_axes[0]!r}; KEY=V1,V2 belongs behind --sweep")
        if resume and restart:
            raise ArgumentError("give --resume or --restart, not both")
        named = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
        options = [f"{name}={value}" for name, value in named.items() if value is not None]
        if method != "probe" and dtype != "auto":
            options.append(f"dtype={dtype}")
        chosen = configured(method, [*(settings or []), *options])
        arguments: dict[str, Any] = {
            "method": chosen.method,
            "training": chosen.training,
            "out": out,
            "resume": True if resume else False if restart else None,
            "validation": validation,
            "features": feature_names(feature_sets),
            "task": task,
            "label_columns": tuple(as_column(name, header=not no_header) for name in label or ["label"]),
            "reading": reading,
            "progress": show_progress(as_json) and first,
        }
        if sweep:
            grid = grid_of([*sweep, *(more_axes or [])], chosen)
            loaded = _load(model, chosen, device=device, dtype=dtype, species=species, prompt=prompt)
            result = train_grid(train, grid, model=loaded, **arguments)
            if first:
                _tell_sweep(output, result, out)
            return
        if resume and chosen.training is None:
            raise ArgumentError("--resume: only a tuning run can be continued; the probe is none")
        check_run_folder(out, resume=arguments["resume"], tunes=chosen.training is not None)
        loaded = _load(model, chosen, device=device, dtype=dtype, species=species, prompt=prompt)
        predictor = train_predictor(train, model=loaded, **arguments)
        if first:
            _tell(output, predictor, out)


def _load(name: str, settings: Settings, *, device: str, dtype: str, **options: str | None) -> Model | None:
    """The model as the method wants it; None for features alone."""
    from fastgenome.models import load
    from fastgenome.models.device import choose_device
    from fastgenome.training.base_model import precision
    from fastgenome.training.distributed import launched_processes
    from fastgenome.training.methods import Full

    if name == "none":
        return None
    # Each process gets its own GPU before it loads anything.
    launched_processes(choose_device(device))
    if isinstance(settings.method, Full):
        dtype = "float32"
    elif settings.training is not None:
        dtype = precision(settings.training.dtype, choose_device(device))
    return load(name, device=device, dtype=dtype, **options)


def _tell(output: Output, predictor: Predictor, out: Path) -> None:
    for name, report in predictor.read_reports.items():
        if report is not None:
            output.add(f"{name}: {report.summary()}", **{f"{name}_reading": report.to_dict()})
            output.add_rejections(report)
    output.add(f"task: {predictor.task.kind}, outputs {', '.join(predictor.task.output_names)}")
    told = predictor.hyperparameters
    if predictor.tuned is not None:
        output.add(
            f"{told['method']}: {told['trained_parameters']:,} parameters trained "
            f"({100 * told['trained_share']:.2f} %), the best of {told['steps']:,} steps is "
            f"{told['best_step']:,}, by {told['criterion']}"
        )
        if told["held_out"]:
            output.add(f"validation: {told['held_out']:,} of the training sequences were held out")
    for name, figures in predictor.metrics.items():
        output.add(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    output.add(
        f"predictor saved in {out}",
        out=str(out),
        metrics=predictor.metrics,
        hyperparameters=told,
        task=predictor.task.kind,
    )


def _tell_sweep(output: Output, result: Sweep, out: Path) -> None:
    """The table with the settings, the criterion and the loss; all figures are in its file."""
    criterion = result.best.hyperparameters["criterion"]
    columns = list(result.rows[0])
    settings = columns[: columns.index("diverged")]
    shown = [*settings, *dict.fromkeys((criterion, "loss")), "best_step", "trained_parameters"]
    lines = [shown, *([_cell(row.get(name, "–")) for name in shown] for row in result.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(shown))]
    for line, row in zip(lines, [None, *result.rows], strict=True):
        text = "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        mark = "" if row is None else "  best" if row["best"] else "  diverged" if row["diverged"] else ""
        output.add(text + mark)
    output.add(
        f"chosen by the validation data's {criterion}; all figures in {out / 'sweep.csv'}", sweep=result.rows
    )


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
