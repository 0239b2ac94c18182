"""A job over alleles: their table, their scores, and the account of what became of them."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgenome._version import __version__
from fastgenome.atomic import check_output_file
from fastgenome.errors import ArgumentError
from fastgenome.genome import Genome, open_genome
from fastgenome.scoring.accounts import Account
from fastgenome.scoring.allele_checks import REASONS, AlleleChecks
from fastgenome.scoring.allele_scores import AlleleWork, allele_settings, figure_names
from fastgenome.scoring.allele_table import AlleleAccount, AlleleTable, prepare_alleles
from fastgenome.scoring.contig_names import ContigNames
from fastgenome.scoring.genome_outputs import same_file
from fastgenome.scoring.inputs import InputFile
from fastgenome.scoring.jobs import JobFolder, RunOptions, run_job
from fastgenome.scoring.reports import Report, digests_of, output_paths
from fastgenome.scoring.scorer import Scorer, as_scorer
from fastgenome.scoring.variant_files import TABLE_ENDINGS, first_rejections, write_rejects
from fastgenome.scoring.window_plan import Strand
from fastgenome.variants import Variant

if TYPE_CHECKING:
    from fastgenome.models.model import Model
    from fastgenome.prediction import Predictor


@dataclass(frozen=True)
class AlleleOptions:
    """How alleles are scored, and which.

    Attributes:
        window: bases of the windows of either allele.
        strand: whose letters are scored; "both" gives the mean.
        max_n: share of the bases of a window that may be unknown, 0 to 1.
        max_ref_mismatch: share of the lines whose REF may differ from the genome, 0 to 1.

    Raises:
        ArgumentError: a value is out of its range.
    """

    window: int
    strand: Strand
    max_n: float
    max_ref_mismatch: float = 0.0

    def __post_init__(self) -> None:
        # NumPy's numbers are none to JSON.
        object.__setattr__(self, "window", operator.index(self.window))
        for name in ("max_n", "max_ref_mismatch"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not 1 <= self.window < 2**31:
            raise ArgumentError(f"window={self.window}: expected 1 to 2^31 - 1 bases")
        if self.strand not in ("forward", "reverse", "both"):
            raise ArgumentError(f"strand={self.strand!r}: expected 'forward', 'reverse' or 'both'")
        for name in ("max_n", "max_ref_mismatch"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name}={getattr(self, name)}: expected a share between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class VariantReport(Report):
    """What became of the alleles of a source: each was scored or rejected; see also Report.

    Attributes:
        n_records: lines of a file of variants, known bases of a region.
        alleles: their account with the first 1,000 rejected ones; the table of rejects has all.
        aliases: contigs that were found in the genome by another name, and that name.
        figures: names of what was computed for each allele.
        window, strand: see AlleleOptions.
    """

    n_records: int
    alleles: Account
    aliases: dict[str, str]
    figures: tuple[str, ...]
    window: int
    strand: str

    def __post_init__(self) -> None:
        # JSON has lists alone.
        object.__setattr__(self, "figures", tuple(self.figures))

    @property
    def n_in(self) -> int:
        """Alleles."""
        return self.alleles.n_in

    @property
    def n_scored(self) -> int:
        """Alleles with figures."""
        return self.alleles.n_scored

    @property
    def reasons(self) -> dict[str, int]:
        """How many alleles were rejected, by reason."""
        return self.alleles.reasons

    def summary(self) -> str:
        """Some lines for people."""
        done = "a part of a job array: a run without --shard writes the outputs"
        lines = [
            f"{self.n_records:,} records; " + (self.alleles.summary("alleles") if self.outputs else done),
            f"windows of {self.window} bases, strand {self.strand}: {', '.join(self.figures)}",
        ]
        lines += [f"contig {name} is {other} in the genome" for name, other in self.aliases.items()]
        lines += [f"{reason}: {REASONS[reason]}" for reason in self.reasons]
        rate = f", {self.n_scored / self.seconds:,.0f} alleles/s" if self.n_scored else ""
        lines.append(f"{self.seconds:.1f} s{rate}")
        if self.footprint is not None:
            lines.append(self.footprint.summary())
        return "\n".join([*lines, *self.wrote()])


@dataclass(frozen=True)
class AlleleJob:
    """The alleles of a source and how they are scored; all arguments were checked.

    Attributes:
        scorer, genome, options: what is computed.
        source: digests of what the alleles come from, ready for JSON.
        inputs: the files that are read.
        variants: reads them.
        contigs: their names.
        outputs: names of the files, and all else that their bytes depend on, ready for JSON.
        first_output: see OutputJob.
        rejects: the table of rejected alleles.
        write: writes the files of scores, and returns them.
    """

    scorer: Scorer
    genome: Genome
    options: AlleleOptions
    source: Mapping[str, Any]
    inputs: tuple[InputFile, ...]
    variants: Callable[[], Iterable[Variant]]
    contigs: ContigNames
    outputs: Mapping[str, Any]
    first_output: Path
    rejects: Path
    write: Callable[[AlleleJob, JobFolder], Iterable[Path]]

    @property
    def report_type(self) -> type[VariantReport]:
        """See OutputJob."""
        return VariantReport

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of what is computed for each allele."""
        return figure_names(self.scorer.columns)

    @property
    def digest(self) -> str:
        """Of all that the outputs depend on."""
        content = json.dumps({**self.described(), "outputs": self.outputs}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def described(self) -> dict[str, str]:
        """All that the figures depend on, as texts."""
        return {name: str(value) for name, value in self.settings().items()}

    def settings(self) -> dict[str, Any]:
        """See OutputJob."""
        return allele_settings(self._of_table(), self.scorer, self.options.strand)

    def run(self, folder: Path, options: RunOptions) -> tuple[VariantReport, JobFolder | None]:
        """Check all alleles, score those that can be, but for what an earlier run has done, and write.

        Raises:
            InputError, ArgumentError: see `prepare_alleles` and `run_job`.
        """
        window, strand = self.options.window, self.options.strand
        table = prepare_alleles(
            self.variants(),
            AlleleChecks(self.genome, self.contigs, window, self.options.max_n),
            folder.absolute(),
            settings=self._of_table(),
            max_ref_mismatch=self.options.max_ref_mismatch,
            progress=options.progress,
        )
        work = AlleleWork(self.scorer, self.genome, table, window, strand, self._of_table())
        shards = run_job(work, self.inputs, folder, options, unit="alleles")
        report = self._report(table.account)
        if shards is None:
            return report, None
        write_rejects(self.rejects, table.tables())
        written = [*self.write(self, shards), self.rejects]
        for file in self.inputs:
            # VCF is read once more.
            file.check_unchanged()
        outputs = digests_of(path.absolute() for path in written)
        return replace(report, outputs=outputs, alleles=_account(table, shards)), shards

    def _report(self, found: AlleleAccount) -> VariantReport:
        """The report of a part of a job array."""
        return VariantReport(
            job=self.digest,
            outputs={},
            n_records=found.records,
            alleles=Account(),
            aliases=dict(found.aliases),
            figures=self.figures,
            window=self.options.window,
            strand=self.options.strand,
        )

    def _of_table(self) -> dict[str, Any]:
        return {
            **self.source,
            "fastgenome": __version__,
            "window": self.options.window,
            "max_n": self.options.max_n,
        }


def _account(table: AlleleTable, shards: JobFolder) -> Account:
    found = table.account
    rejections = first_rejections(table.tables()) if found.reasons else []
    scored = shards.counts().get("scored", 0)
    return Account(sum(found.alleles), scored, dict(found.reasons), rejections).check()


def opened_inputs(
    source: Predictor | Model | Scorer | str | Path, genome: Genome | str | Path, window: int
) -> tuple[Scorer, Genome]:
    """The scorer and the genome that arguments stand for; ArgumentError for windows that cannot be scored."""
    scorer = source if isinstance(source, Scorer) else as_scorer(source)
    scorer.check_window(window)
    return scorer, genome if isinstance(genome, Genome) else open_genome(genome)


def check_outputs(paths: Iterable[Path], endings: Iterable[str], sources: Iterable[Path]) -> None:
    """Check, before any work, that files can be written.

    Raises:
        ArgumentError: an ending is not known, a folder cannot be written to, or an output would replace one
            of the sources.
    """
    endings, sources = tuple(endings), list(sources)
    for path in paths:
        if not path.name.lower().endswith(endings):
            raise ArgumentError(f"the ending of {str(path)!r} is not known; use one of {', '.join(endings)}")
        check_output_file(path)
        for source in sources:
            if same_file(path, source):
                raise ArgumentError(f"the output {str(path)!r} is the input itself; choose another file")


def rejects_path(rejects: str | Path | None, paths: Sequence[Path], sources: Iterable[Path]) -> Path:
    """The table of rejected alleles, by default beside the first output; checked like that."""
    path = paths[0].with_name(paths[0].name + ".rejected.tsv") if rejects is None else Path(rejects)
    check_outputs((path,), TABLE_ENDINGS, sources)
    output_paths((*paths, path))
    return path
