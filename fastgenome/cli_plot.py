"""The command that draws score tracks and genes of a region."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastgenome.cli_options import Json
from fastgenome.cli_output import command


def plot(
    tracks: Annotated[list[Path], typer.Argument(help="scores: bigWig, bedGraph (plain or gzip) or Parquet")],
    out: Annotated[Path, typer.Option("--out", "-o", help="picture (.png, .svg) or page to browse (.html)")],
    region: Annotated[
        list[str] | None,
        typer.Option(
            help="contig:first-last, bases from 1 and both included, or a contig; repeat for a page, "
            "which shows all contigs without it"
        ),
    ] = None,
    genes: Annotated[Path | None, typer.Option(help="GTF of the genes to draw, plain or gzip")] = None,
    genome: Annotated[
        Path | None, typer.Option(help="FASTA or 2bit: lengths of contigs, and sequence in a page")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="score of a Parquet file; repeat; default: all numbers")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw score tracks and genes of a region, as a picture or an offline page."""
    with command(as_json) as output:
        from fastgenome.plotting.track_plot import plot_track

        report = plot_track(tracks, out, region=region, genes=genes, genome=genome, columns=column or ())
        output.add(report.summary(), **report.to_dict())
