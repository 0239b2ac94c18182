"""A job that writes files, from its check to its report: the same course for every kind of job."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from fastgenome.emissions import Footprint, track_emissions
from fastgenome.errors import ArgumentError, FastgenomeError
from fastgenome.scoring.accounts import Account
from fastgenome.scoring.inputs import file_sha256
from fastgenome.scoring.jobs import JobFolder, RunOptions, folder_sha256, write_json


@dataclass(frozen=True, kw_only=True)
class Report:
    """What every job tells in the end.

    Attributes:
        job: digest of all that the results depend on, and of what the files show of them.
        outputs: sha256 of each file or folder that was written; none for a part of a job array.
        seconds: wall-clock time of this run.
        footprint: energy and CO2e of this run, where they were tracked.
        earlier: an earlier run of the same job had written the outputs; its figures are given.
    """

    job: str
    outputs: dict[str, str]
    seconds: float = 0.0
    footprint: Footprint | None = None
    earlier: bool = False

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        accounts = {name: getattr(self, name).to_dict() for name in self._accounts()}
        return {**asdict(self), **accounts}

    @classmethod
    def of_earlier_run(cls, path: Path, job: str) -> Self | None:
        """The report of a run that wrote the outputs of this very job, if they still are as it left them."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["job"] != job or content["outputs"] != digests_of(map(Path, content["outputs"])):
                return None
            content |= {name: Account.from_dict(content[name]) for name in cls._accounts()}
            footprint = content.pop("footprint")
            content["footprint"] = None if footprint is None else Footprint(**footprint)
            return cls(**content | {"earlier": True})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @classmethod
    def _accounts(cls) -> list[str]:
        return [field.name for field in fields(cls) if field.type == "Account"]

    def wrote(self) -> list[str]:
        """A line for each output, for people."""
        wrote = "an earlier run of this job wrote" if self.earlier else "wrote"
        return [f"{wrote} {path}" for path in self.outputs]


R = TypeVar("R", bound=Report, covariant=True)
AnyReport = TypeVar("AnyReport", bound=Report)


class OutputJob(Protocol[R]):
    """A job whose arguments were all checked."""

    @property
    def report_type(self) -> type[R]:
        """What `run` gives."""
        ...

    @property
    def first_output(self) -> Path:
        """Beside it the report lies, and the shards unless another folder is given."""
        ...

    @property
    def digest(self) -> str:
        """Of all that the outputs depend on."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """Those of its `Work`."""
        ...

    def run(self, folder: Path, options: RunOptions) -> tuple[R, JobFolder | None]:
        """Compute what is missing in the folder of shards, and write the outputs.

        Returns:
            The report, but for time and footprint, and the folder; None for a part of a job array.
        """
        ...


def run_to_report(prepare: Callable[[], OutputJob[AnyReport]], options: RunOptions) -> AnyReport:
    """Check a job, compute what an earlier run has not, write its outputs and then its report.

    The report is the last that is written and the shards go after it, so that a run that was killed anywhere
    goes on, and one that had ended is recognised.
    """
    started = time.perf_counter()
    with track_emissions() if options.emissions else nullcontext() as footprint:
        job = prepare()
        first = job.first_output
        report_path = first.with_name(first.name + ".report.json")
        folder = options.folder or first.with_name(first.name + ".shards")
        earlier = job.report_type.of_earlier_run(report_path, job.digest)
        if earlier is not None:
            # It may have been killed before it removed them.
            JobFolder.remove_left(folder, job.settings())
            return earlier
        try:
            report, shards = job.run(folder, options)
        except (FastgenomeError, OSError):
            # A second run of this job, beside this one, may have ended first and removed the shards.
            ended = job.report_type.of_earlier_run(report_path, job.digest)
            if ended is None:
                raise
            return ended
    report = replace(report, seconds=time.perf_counter() - started, footprint=footprint)
    if shards is not None:
        write_json(report_path, report.to_dict())
        shards.remove()
    return report


def digests_of(paths: Iterable[Path]) -> dict[str, str]:
    """sha256 of files and folders, by their names."""
    return {str(path): folder_sha256(path) if path.is_dir() else file_sha256(path) for path in paths}


def output_paths(out: str | Path | Iterable[str | Path]) -> tuple[Path, ...]:
    """The files of an argument `out`; ArgumentError for none, or for one twice."""
    paths = (Path(out),) if isinstance(out, str | Path) else tuple(map(Path, out))
    if not paths or len({path.absolute() for path in paths}) < len(paths):
        raise ArgumentError(f"expected one or more different files to write, got {list(map(str, paths))}")
    return paths
