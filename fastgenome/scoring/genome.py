"""Score every window of a genome, or of regions of it, into tracks and tables."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgenome.emissions import Footprint, track_emissions
from fastgenome.errors import ArgumentError
from fastgenome.genome import open_genome
from fastgenome.scoring.accounts import Account, footprint_summary
from fastgenome.scoring.genome_outputs import (
    Aggregate,
    OutputRows,
    RegionTotals,
    check_output,
    open_output,
    same_file,
    write_regions,
)
from fastgenome.scoring.genome_regions import Regions, contigs_of, regions_of
from fastgenome.scoring.genome_work import GenomeWork, genome_digests
from fastgenome.scoring.jobs import (
    JobFolder,
    RunOptions,
    file_sha256,
    folder_sha256,
    job_digest,
    run_job,
    write_json,
)
from fastgenome.scoring.scored_windows import ScoredWindows, from_table, joined, to_table
from fastgenome.scoring.scorer import as_scorer
from fastgenome.scoring.tracks import bins_of, is_track
from fastgenome.scoring.window_plan import Edge, Strand, WindowOptions, WindowPlan

if TYPE_CHECKING:
    import pyarrow as pa

    from fastgenome.models.model import Model
    from fastgenome.prediction import Predictor


@dataclass(frozen=True)
class GenomeReport:
    """What became of a genome.

    Attributes:
        job: digest of all that the results depend on, and of what the files show of them.
        outputs: sha256 of each file or folder that was written; none for a part of a job array.
        records: the account of the contigs, or of the regions where there are any.
        windows: the account of the windows, without single rejections.
        bases: that the windows stand for: of each the stride, or the window if it is shorter.
        seconds: wall-clock time of this run.
        footprint: energy and CO2e of this run, where they were tracked.
        earlier: an earlier run of the same job had written the outputs; its figures are given.
    """

    job: str
    outputs: dict[str, str]
    records: Account
    windows: Account
    bases: int
    seconds: float
    footprint: Footprint | None = None
    earlier: bool = False

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return {
            **asdict(self),
            "records": self.records.to_dict(),
            "windows": self.windows.to_dict(),
        }

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
        wrote = "an earlier run of this job wrote" if self.earlier else "wrote"
        return "\n".join([*lines, *(f"{wrote} {path}" for path in self.outputs)])

    @classmethod
    def of_earlier_run(cls, path: Path, job: str) -> GenomeReport | None:
        """The report of a run that wrote the outputs of this very job, if they still are as it left them."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["job"] != job or any(
                digest != _sha256(Path(file)) for file, digest in content["outputs"].items()
            ):
                return None
            footprint = content["footprint"]
            return cls(
                job,
                content["outputs"],
                Account.from_dict(content["records"]),
                Account.from_dict(content["windows"]),
                content["bases"],
                content["seconds"],
                None if footprint is None else Footprint(**footprint),
                earlier=True,
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


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
    run = run or RunOptions()
    options = WindowOptions(window, window if stride is None else stride, strand, edge, max_n, context)
    paths = _paths(out)
    started = time.perf_counter()
    with track_emissions() if run.emissions else nullcontext() as footprint:
        job = _GenomeJob.prepare(scorer, genome, paths, options, regions, tuple(aggregates))
        report = job.run(run, started)
    if footprint is None or report.earlier:
        return report
    report = replace(report, footprint=footprint)
    if report.outputs:
        write_json(job.report_path, report.to_dict())
    return report


@dataclass(frozen=True)
class _GenomeJob:
    """A job whose arguments were all checked."""

    work: GenomeWork
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
        plan = WindowPlan(places[:, 0], places[:, 1], places[:, 2] - places[:, 1], options)
        if any(map(is_track, paths)):
            _refuse_overlaps(regions.places, plan)
        sources = genome_digests(genome)
        sources |= {} if bed is None else {"regions": regions.sha256}
        work = GenomeWork(genome, scorer, plan, sources)
        work.open()
        rows = OutputRows(genome, options, scorer.columns, scorer.dim, regions.names)
        return cls(work, rows, regions, paths, aggregates)

    def run(self, run: RunOptions, started: float) -> GenomeReport:
        """Compute what is missing, and write the outputs unless this is a part of a job array."""
        folder = run.folder or self.paths[0].with_name(self.paths[0].name + ".shards")
        digest = self._digest()
        if earlier := GenomeReport.of_earlier_run(self.report_path, digest):
            # It may have been killed just before this.
            JobFolder.remove_left(folder, self.work)
            return earlier
        job = run_job(self.work, folder, run, unit="bases")
        if job is None:
            bases = int(sum(map(self.work.amount, run.part(self.work.n_shards))))
            return GenomeReport(digest, {}, Account(), Account(), bases, time.perf_counter() - started)
        outputs, totals = self._assemble(job)
        report = GenomeReport(
            digest,
            outputs,
            self.regions.account(totals.windows, self.work.plan.counts),
            _window_account(job),
            self._bases(),
            time.perf_counter() - started,
        )
        write_json(self.report_path, report.to_dict())
        job.remove()
        return report

    def _bases(self) -> int:
        """Bases that the windows stand for."""
        options, places = self.work.plan.options, self.regions.places
        step = min(options.stride, options.window)
        return int(np.minimum(self.work.plan.counts * step, places[:, 2] - places[:, 1]).sum())

    def _digest(self) -> str:
        """Digest of the job, its outputs and aggregates."""
        parts = [job_digest(self.work), [str(path.absolute()) for path in self.paths], self.aggregates]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def report_path(self) -> Path:
        """Where the report lies."""
        return self.paths[0].with_name(self.paths[0].name + ".report.json")

    def _assemble(self, job: JobFolder) -> tuple[dict[str, str], RegionTotals]:
        """Write all outputs in one pass over the shards."""
        scorer, aggregated = self.work.scorer, bool(self.aggregates)
        totals = RegionTotals(len(self.work.plan.counts), scorer.dim if aggregated else 0)
        total = job.counts().get("scored", 0)
        with ExitStack() as files:
            writers = [
                files.enter_context(open_output(path, self.rows, total=total))
                for path in (() if aggregated else self.paths)
            ]
            for table in _tables(job, self.work):
                windows = from_table(table, self.rows.genome.names, scorer.columns, scorer.dim)
                totals.add(windows)
                for write in writers:
                    write(windows)
        for path in self.paths if aggregated else ():
            write_regions(path, self.rows, self.regions.places, totals, self.aggregates)
        written = (check_output(path, scorer.columns, aggregated=aggregated) for path in self.paths)
        return {str(path.absolute()): _sha256(path) for files_of in written for path in files_of}, totals


def _window_account(job: JobFolder) -> Account:
    counts = job.counts()
    n_in, scored = counts.get("windows", 0), counts.get("scored", 0)
    return Account(n_in, scored, {"too_many_n": n_in - scored} if n_in > scored else {}).check()


def _sha256(path: Path) -> str:
    return folder_sha256(path) if path.is_dir() else file_sha256(path)


def _tables(job: JobFolder, work: GenomeWork) -> Iterator[pa.Table]:
    """The tables of a job, before them one without rows, so that every output has its columns."""
    yield to_table(joined([], work.scorer.dim), work.genome.names, work.scorer.columns)
    yield from job.tables()


def _paths(out: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    paths = (Path(out),) if isinstance(out, str | Path) else tuple(map(Path, out))
    if not paths or len(set(paths)) < len(paths):
        raise ArgumentError(f"out={out!r}: expected one or more different files")
    return paths


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
