"""The command that scores a genome."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastgenome.cli_options import Device, Json, show_progress
from fastgenome.cli_output import command
from fastgenome.errors import ArgumentError

if TYPE_CHECKING:
    from fastgenome.models import Model
    from fastgenome.prediction import Predictor

PredictorFolder = Annotated[Path | None, typer.Option("--predictor", help="folder that finetune wrote")]
ScorerModel = Annotated[
    str | None, typer.Option("--model", help="base model, where it has moved; or alone, for its embeddings")
]
Trust = Annotated[list[str] | None, typer.Option(help="type in a scikit-learn head; repeat")]
Workers = Annotated[int | None, typer.Option(help="processes; default: one for each core, one on a GPU")]
Engine = Annotated[str, typer.Option(help="local, or ray")]
ShardOf = Annotated[
    str | None,
    typer.Option("--shard", help="I/N: part I of N of a job array; a run without it writes the outputs"),
]
ShardFolder = Annotated[Path | None, typer.Option("--shards", help="of the shards; default: OUT.shards")]
Outputs = Annotated[list[Path], typer.Option("--out", "-o", help="file to write, by its ending; repeat")]
TrackEmissions = Annotated[bool, typer.Option("--emissions/--no-emissions", help="measure energy and CO2e")]


def score(
    genome: Annotated[Path, typer.Argument(help="FASTA, plain, bgzip or gzip, or 2bit")],
    out: Outputs,
    window: Annotated[int, typer.Option(help="bases of a window")],
    stride: Annotated[
        int | None, typer.Option(help="bases from one window to the next; default: the window")
    ] = None,
    predictor: PredictorFolder = None,
    model: ScorerModel = None,
    strand: Annotated[str, typer.Option(help="forward, reverse, or both: the mean of their scores")] = "both",
    edge: Annotated[str, typer.Option(help="windows that reach beyond an end: skip, or pad with N")] = "skip",
    max_n: Annotated[float, typer.Option(help="share of unknown bases up to which a window is scored")] = 0.1,
    context: Annotated[
        int | None, typer.Option(help="bases that one pass of the model reads for all windows in them")
    ] = None,
    regions: Annotated[Path | None, typer.Option(help="BED: score these alone")] = None,
    aggregate: Annotated[
        list[str] | None, typer.Option(help="mean or max: one row for each region; repeat")
    ] = None,
    workers: Workers = None,
    engine: Engine = "local",
    shard: ShardOf = None,
    shards: ShardFolder = None,
    trust: Trust = None,
    device: Device = "auto",
    as_json: Json = False,
    emissions: TrackEmissions = True,
) -> None:
    """Score every window of a genome, or of regions, into tracks and tables; run again, it goes on."""
    with command(as_json) as output:
        from fastgenome.scoring.genome import score_genome
        from fastgenome.scoring.jobs import RunOptions

        report = score_genome(
            load_scorer(predictor, model, device, trust or []),
            genome,
            out=out,
            window=window,
            stride=stride,
            strand=strand,  # type: ignore[arg-type]
            edge=edge,  # type: ignore[arg-type]
            max_n=max_n,
            context=context,
            regions=regions,
            aggregates=aggregate or (),  # type: ignore[arg-type]
            run=RunOptions(
                workers=workers,
                engine=engine,  # type: ignore[arg-type]
                shard=part_of(shard),
                folder=shards,
                progress=show_progress(as_json),
                emissions=emissions,
            ),
        )
        output.add(report.summary(), **report.to_dict())
        output.add_rejections(report.records)


def load_scorer(
    predictor: Path | None, model: str | None, device: str, trusted: list[str]
) -> Predictor | Model:
    """The predictor of a folder, or a model alone."""
    if predictor is not None:
        from fastgenome.prediction import Predictor

        return Predictor.load(predictor, model=model, device=device, trusted=trusted)
    if model is None:
        raise ArgumentError("give --predictor, a folder that finetune wrote, or --model for embeddings")
    from fastgenome.models import load

    return load(model, device=device)


def part_of(text: str | None) -> tuple[int, int] | None:
    """ "2/4" as (2, 4); ArgumentError for anything else."""
    if text is None:
        return None
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal()):
        raise ArgumentError(f"--shard {text!r}: expected I/N, such as 1/4")
    return int(part), int(parts)
