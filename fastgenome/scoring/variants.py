"""Score the variants of a VCF or BCF file: what each alternative allele makes of a score."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastgenome.genome import Genome
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
from fastgenome.scoring.scorer import Scorer
from fastgenome.scoring.variant_fields import InfoField, check_free, info_fields
from fastgenome.scoring.variant_files import (
    TABLE_ENDINGS,
    VCF_ENDINGS,
    is_vcf,
    open_lines,
    write_table,
    write_variants,
)
from fastgenome.scoring.window_plan import Strand
from fastgenome.variants import declared_contigs, read_variants

if TYPE_CHECKING:
    from fastgenome.models.model import Model
    from fastgenome.prediction import Predictor


def score_variants(
    scorer: Predictor | Model | Scorer | str | Path,
    variants: str | Path,
    genome: Genome | str | Path,
    *,
    out: str | Path | Sequence[str | Path],
    window: int = 512,
    strand: Strand = "both",
    max_n: float = 0.1,
    max_ref_mismatch: float = 0.01,
    rejects: str | Path | None = None,
    info_prefix: str = "FG_",
    run: RunOptions | None = None,
) -> VariantReport:
    """Score what every alternative allele of a file makes of its surroundings; a killed run goes on.

    Two windows of `window` bases are scored: the same bases before the allele, then REF or ALT, then the
    contig behind it. The longer allele stands in the middle; near an end of the contig both windows are
    shifted inward (exactly: `variant_windows.window_starts`). Each ALT of a line is an allele of its own, and
    each is scored or rejected with one of the reasons in `allele_checks.REASONS`. A contig that the genome
    has by another name is found where that is unambiguous, see `ContigNames`, with a warning.

    Args:
        scorer: a Predictor, the folder of a saved one, or a Model, whose embeddings are compared. For each
            number there are NAME_ref, NAME_alt and NAME_delta (alternative − reference), of a Model
            cosine_distance and l2_distance.
        variants: VCF, plain or bgzip, or BCF.
        genome: FASTA or 2bit; letters are compared with REF whatever their case.
        out: one or more files. .vcf, .vcf.gz (bgzip), .bcf: the input with INFO fields, one value for each
            ALT, "." for a rejected one. .parquet, .tsv, .csv (.gz): a row for each scored allele, contig,
            start, end (of REF, 0-based, half-open), id, ref, alt and figures.
        window: bases; a predictor is best with the length that it was trained on.
        strand: whose letters are scored; "both" gives the mean.
        max_n: share of a window's bases that may be unknown.
        max_ref_mismatch: share of the lines compared with the genome whose REF may differ; above it, however
            few lines there are, the job stops before anything is scored.
        rejects: table of rejected alleles, by default the first output's name with ".rejected.tsv" behind it.
        info_prefix: of the names of INFO fields.
        run: who computes, where, and whether a bar is shown.

    Returns:
        VariantReport, which also lies beside the first output, with ".report.json" behind its name.

    Raises:
        InputError: an input cannot be read, or is probably of another genome build.
        ArgumentError: an argument does not fit, or the shards' folder is of another job.
    """
    options = AlleleOptions(window, strand, max_n, max_ref_mismatch)
    paths, source = output_paths(out), Path(variants)

    def prepare() -> AlleleJob:
        return _prepare(scorer, source, genome, paths, rejects, info_prefix, options)

    report = run_to_report(prepare, run or RunOptions())
    if report.aliases and not report.earlier:
        names = ", ".join(f"{name} is {other}" for name, other in report.aliases.items())
        warnings.warn(f"contigs of {source} by their names in the genome: {names}", stacklevel=2)
    return report


def _prepare(
    source: Predictor | Model | Scorer | str | Path,
    variants: Path,
    genome: Genome | str | Path,
    paths: tuple[Path, ...],
    rejects: str | Path | None,
    prefix: str,
    options: AlleleOptions,
) -> AlleleJob:
    """Check all arguments."""
    scorer, opened = opened_inputs(source, genome, options.window)
    inputs = (variants, opened.path)
    check_outputs(paths, (*VCF_ENDINGS, *TABLE_ENDINGS), inputs)
    rejected = rejects_path(rejects, paths, inputs)
    fields: tuple[InfoField, ...] = ()
    if any(map(is_vcf, paths)):
        fields = tuple(info_fields(figure_names(scorer.columns), prefix, _described(options)))
        with open_lines(variants) as (header, _):
            check_free(fields, header)
    records, letters = InputFile.of(variants), InputFile.of(opened.path)
    return AlleleJob(
        scorer=scorer,
        genome=opened,
        options=options,
        source={"variants": records.sha256, **genome_digests(opened, letters)},
        inputs=(records, letters),
        variants=partial(read_variants, variants),
        contigs=ContigNames(opened.names, declared_contigs(variants)),
        outputs={
            "files": [str(path.absolute()) for path in (*paths, rejected)],
            "info_prefix": prefix,
            "max_ref_mismatch": options.max_ref_mismatch,
        },
        first_output=paths[0],
        rejects=rejected,
        write=partial(_write, paths, variants, fields),
    )


def _write(
    paths: tuple[Path, ...], source: Path, fields: Sequence[InfoField], job: AlleleJob, shards: JobFolder
) -> tuple[Path, ...]:
    """Write all outputs, each in one pass over the shards."""
    note = f"scores of {job.scorer.sha256[:16]}, {_described(job.options)}"
    for path in paths:
        if is_vcf(path):
            write_variants(path, source, shards.tables(), fields, note)
        else:
            write_table(path, shards.tables(), job.figures, job.described())
    return paths


def _described(options: AlleleOptions) -> str:
    """How figures were found, for people."""
    strands = "both strands" if options.strand == "both" else f"{options.strand} strand"
    return f"windows of {options.window} bases, {strands}"
