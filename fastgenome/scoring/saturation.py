"""Every single-base change of a region scored: which of its bases a score hangs on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastgenome.errors import ArgumentError
from fastgenome.genome import Genome
from fastgenome.regions import Region, parse_region
from fastgenome.scoring.allele_job import (
    AlleleJob,
    AlleleOptions,
    VariantReport,
    check_outputs,
    opened_inputs,
    rejects_path,
)
from fastgenome.scoring.allele_scores import figure_names
from fastgenome.scoring.contig_names import ContigNames
from fastgenome.scoring.genome_work import genome_digests
from fastgenome.scoring.inputs import InputFile
from fastgenome.scoring.jobs import JobFolder, RunOptions
from fastgenome.scoring.reports import output_paths, run_to_report
from fastgenome.scoring.saturation_picture import (
    MOST_BASES,
    MOST_PANELS,
    PICTURE_ENDINGS,
    draw_saturation,
    drawn_figures,
    import_figure,
)
from fastgenome.scoring.scorer import Scorer
from fastgenome.scoring.variant_files import TABLE_ENDINGS, write_table
from fastgenome.scoring.window_plan import Strand
from fastgenome.variants import Variant

if TYPE_CHECKING:
    from fastgenome.models.model import Model
    from fastgenome.prediction import Predictor

_BASES = "ACGT"
# Fetched at a time.
_STRETCH = 1 << 20


def saturate(
    scorer: Predictor | Model | Scorer | str | Path,
    genome: Genome | str | Path,
    region: str | Region,
    *,
    out: str | Path | Sequence[str | Path],
    window: int = 512,
    strand: Strand = "both",
    max_n: float = 0.1,
    picture: str | Path | None = None,
    rejects: str | Path | None = None,
    run: RunOptions | None = None,
) -> VariantReport:
    """Score every change of one base of a region to each of the three others.

    Each base is compared in windows of its own, as `score_variants` does. Unknown bases of the region cannot
    be changed: they are left out, and `n_records` counts the others.

    Args:
        scorer, window, strand, max_n, rejects, run: see `score_variants`.
        genome: FASTA or 2bit.
        region: "contig:start-end", whose bases count from 1 with the last one included, or a Region, which is
            0-based, half-open; the contig by its name in the genome, or by another as `ContigNames` says.
        out: one or more tables, .parquet, .tsv, .csv (.gz): a row for each change, as of `score_variants`, in
            the order of the region, then of A, C, G, T.
        picture: .png or .svg: a heat map of what each change makes of each score, or of the cosine distance
            of the embeddings; needs the extra `plot`.

    Returns:
        VariantReport, which also lies beside the first output, with ".report.json" behind its name.

    Raises:
        ArgumentError: an argument does not fit, or the region does not lie within its contig.
        MissingExtraError: a picture needs matplotlib.
    """
    place = parse_region(region) if isinstance(region, str) else region
    options = AlleleOptions(window, strand, max_n)
    paths, drawn = output_paths(out), None if picture is None else Path(picture)

    def prepare() -> AlleleJob:
        return _prepare(scorer, genome, place, paths, drawn, rejects, options)

    return run_to_report(prepare, run or RunOptions())


def _prepare(
    source: Predictor | Model | Scorer | str | Path,
    genome: Genome | str | Path,
    region: Region,
    paths: tuple[Path, ...],
    picture: Path | None,
    rejects: str | Path | None,
    options: AlleleOptions,
) -> AlleleJob:
    """Check all arguments."""
    scorer, opened = opened_inputs(source, genome, options.window)
    check_outputs(paths, TABLE_ENDINGS, (opened.path,))
    written = paths
    if picture is not None:
        check_outputs((picture,), PICTURE_ENDINGS, (opened.path,))
        written = output_paths((*paths, picture))
    rejected = rejects_path(rejects, written, (opened.path,))
    contigs = ContigNames(opened.names)
    _check_region(region, opened, contigs)
    if picture is not None:
        _check_picture(region, scorer)
    letters = InputFile.of(opened.path)
    return AlleleJob(
        scorer=scorer,
        genome=opened,
        options=options,
        source={"region": str(region), **genome_digests(opened, letters)},
        inputs=(letters,),
        variants=partial(_changes, opened, region, contigs),
        contigs=contigs,
        outputs={"files": [str(path.absolute()) for path in (*written, rejected)]},
        first_output=paths[0],
        rejects=rejected,
        write=partial(_write, paths, picture, region),
    )


def _check_picture(region: Region, scorer: Scorer) -> None:
    bases, panels = region.end - region.start, len(drawn_figures(figure_names(scorer.columns)))
    if bases > MOST_BASES or panels > MOST_PANELS:
        raise ArgumentError(
            f"a picture shows at most {MOST_BASES:,} bases and {MOST_PANELS} scores; the region has "
            f"{bases:,} and the predictor {panels}: draw a part of the region, or write the table alone"
        )
    import_figure()


def _check_region(region: Region, genome: Genome, contigs: ContigNames) -> None:
    contig = contigs.find(region.contig)
    if contig.place < 0:
        raise ArgumentError(
            f"region {region}: {genome.path} has no contig {region.contig!r}; it has "
            f"{', '.join(genome.names[:5])}{' …' if len(genome.names) > 5 else ''}"
        )
    length = int(genome.lengths[contig.place])
    if not 0 <= region.start < region.end <= length:
        raise ArgumentError(
            f"region {region} does not lie within {region.contig}, which has {length:,} bases"
        )


def _write(
    paths: tuple[Path, ...], picture: Path | None, region: Region, job: AlleleJob, shards: JobFolder
) -> tuple[Path, ...]:
    """Write the tables, and draw the picture."""
    for path in paths:
        write_table(path, shards.tables(), job.figures, job.described())
    if picture is None:
        return paths
    draw_saturation(picture, region, shards.tables(), job.figures)
    return (*paths, picture)


def _changes(genome: Genome, region: Region, contigs: ContigNames) -> Iterator[Variant]:
    """The known bases of a region, each with its three changes."""
    name = genome.names[contigs.find(region.contig).place]
    for first in range(region.start, region.end, _STRETCH):
        letters = genome.fetch(name, first, min(first + _STRETCH, region.end)).upper()
        for position, base in enumerate(letters, first):
            if base in _BASES:
                others = tuple(other for other in _BASES if other != base)
                yield Variant(region.contig, position, "", base, others)
