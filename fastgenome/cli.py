"""The command line: the public functions under the same words."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fastgenome.errors import ArgumentError, FastgenomeError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="DNA into embeddings, predictions and fine-tuned adapters.",
)

# Rejected records that are listed one by one for people; --json holds up to 1,000.
_LISTED = 10

Input = Annotated[
    str, typer.Argument(help="FASTA, FASTQ, CSV, TSV, Parquet or text, plain or gzip; - is stdin")
]
ModelName = Annotated[str, typer.Option("--model", help="name or directory of a model")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16")]
Out = Annotated[
    str, typer.Option("--out", "-o", help="file to write: .parquet, .tsv, .csv, .npy; - is stdout")
]
WindowSize = Annotated[int | None, typer.Option(help="cut records into windows of this many bases")]
Stride = Annotated[int | None, typer.Option(help="bases from one window to the next [default: the window]")]
Json = Annotated[bool, typer.Option("--json", help="print the report as JSON")]
Emissions = Annotated[bool, typer.Option("--emissions", help="measure energy and CO2e")]
Strict = Annotated[bool, typer.Option("--strict", help="fail when any record was rejected")]
FeatureSets = Annotated[str, typer.Option("--features", help="comma-separated: zcurve, gc, kmer")]


class _Output:
    """Collects a command's report and prints it once, for people or machines."""

    def __init__(self, as_json: bool, stdout_taken: bool) -> None:
        self.as_json = as_json
        self.stream = sys.stderr if stdout_taken else sys.stdout
        self.report: dict[str, Any] = {}
        self.lines: list[str] = []

    def add(self, line: str, **values: Any) -> None:
        """One line for people, named values for machines."""
        self.lines.append(line)
        self.report.update(values)

    def add_reading(self, reading: Any) -> None:
        """The rejected records of a source, each with its reason."""
        for rejection in reading.rejections[:_LISTED]:
            self.lines.append(
                f"  rejected record {rejection.number} ({rejection.id}): "
                f"{rejection.reason}, {rejection.detail}"
            )
        if reading.n_rejected > _LISTED:
            self.lines.append(f"  … and {reading.n_rejected - _LISTED:,} more")

    def flush(self) -> None:
        text = json.dumps(self.report, indent=2, default=str) if self.as_json else "\n".join(self.lines)
        print(text, file=self.stream)


@contextmanager
def _command(as_json: bool, emissions: bool = False, out: str = "") -> Iterator[_Output]:
    """Run a command's body: errors become one line and exit status 1, the report is printed at the end."""
    from fastgenome.emissions import track_emissions

    output = _Output(as_json, stdout_taken=out == "-")
    try:
        if emissions:
            with track_emissions() as footprint:
                yield output
            output.add(footprint.summary(), emissions=footprint.to_dict())
        else:
            yield output
    except FastgenomeError as error:
        if as_json:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}), file=sys.stderr)
        else:
            print(f"fastgenome: error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    output.flush()


def _show_progress(as_json: bool) -> bool:
    return sys.stderr.isatty() and not as_json


def _feature_names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _finish_table(output: _Output, table: Any, strict: bool) -> None:
    output.add(table.summary(), **table.to_dict())
    output.add_reading(table.reading)
    if strict and table.reading.n_rejected:
        output.flush()
        raise typer.Exit(1)


@app.command()
def embed(
    source: Input,
    out: Out,
    model: ModelName = "tiny",
    pooling: Annotated[str | None, typer.Option(help="mean, max, cls, last or several as mean+max")] = None,
    layer: Annotated[
        list[int] | None, typer.Option(help="0 is the embedding output, -1 the last; repeat")
    ] = None,
    window: WindowSize = None,
    stride: Stride = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
    emissions: Emissions = False,
    strict: Strict = False,
) -> None:
    """Embed every record, or every window, into a table."""
    with _command(as_json, emissions, out) as output:
        from fastgenome.embedding import embed as embed_table
        from fastgenome.models import load

        table = embed_table(
            source,
            model=load(model, device=device, dtype=dtype),
            out=out,
            window=window,
            stride=stride,
            pooling=pooling,
            layer=layer or None,
            progress=_show_progress(as_json),
        )
        _finish_table(output, table, strict)


@app.command()
def features(
    source: Input,
    out: Out,
    sets: Annotated[str, typer.Option("--set", help="comma-separated: zcurve, gc, kmer")] = "zcurve,gc,kmer",
    window: WindowSize = None,
    stride: Stride = None,
    as_json: Json = False,
    emissions: Emissions = False,
    strict: Strict = False,
) -> None:
    """Compute z-curve, GC and k-mer features of every record, or every window."""
    with _command(as_json, emissions, out) as output:
        from fastgenome.scoring.sequence_features import write_features

        table = write_features(
            source, out, _feature_names(sets), window=window, stride=stride, progress=_show_progress(as_json)
        )
        _finish_table(output, table, strict)


@app.command()
def finetune(
    train: Annotated[Path, typer.Argument(help="labelled sequences: CSV, TSV or Parquet, plain or gzip")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the predictor")],
    model: Annotated[str, typer.Option(help='name or directory; "none" trains on features alone')] = "tiny",
    method: Annotated[str, typer.Option(help="probe")] = "probe",
    validation: Annotated[Path | None, typer.Option(help="labelled sequences to choose settings on")] = None,
    feature_sets: FeatureSets = "",
    label: Annotated[list[str] | None, typer.Option(help="label column; repeat for multi-label")] = None,
    task: Annotated[str | None, typer.Option(help="binary, multiclass, multilabel or regression")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
    emissions: Emissions = False,
) -> None:
    """Train a predictor on labelled sequences."""
    with _command(as_json, emissions) as output:
        from fastgenome.models import load
        from fastgenome.training.finetune import finetune as train_predictor

        predictor = train_predictor(
            train,
            model=None if model == "none" else load(model, device=device, dtype=dtype),
            method=method,
            validation=validation,
            features=_feature_names(feature_sets),
            task=task,  # type: ignore[arg-type]  # checked inside, with a message that lists the choices
            label_columns=tuple(label or ("label",)),
            progress=_show_progress(as_json),
        )
        predictor.save(out)
        for name, reading in predictor.read_reports.items():
            if reading is not None:
                output.add(f"{name}: {reading.summary()}", **{f"{name}_reading": reading.to_dict()})
                output.add_reading(reading)
        output.add(f"task: {predictor.task.kind}, outputs {', '.join(predictor.task.output_names)}")
        for name, figures in predictor.metrics.items():
            output.add(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
        output.add(
            f"predictor saved in {out}",
            out=str(out),
            metrics=predictor.metrics,
            hyperparameters=predictor.hyperparameters,
            task=predictor.task.kind,
        )


@app.command()
def predict(
    source: Input,
    predictor: Annotated[Path, typer.Option(help="folder that finetune wrote")],
    out: Out,
    model: Annotated[str | None, typer.Option(help="base model, where it has moved")] = None,
    window: WindowSize = None,
    stride: Stride = None,
    device: Device = "auto",
    as_json: Json = False,
    emissions: Emissions = False,
    strict: Strict = False,
) -> None:
    """Predict for every record, or every window."""
    with _command(as_json, emissions, out) as output:
        from fastgenome.prediction import Predictor
        from fastgenome.scoring.predictions import write_predictions

        table = write_predictions(
            Predictor.load(predictor, model=model, device=device),
            source,
            out,
            window=window,
            stride=stride,
            progress=_show_progress(as_json),
        )
        _finish_table(output, table, strict)


@app.command()
def pretrain(
    sources: Annotated[list[Path], typer.Argument(help="sequences to train on, both strands are used")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the model")],
    bases: Annotated[float, typer.Option(help="bases to read in total, such as 1e8")] = 9e7,
    batch_bases: Annotated[int, typer.Option(help="bases of one optimizer step")] = 16_384,
    learning_rate: Annotated[float, typer.Option(help="highest learning rate")] = 2e-3,
    held_out: Annotated[float, typer.Option(help="share of the sequence that is only evaluated on")] = 0.05,
    seed: Annotated[int, typer.Option()] = 0,
    resume: Annotated[bool, typer.Option(help="continue an interrupted run")] = True,
    device: Device = "auto",
    as_json: Json = False,
    emissions: Emissions = False,
) -> None:
    """Pre-train a small model on DNA by predicting hidden bases."""
    with _command(as_json, emissions) as output:
        from fastgenome.training.pretrain import PretrainConfig
        from fastgenome.training.pretrain import pretrain as train_model

        if not 1 <= bases < 1e15:
            raise ArgumentError(f"--bases must lie between 1 and 1e15; got {bases}")
        config = PretrainConfig(
            bases=round(bases),
            batch_bases=batch_bases,
            learning_rate=learning_rate,
            held_out=held_out,
            seed=seed,
        )
        report = train_model(
            sources, out, config=config, resume=resume, device=device, progress=_show_progress(as_json)
        )
        output.add(report.summary(), **report.to_dict())
        output.add(f"model saved in {out}", out=str(out))


@app.command()
def models(as_json: Json = False) -> None:
    """List the models that load by name."""
    with _command(as_json) as output:
        from fastgenome.models.registry import REGISTRY

        for name, entry in REGISTRY.items():
            size = f"{entry.size_bytes / 1e6:.1f} MB" if entry.size_bytes else "not on this machine"
            output.add(
                f"{name}: {entry.description} ({size}, {entry.licence}, {entry.source})",
                **{
                    name: {
                        "family": entry.family,
                        "source": entry.source,
                        "licence": entry.licence,
                        "size_bytes": entry.size_bytes,
                        "sha256": entry.sha256,
                        "description": entry.description,
                    }
                },
            )


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="show the version and exit")] = False,
) -> None:
    if version:
        from fastgenome._version import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the ``fastgenome`` command."""
    app()
