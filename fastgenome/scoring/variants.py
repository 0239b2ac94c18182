"""Score the variants of a VCF or BCF file: what each alternative allele makes of a score."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastgenome.emissions import track_emissions
from fastgenome.genome import Genome, open_genome
from fastgenome.scoring.allele_job import AlleleJob, AlleleOptions, VariantReport, check_outputs
from fastgenome.scoring.contig_names import ContigNames
from fastgenome.scoring.genome_work import genome_digests
from fastgenome.scoring.jobs import JobFolder, RunOptions, file_sha256, write_json
from fastgenome.scoring.scorer import Scorer, as_scorer
from fastgenome.scoring.variant_fields import InfoField, check_free, info_fields
from fastgenome.scoring.variant_files import (
    TABLE_ENDINGS,
    VCF_ENDINGS,
    is_vcf,
    open_lines,
    write_rejects,
    write_table,
    write_variants,
)
from fastgenome.scoring.window_plan import Strand
from fastgenome.variants import declared_contigs, read_variants

if TYPE_CHECKING:
    from fastgenome.models.model import Model
    from fastgenome.prediction import Predictor
    from fastgenome.scoring.allele_table import AlleleTable


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
    run, started = run or RunOptions(), time.perf_counter()
    options = AlleleOptions(window, strand, max_n, max_ref_mismatch)
    paths = (Path(out),) if isinstance(out, str | Path) else tuple(map(Path, out))
    with track_emissions() if run.emissions else nullcontext() as footprint:
        job = _VariantJob.prepare(scorer, Path(variants), genome, paths, rejects, info_prefix, options)
        report = job.run(run, started)
    if footprint is None or report.earlier:
        return report
    report = replace(report, footprint=footprint)
    if report.outputs:
        write_json(job.alleles.report_path, report.to_dict())
    return report


@dataclass(frozen=True)
class _VariantJob:
    """A job whose arguments were all checked."""

    alleles: AlleleJob
    source: Path
    paths: tuple[Path, ...]
    rejects: Path
    fields: tuple[InfoField, ...]
    declared: tuple[str, ...]

    @classmethod
    def prepare(
        cls,
        source: Predictor | Model | Scorer | str | Path,
        variants: Path,
        genome: Genome | str | Path,
        paths: tuple[Path, ...],
        rejects: str | Path | None,
        prefix: str,
        options: AlleleOptions,
    ) -> _VariantJob:
        scorer = source if isinstance(source, Scorer) else as_scorer(source)
        scorer.check_window(options.window)
        opened = genome if isinstance(genome, Genome) else open_genome(genome)
        inputs = (variants, opened.path)
        check_outputs(paths, (*VCF_ENDINGS, *TABLE_ENDINGS), inputs)
        rejected = paths[0].with_name(paths[0].name + ".rejected.tsv") if rejects is None else Path(rejects)
        check_outputs((rejected,), TABLE_ENDINGS, inputs)
        check_outputs((*paths, rejected), (*VCF_ENDINGS, *TABLE_ENDINGS), ())
        declared = declared_contigs(variants)
        digests = {"variants": file_sha256(variants), **genome_digests(opened)}
        names = {
            "files": [str(path) for path in (*paths, rejected)],
            "info_prefix": prefix,
            "max_ref_mismatch": options.max_ref_mismatch,
        }
        alleles = AlleleJob(scorer, opened, options, digests, names, paths[0])
        fields: tuple[InfoField, ...] = ()
        if any(map(is_vcf, paths)):
            fields = tuple(info_fields(alleles.figures, prefix, _described(options)))
            with open_lines(variants) as (header, _):
                check_free(fields, header)
        return cls(alleles, variants, paths, rejected, fields, declared)

    def run(self, run: RunOptions, started: float) -> VariantReport:
        """Compute what is missing, and write the outputs unless this is a part of a job array."""
        earlier = VariantReport.of_earlier_run(self.alleles.report_path, self.alleles.digest)
        if earlier is not None:
            return earlier
        contigs = ContigNames(self.alleles.genome.names, self.declared)
        table, job = self.alleles.compute(read_variants(self.source), contigs, run)
        if table.account.aliases:
            names = ", ".join(f"{name} is {other}" for name, other in table.account.aliases.items())
            warnings.warn(f"contigs of {self.source} by their names in the genome: {names}", stacklevel=3)
        if job is not None:
            self._write(table, job)
        written = (*self.paths, self.rejects) if job is not None else ()
        report = self.alleles.report(table, job, written, time.perf_counter() - started)
        if job is not None:
            write_json(self.alleles.report_path, report.to_dict())
            job.remove()
        return report

    def _write(self, table: AlleleTable, job: JobFolder) -> None:
        """Write the table of rejects and all outputs, each in one pass over the shards."""
        write_rejects(self.rejects, table.tables())
        job_note = f"scores of {self.alleles.scorer.sha256[:16]}, {_described(self.alleles.options)}"
        for path in self.paths:
            if is_vcf(path):
                write_variants(path, self.source, job.tables(), self.fields, job_note)
            else:
                write_table(path, job.tables(), self.alleles.figures, self.alleles.described())


def _described(options: AlleleOptions) -> str:
    """How figures were found, for people."""
    strands = "both strands" if options.strand == "both" else f"{options.strand} strand"
    return f"windows of {options.window} bases, {strands}"
