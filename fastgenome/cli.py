"""The command line: the public functions under the same words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastgenome.cli_finetune import finetune
from fastgenome.cli_models import convert, models, verify
from fastgenome.cli_options import (
    AllN,
    Device,
    Dtype,
    Duplicates,
    Emissions,
    IdColumn,
    Input,
    InputFormat,
    Json,
    ModelName,
    NoHeader,
    Out,
    Prompt,
    SequenceColumn,
    Species,
    Strict,
    Stride,
    WindowSize,
    feature_names,
    read_options,
    show_progress,
)
from fastgenome.cli_output import Output, command
from fastgenome.cli_plot import plot
from fastgenome.cli_score import score
from fastgenome.cli_variants import variants
from fastgenome.errors import ArgumentError

if TYPE_CHECKING:
    from fastgenome.scoring.sequence_table import TableReport

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="DNA into embeddings, predictions and fine-tuned adapters.",
)


def _add_table(output: Output, table: TableReport) -> None:
    output.add(table.summary(), **table.to_dict())
    output.add_rejections(table.reading)


@app.command()
def embed(
    source: Input,
    out: Out,
    model: ModelName = "tiny",
    pooling: Annotated[
        str | None,
        typer.Option(
            help="mean, max, cls, last, attention, pooler, several as mean+max, or token: a row for each"
        ),
    ] = None,
    layer: Annotated[
        list[int] | None, typer.Option(help="0 is the embedding output, -1 the last; repeat")
    ] = None,
    output_dtype: Annotated[str, typer.Option(help="of the numbers written: float32 or float16")] = "float32",
    window: WindowSize = None,
    stride: Stride = None,
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
    """Embed every record, or every window, into a table."""
    reading = read_options(format, sequence_column, id_column, no_header, duplicates, all_n, strict)
    with command(as_json, emissions=emissions, out=out) as output:
        from fastgenome.embedding import embed as embed_table
        from fastgenome.models import load

        table = embed_table(
            source,
            model=load(model, device=device, dtype=dtype, species=species, prompt=prompt),
            out=out,
            window=window,
            stride=stride,
            pooling=pooling,
            layer=layer or None,
            output_dtype=output_dtype,
            reading=reading,
            progress=show_progress(as_json),
        )
        _add_table(output, table)


@app.command()
def features(
    source: Input,
    out: Out,
    sets: Annotated[str, typer.Option("--set", help="comma-separated: zcurve, gc, kmer")] = "zcurve,gc,kmer",
    window: WindowSize = None,
    stride: Stride = None,
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
    """Compute z-curve, GC and k-mer features of every record, or every window."""
    reading = read_options(format, sequence_column, id_column, no_header, duplicates, all_n, strict)
    with command(as_json, emissions=emissions, out=out) as output:
        from fastgenome.scoring.sequence_features import write_features

        table = write_features(
            source,
            out,
            feature_names(sets),
            window=window,
            stride=stride,
            reading=reading,
            progress=show_progress(as_json),
        )
        _add_table(output, table)


@app.command()
def predict(
    source: Input,
    predictor: Annotated[Path, typer.Option(help="folder that finetune wrote")],
    out: Out,
    model: Annotated[str | None, typer.Option(help="base model, where it has moved")] = None,
    trust: Annotated[list[str] | None, typer.Option(help="type in a scikit-learn head; repeat")] = None,
    window: WindowSize = None,
    stride: Stride = None,
    device: Device = "auto",
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
    """Predict for every record, or every window."""
    reading = read_options(format, sequence_column, id_column, no_header, duplicates, all_n, strict)
    with command(as_json, emissions=emissions, out=out) as output:
        from fastgenome.prediction import Predictor
        from fastgenome.scoring.predictions import write_predictions

        table = write_predictions(
            Predictor.load(predictor, model=model, device=device, trusted=trust or ()),
            source,
            out,
            window=window,
            stride=stride,
            reading=reading,
            progress=show_progress(as_json),
        )
        _add_table(output, table)


@app.command()
def pretrain(
    sources: Annotated[list[Path], typer.Argument(help="sequences to train on, both strands are used")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the model")],
    bases: Annotated[float, typer.Option(help="bases to read in total, such as 1e8")] = 9e7,
    batch_bases: Annotated[int, typer.Option(help="bases of one optimizer step")] = 16_384,
    learning_rate: Annotated[float, typer.Option(help="highest learning rate")] = 2e-3,
    held_out: Annotated[float, typer.Option(help="share of the sequence that is only evaluated on")] = 0.05,
    seed: Annotated[int, typer.Option()] = 0,
    weights_dtype: Annotated[
        str, typer.Option(help="float32, float16 or bfloat16, of the saved weights")
    ] = "float16",
    resume: Annotated[bool, typer.Option(help="continue an interrupted run")] = True,
    device: Device = "auto",
    as_json: Json = False,
    emissions: Emissions = False,
) -> None:
    """Pre-train a small model on DNA by predicting hidden bases."""
    with command(as_json) as output:
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
            weights_dtype=weights_dtype,
        )
        report = train_model(
            sources,
            out,
            config=config,
            resume=resume,
            device=device,
            # Measured there and not around the command, so that resumed parts are included.
            track_energy=emissions,
            progress=show_progress(as_json),
        )
        output.add(report.summary(), **report.to_dict())
        if emissions and report.energy_kwh is None:
            output.add("energy: not known, because a part of the run was not measured")
        output.add(f"model saved in {out}", out=str(out))


for _command in (finetune, score, variants, models, verify, convert, plot):
    app.command()(_command)


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
