"""The command that scores variants, or every change of a region."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastgenome.cli_options import Device, Json, show_progress
from fastgenome.cli_output import command
from fastgenome.cli_score import (
    Engine,
    Outputs,
    PredictorFolder,
    ScorerModel,
    ShardFolder,
    ShardOf,
    TrackEmissions,
    Trust,
    Workers,
    load_scorer,
    part_of,
)
from fastgenome.errors import ArgumentError


def variants(
    out: Outputs,
    genome: Annotated[Path, typer.Option(help="FASTA, plain, bgzip or gzip, or 2bit")],
    source: Annotated[
        Path | None, typer.Argument(metavar="VCF", help="VCF, plain or bgzip, or BCF; none with --saturate")
    ] = None,
    window: Annotated[int, typer.Option(help="bases of the windows compared")] = 512,
    predictor: PredictorFolder = None,
    model: ScorerModel = None,
    strand: Annotated[str, typer.Option(help="forward, reverse, or both: the mean of their scores")] = "both",
    max_n: Annotated[float, typer.Option(help="share of unknown bases up to which a window is scored")] = 0.1,
    max_ref_mismatch: Annotated[
        float, typer.Option(help="share of lines whose REF may differ from the genome")
    ] = 0.01,
    rejects: Annotated[
        Path | None, typer.Option(help="table of rejected alleles; default: OUT.rejected.tsv")
    ] = None,
    info_prefix: Annotated[str, typer.Option(help="of the names of INFO fields")] = "FG_",
    saturate: Annotated[
        str | None, typer.Option(help="contig:start-end, from 1: score every single-base change of it")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help=".png or .svg: heat map of --saturate")] = None,
    workers: Workers = None,
    engine: Engine = "local",
    shard: ShardOf = None,
    shards: ShardFolder = None,
    trust: Trust = None,
    device: Device = "auto",
    as_json: Json = False,
    emissions: TrackEmissions = True,
) -> None:
    """Score the alleles of a VCF file, or with --saturate all changes of a region; run again, it goes on."""
    with command(as_json) as output:
        from fastgenome.scoring.jobs import RunOptions
        from fastgenome.scoring.saturation import saturate as score_changes
        from fastgenome.scoring.variants import score_variants

        if (source is None) == (saturate is None):
            raise ArgumentError("give a VCF or BCF file, or --saturate REGION, and not both")
        if saturate is None and picture is not None:
            raise ArgumentError("--picture is a heat map of --saturate REGION")
        if saturate is not None and (info_prefix, max_ref_mismatch) != ("FG_", 0.01):
            raise ArgumentError("--info-prefix and --max-ref-mismatch are for a VCF or BCF file")
        run = RunOptions(
            workers=workers,
            engine=engine,  # type: ignore[arg-type]
            shard=part_of(shard),
            folder=shards,
            progress=show_progress(as_json),
            emissions=emissions,
        )
        scorer = load_scorer(predictor, model, device, trust or [])
        if source is None:
            assert saturate is not None
            report = score_changes(
                scorer,
                genome,
                saturate,
                out=out,
                window=window,
                strand=strand,  # type: ignore[arg-type]
                max_n=max_n,
                picture=picture,
                rejects=rejects,
                run=run,
            )
        else:
            report = score_variants(
                scorer,
                source,
                genome,
                out=out,
                window=window,
                strand=strand,  # type: ignore[arg-type]
                max_n=max_n,
                max_ref_mismatch=max_ref_mismatch,
                rejects=rejects,
                info_prefix=info_prefix,
                run=run,
            )
        output.add(report.summary(), **report.to_dict())
        output.add_rejections(report.alleles)
