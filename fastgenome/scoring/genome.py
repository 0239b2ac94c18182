"""Score every window of a genome, or of regions of it, into tracks and tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgenome.errors import ArgumentError
from fastgenome.genome import open_genome
from fastgenome.scoring.accounts import Account, footprint_summary
from fastgenome.scoring.genome_outputs import (
    Aggregate,
    OutputRows,
    RegionFigures,
    check_output,
    open_output,
    open_regions,
    region_figures,
    same_file,
)
from fastgenome.scoring.genome_regions import Regions, contigs_of, regions_of
from fastgenome.scoring.genome_work import GenomeWork, genome_digests
from fastgenome.scoring.inputs import InputFile
from fastgenome.scoring.jobs import JobFolder, RunOptions, job_digest, run_job
from fastgenome.scoring.reports import Report, digests_of, output_paths, run_to_report
from fastgenome.scoring.scored_windows import ScoredWindows, from_table, joined, to_table
from fastgenome.scoring.scorer import as_scorer
from fastgenome.scoring.tracks import bins_of, check_contigs, is_track
from fastgenome.scoring.window_plan import Edge, Strand, WindowOptions, WindowPlan

if TYPE_CHECKING:
    import pyarrow as pa

    from fastgenome.models.model import Model
    from fastgenome.prediction import Predictor


@dataclass(frozen=True, kw_only=True)
class GenomeReport(Report):
    """What became of a genome; see also Report.

    Attributes:
        records: the account of the contigs, or of the regions where there are any.
        windows: the account of the windows, without single rejections.
        bases: that the windows stand for: of each the stride, or the window if it is shorter.
    """

    records: Account
    windows: Account
    bases: int

    def summary(self) -> str:
        """Some lines for people."""
        done = [self.records.summary("records"), self.windows.summary("windows")]
        if not self.outputs:
            done = ["a part of the job is stored; a run without --shard writes the outputs"]
        lines = [
            *done,
            f"{self.bases / 1e6:.3f} Mbp in {self.seconds:.1f} s, "
            f"{self.bases / self.seconds / 1e3:,.0f} kbp/s",
        ]
        if self.footprint is not None:
            lines.append(footprint_summary(self.footprint, self.bases / 1e6))
        return "\n".join([*lines, *self.wrote()])


def score_genome(
    scorer: Predictor | Model | str | Path,
    genome: str | Path,
    *,
    out: str | Path | Sequence[str | Path],
    window: int,
    stride: int | None = None,
    strand: Strand = "both",
    edge: Edge = "skip",
    max_n: float = 0.1,
    context: int | None = None,
    regions: str | Path | None = None,
    aggregates: Sequence[Aggregate] = (),
    run: RunOptions | None = None,
) -> GenomeReport:
    """Score the windows of a genome; a run that was killed goes on where it stopped.

    What is not scored is absent from the outputs, never 0. Shards lie in the folder of `run` until the
    outputs are written; a job with other settings refuses them.

    Args:
        scorer: a Predictor, the folder of a saved one, or a Model, whose embedding is written.
        genome: FASTA (plain, bgzip, or gzip, which is read into memory) or 2bit.
        out: one or more files. .parquet, .tsv, .csv (.gz): contig, start, end, numbers; .bw, .bedgraph (.gz):
            one track for each number, each value on the `stride` bases in the middle of its window;
            .bed (.gz): windows; .zarr: embeddings. Coordinates are 0-based, half-open.
        window, stride, strand, edge, max_n, context: see WindowOptions; stride is window by default.
        regions: BED; windows then begin at each region's start, in the order of the genome.
        aggregates: "mean", "max": tables then have one row for each region, with these over its windows.
        run: who computes, where, and whether a bar is shown.

    Returns:
        GenomeReport, which also lies beside the first output, with ".report.json" behind its name.

    Raises:
        ArgumentError: an argument does not fit, or the shards' folder is of another job.
        InputError: the genome or the regions cannot be read.
    """
    options = WindowOptions(window, window if stride is None else stride, strand, edge, max_n, context)
    paths = output_paths(out)

    def prepare() -> _GenomeJob:
        return _GenomeJob.prepare(scorer, genome, paths, options, regions, tuple(aggregates))

    return run_to_report(prepare, run or RunOptions())


@dataclass(frozen=True)
class _GenomeJob:
    """A job whose arguments were all checked."""

    work: GenomeWork
    inputs: tuple[InputFile, ...]
    rows: OutputRows
    regions: Regions
    paths: tuple[Path, ...]
    aggregates: tuple[Aggregate, ...]

    @classmethod
    def prepare(
        cls,
        source: Predictor | Model | str | Path,
        genome_path: str | Path,
        paths: tuple[Path, ...],
        options: WindowOptions,
        bed: str | Path | None,
        aggregates: tuple[Aggregate, ...],
    ) -> _GenomeJob:
        scorer = as_scorer(source)
        scorer.check_window(options.window)
        _check_aggregates(aggregates, bed)
        for path in paths:
            for file in check_output(path, scorer.columns, aggregated=bool(aggregates)):
                if same_file(file, Path(genome_path)) or (bed is not None and same_file(file, Path(bed))):
                    raise ArgumentError(f"the output {str(file)!r} is an input itself; choose another file")
        genome = open_genome(genome_path)
        regions = contigs_of(genome) if bed is None else regions_of(bed, genome)
        places = regions.places
        plan = WindowPlan(
            places[:, 0],
            places[:, 1],
            places[:, 2] - places[:, 1],
            options,
            with_model=scorer.model is not None,
        )
        if any(map(is_track, paths)):
            _refuse_overlaps(regions.places, plan)
        for path in paths:
            check_contigs(path, genome)
        letters = InputFile.of(genome.path)
        sources = genome_digests(genome, letters)
        sources |= {} if bed is None else {"regions": regions.sha256}
        work = GenomeWork(genome, scorer, plan, sources)
        work.open()
        rows = OutputRows(genome, options, scorer.columns, scorer.dim, regions.names)
        return cls(work, (letters,), rows, regions, paths, aggregates)

    @property
    def report_type(self) -> type[GenomeReport]:
        """See OutputJob."""
        return GenomeReport

    @property
    def first_output(self) -> Path:
        """See OutputJob."""
        return self.paths[0]

    @property
    def digest(self) -> str:
        """Digest of the job, its outputs and aggregates."""
        parts = [job_digest(self.work), [str(path.absolute()) for path in self.paths], self.aggregates]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def settings(self) -> dict[str, Any]:
        """See OutputJob."""
        return self.work.settings()

    def run(self, folder: Path, options: RunOptions) -> tuple[GenomeReport, JobFolder | None]:
        """See OutputJob."""
        shards = run_job(self.work, self.inputs, folder, options, unit="bases")
        report = GenomeReport(
            job=self.digest, outputs={}, records=Account(), windows=Account(), bases=self._bases()
        )
        if shards is None:
            bases = int(sum(map(self.work.amount, options.part(self.work.n_shards))))
            return replace(report, bases=bases), None
        outputs, scored = self._assemble(shards)
        windows = _window_account(shards)
        not_finite = "not_finite" in windows.reasons
        records = self.regions.account(scored, self.work.plan.counts, not_finite=not_finite)
        return replace(report, outputs=outputs, records=records, windows=windows), shards

    def _bases(self) -> int:
        """Bases that the windows stand for."""
        options, places = self.work.plan.options, self.regions.places
        step = min(options.stride, options.window)
        return int(np.minimum(self.work.plan.counts * step, places[:, 2] - places[:, 1]).sum())

    def _assemble(self, job: JobFolder) -> tuple[dict[str, str], NDArray[np.int64]]:
        """Write all outputs in one pass over the shards; count the scored windows of each span."""
        scorer, aggregated = self.work.scorer, bool(self.aggregates)
        scored = np.zeros(len(self.work.plan.counts), dtype=np.int64)

        def tables() -> Iterator[ScoredWindows]:
            for table in _tables(job, self.work):
                windows = from_table(table, self.rows.genome.names, scorer.columns, scorer.dim)
                np.add.at(scored, windows.spans, 1)
                yield windows

        if aggregated:
            self._write_regions(region_figures(tables(), scorer.dim))
        else:
            self._write_windows(tables(), job.counts().get("scored", 0))
        written = (check_output(path, scorer.columns, aggregated=aggregated) for path in self.paths)
        return digests_of(path.absolute() for files_of in written for path in files_of), scored

    def _write_windows(self, tables: Iterable[ScoredWindows], total: int) -> None:
        with ExitStack() as files:
            writers = [files.enter_context(open_output(path, self.rows, total=total)) for path in self.paths]
            for windows in tables:
                for write in writers:
                    write(windows)

    def _write_regions(self, regions: Iterable[RegionFigures]) -> None:
        with ExitStack() as files:
            places = self.regions.places
            writers = [
                files.enter_context(open_regions(path, self.rows, places, self.aggregates))
                for path in self.paths
            ]
            for figures in regions:
                for write in writers:
                    write(figures)


def _window_account(job: JobFolder) -> Account:
    counts = job.counts()
    reasons = {name: counts[name] for name in ("too_many_n", "not_finite") if counts.get(name)}
    return Account(counts.get("windows", 0), counts.get("scored", 0), reasons).check()


def _tables(job: JobFolder, work: GenomeWork) -> Iterator[pa.Table]:
    """The tables of a job, before them one without rows, so that every output has its columns."""
    yield to_table(joined([], work.scorer.dim), work.genome.names, work.scorer.columns)
    yield from job.tables()


def _check_aggregates(aggregates: tuple[Aggregate, ...], bed: str | Path | None) -> None:
    if aggregates and bed is None:
        raise ArgumentError("aggregates= need regions=: they are figures of each region's windows")
    if unknown := [name for name in aggregates if name not in ("mean", "max")]:
        raise ArgumentError(f"aggregates={unknown}: expected 'mean' or 'max'")


def _refuse_overlaps(places: NDArray[np.int64], plan: WindowPlan) -> None:
    """ArgumentError where two regions would give one base of a track two values."""
    used = np.flatnonzero(plan.counts)
    contigs, starts = plan.contigs[used], plan.starts[used]
    last = starts + (plan.counts[used] - 1) * plan.options.stride
    nothing = np.empty((len(used), 0), dtype=np.float32)
    beyond = np.full(int(contigs.max(initial=-1)) + 1, 2**62)
    begins = bins_of(ScoredWindows(contigs, starts, starts, used, nothing), beyond, plan.options).starts
    ends = bins_of(ScoredWindows(contigs, last, last, used, nothing), beyond, plan.options).ends
    clash = np.flatnonzero((contigs[1:] == contigs[:-1]) & (begins[1:] < ends[:-1]))
    if len(clash):
        first, second = places[used[clash[0]]], places[used[clash[0] + 1]]
        raise ArgumentError(
            f"regions {first[1:].tolist()} and {second[1:].tolist()} of one contig overlap, so that a track "
            "would have two values in one place; merge them, or write a table"
        )
