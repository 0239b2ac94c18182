"""A job over alleles: their table, their scores, and the account of what became of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastgenome._version import __version__
from fastgenome.atomic import check_output_file
from fastgenome.emissions import Footprint
from fastgenome.errors import ArgumentError
from fastgenome.genome import Genome
from fastgenome.scoring.accounts import Account
from fastgenome.scoring.allele_checks import REASONS, AlleleChecks
from fastgenome.scoring.allele_scores import AlleleWork, figure_names
from fastgenome.scoring.allele_table import AlleleTable, prepare_alleles
from fastgenome.scoring.contig_names import ContigNames
from fastgenome.scoring.genome_outputs import same_file
from fastgenome.scoring.jobs import JobFolder, RunOptions, file_sha256, run_job
from fastgenome.scoring.scorer import Scorer
from fastgenome.scoring.variant_files import first_rejections
from fastgenome.scoring.window_plan import Strand
from fastgenome.variants import Variant


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
        if not 1 <= self.window < 2**31:
            raise ArgumentError(f"window={self.window}: expected 1 to 2^31 - 1 bases")
        if self.strand not in ("forward", "reverse", "both"):
            raise ArgumentError(f"strand={self.strand!r}: expected 'forward', 'reverse' or 'both'")
        for name in ("max_n", "max_ref_mismatch"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name}={getattr(self, name)}: expected a share between 0 and 1")


@dataclass(frozen=True)
class VariantReport:
    """What became of the alleles of a source: each was scored or rejected.

    Attributes:
        job: digest of all that the results depend on.
        outputs: sha256 of each file that was written; none for a part of a job array.
        n_records: lines of a file of variants, known bases of a region.
        alleles: their account with the first 1,000 rejected ones; `score_variants` writes a table of all.
        aliases: contigs that were found in the genome by another name, and that name.
        figures: names of what was computed for each allele.
        window, strand: see AlleleOptions.
        seconds: wall-clock time of this run.
        footprint: energy and CO2e of this run, where they were tracked.
        earlier: an earlier run of the same job had written the outputs; its figures are given.
    """

    job: str
    outputs: dict[str, str]
    n_records: int
    alleles: Account
    aliases: dict[str, str]
    figures: tuple[str, ...]
    window: int
    strand: str
    seconds: float
    footprint: Footprint | None = None
    earlier: bool = False

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

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return {**asdict(self), "alleles": self.alleles.to_dict()}

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
        wrote = "an earlier run of this job wrote" if self.earlier else "wrote"
        return "\n".join([*lines, *(f"{wrote} {path}" for path in self.outputs)])

    @classmethod
    def of_earlier_run(cls, path: Path, job: str) -> VariantReport | None:
        """The report of a run that wrote the outputs of this very job, if they still are as it left them."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["job"] != job or any(
                digest != file_sha256(Path(file)) for file, digest in content["outputs"].items()
            ):
                return None
            footprint = content.pop("footprint")
            content["alleles"] = Account.from_dict(content["alleles"])
            content["figures"] = tuple(content["figures"])
            content["earlier"] = True
            return cls(**content, footprint=None if footprint is None else Footprint(**footprint))
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class AlleleJob:
    """The alleles of a source and how they are scored; all arguments were checked.

    Attributes:
        scorer, genome, options: what is computed.
        source: digests of what the alleles come from, ready for JSON.
        outputs: names of the files, and all else that their bytes depend on, ready for JSON.
        path: the first output, beside which the shards and the report lie.
    """

    scorer: Scorer
    genome: Genome
    options: AlleleOptions
    source: Mapping[str, Any]
    outputs: Mapping[str, Any]
    path: Path

    @property
    def report_path(self) -> Path:
        """Where the report lies."""
        return self.path.with_name(self.path.name + ".report.json")

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
        settings = {**self._of_table(), "strand": self.options.strand, "scorer": self.scorer.sha256}
        return {name: str(value) for name, value in settings.items()}

    def compute(
        self, variants: Iterable[Variant], contigs: ContigNames, run: RunOptions
    ) -> tuple[AlleleTable, JobFolder | None]:
        """Check all alleles and score those that can be, but for what an earlier run has done.

        Returns:
            The table of alleles, and the folder of scores; None for a part of a job array.

        Raises:
            InputError, ArgumentError: see `prepare_alleles` and `run_job`.
        """
        options = self.options
        folder = run.folder or self.path.with_name(self.path.name + ".shards")
        table = prepare_alleles(
            variants,
            AlleleChecks(self.genome, contigs, options.window, options.max_n),
            folder.absolute(),
            settings=self._of_table(),
            max_ref_mismatch=options.max_ref_mismatch,
            progress=run.progress,
        )
        work = AlleleWork(self.scorer, self.genome, table, options.window, options.strand, self._of_table())
        return table, run_job(work, folder, run, unit="alleles")

    def report(
        self, table: AlleleTable, job: JobFolder | None, written: Iterable[Path], seconds: float
    ) -> VariantReport:
        """The account of this run; of a part of a job array without alleles."""
        found, alleles = table.account, Account()
        if job is not None:
            rejections = first_rejections(table.tables()) if found.reasons else []
            alleles = Account(
                sum(found.alleles), job.counts().get("scored", 0), dict(found.reasons), rejections
            )
        return VariantReport(
            job=self.digest,
            outputs={str(path): file_sha256(path) for path in written},
            n_records=found.records,
            alleles=alleles.check(),
            aliases=dict(found.aliases),
            figures=self.figures,
            window=self.options.window,
            strand=self.options.strand,
            seconds=seconds,
        )

    def _of_table(self) -> dict[str, Any]:
        return {
            **self.source,
            "fastgenome": __version__,
            "window": self.options.window,
            "max_n": self.options.max_n,
        }


def check_outputs(paths: Iterable[Path], endings: Iterable[str], sources: Iterable[Path]) -> None:
    """Check, before any work, that files can be written.

    Raises:
        ArgumentError: none is given or one twice, an ending is not known, a folder cannot be written to, or
            an output would replace one of the sources.
    """
    paths, endings, sources = list(paths), tuple(endings), list(sources)
    if not paths or len({path.absolute() for path in paths}) < len(paths):
        raise ArgumentError(f"expected one or more different files to write, got {list(map(str, paths))}")
    for path in paths:
        if not path.name.lower().endswith(endings):
            raise ArgumentError(f"the ending of {str(path)!r} is not known; use one of {', '.join(endings)}")
        check_output_file(path)
        for source in sources:
            if same_file(path, source):
                raise ArgumentError(f"the output {str(path)!r} is the input itself; choose another file")
