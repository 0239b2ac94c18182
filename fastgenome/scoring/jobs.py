"""Jobs cut into shards: each is computed once, whatever is killed, and outputs are assembled from all."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from fastgenome.atomic import atomic_file
from fastgenome.errors import ArgumentError, CheckpointError, InputError
from fastgenome.scoring.inputs import InputFile, file_sha256

if TYPE_CHECKING:
    import pyarrow as pa

# What a job over variants reads its shards from; it stands in the folder before the job does.
ALLELES = "alleles.parquet"
_JOB = "job.json"
_FORMAT = 1
# What a job makes in its folder, but for the settings: whole files, and those that a kill left unfinished.
_OWN_FILE = re.compile(
    r"shard-\d{6,}\.(parquet|json)|alleles\.parquet|\.(shard-\d{6,}|alleles|job)\..*\.partial"
)


class Shard(NamedTuple):
    """What became of one part of a job: its rows, and counts that add up over shards."""

    table: pa.Table
    counts: Mapping[str, int]


class Work(Protocol):
    """A job that is cut into shards; it can be pickled, and is cheap to pickle but for a scorer's weights.

    `n_shards` and what a shard holds depend on nothing but `settings`.
    """

    @property
    def n_shards(self) -> int:
        """Parts of the job."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that the results depend on, ready for JSON; the digests of inputs among it."""
        ...

    def amount(self, shard: int) -> float:
        """Of the whole work, in the unit of the progress bar."""
        ...

    def open(self) -> Callable[[int], Shard]:
        """What computes a shard; called once in each process that computes."""
        ...


@dataclass(frozen=True)
class RunOptions:
    """How a job is run; none of it changes a byte of what comes out.

    Attributes:
        workers: processes, each with one thread. None is this one, which hands over to one for each core
            after some seconds, or one on a GPU.
        engine: "local", or "ray" for actors of Ray (the cluster of RAY_ADDRESS, else a local one), which must
            share the file system.
        shard: (i, n), part i of 1 … n of a job array: only shards of this part are computed. A run without
            it then writes the outputs.
        folder: of the shards; by default the first output's name with ".shards" behind it.
        progress: show a bar.
        emissions: measure energy and CO2e.

    Raises:
        ArgumentError: a value is out of its range.
    """

    workers: int | None = None
    engine: Literal["local", "ray"] = "local"
    shard: tuple[int, int] | None = None
    folder: Path | None = None
    progress: bool = False
    emissions: bool = False

    def __post_init__(self) -> None:
        if self.folder is not None:
            object.__setattr__(self, "folder", Path(self.folder))
        if self.workers is not None and self.workers < 1:
            raise ArgumentError(f"workers={self.workers}: expected at least 1")
        if self.engine not in ("local", "ray"):
            raise ArgumentError(f"engine={self.engine!r}: expected 'local' or 'ray'")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ArgumentError(f"shard={self.shard}: expected (i, n) with 1 <= i <= n")

    def part(self, n_shards: int) -> range:
        """The shards of this run's part of the job."""
        first, step = self.shard or (1, 1)
        return range(first - 1, n_shards, step)


@dataclass(frozen=True)
class JobFolder:
    """The shards of one job, each a Parquet file with an entry that holds its digest.

    Attributes:
        path: the folder.
        digest: of the job's settings.
        n_shards: how many make the job complete.
    """

    path: Path
    digest: str
    n_shards: int

    @classmethod
    def of(cls, path: Path, work: Work) -> JobFolder:
        """Make the folder of a job, or open the one that an earlier run made.

        Raises:
            ArgumentError: the folder belongs to a job with other settings, or to none, or cannot be made.
        """
        settings = _settings(work)
        # Actors of Ray have another working folder.
        path = path.absolute()
        folder = cls(path, job_digest(work), work.n_shards)
        if path.exists():
            folder._check_settings(settings)
        if not (path / _JOB).exists():
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ArgumentError(f"cannot make the folder {str(path)!r}: {error.strerror}") from error
            with suppress(FileExistsError):
                write_json(path / _JOB, settings, replace=False)
            # Of this job or of another that began at the same time.
            folder._check_settings(settings)
        return folder

    def _check_settings(self, settings: dict[str, Any]) -> None:
        try:
            found = json.loads((self.path / _JOB).read_text(encoding="utf-8"))
        except FileNotFoundError:
            try:
                check_unused(self.path)
            except ArgumentError:
                # Another part of a job array may have begun in the meantime.
                if not (self.path / _JOB).exists():
                    raise
                self._check_settings(settings)
            return
        except (OSError, ValueError) as error:
            raise ArgumentError(f"{self.path / _JOB} cannot be read ({error}); remove the folder") from None
        check_same_job(self.path, found, settings)

    def table_path(self, shard: int) -> Path:
        """The Parquet file of a shard."""
        return self.path / f"shard-{shard:06d}.parquet"

    def entry_path(self, shard: int) -> Path:
        """The entry of a shard, written after its Parquet file."""
        return self.path / f"shard-{shard:06d}.json"

    def store(self, shard: int, result: Shard) -> None:
        """Write a shard and then its entry, each complete or not at all."""
        import pyarrow.parquet as parquet

        content = io.BytesIO()
        parquet.write_table(result.table, content, compression="zstd", use_dictionary=["contig"])
        digest = hashlib.sha256(content.getbuffer()).hexdigest()
        with atomic_file(self.table_path(shard)) as file:
            file.write(content.getbuffer())
        entry = {"job": self.digest, "rows": result.table.num_rows, "sha256": digest}
        write_json(self.entry_path(shard), {**entry, "counts": dict(result.counts)})

    def is_stored(self, shard: int) -> bool:
        """Whether a shard of this very job is there and undamaged."""
        try:
            self._bytes(shard)
        except CheckpointError:
            return False
        return True

    def tables(self) -> Iterator[pa.Table]:
        """The shards' rows in order, one shard in memory at a time.

        Raises:
            CheckpointError: a shard is missing or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as parquet

        for shard in range(self.n_shards):
            yield parquet.read_table(pa.BufferReader(self._bytes(shard)))

    def counts(self) -> dict[str, int]:
        """The counts of all shards, added up."""
        total: dict[str, int] = {}
        for shard in range(self.n_shards):
            for name, count in self._entry(shard)["counts"].items():
                total[name] = total.get(name, 0) + count
        return total

    def remove(self) -> None:
        """Remove the job's files, the settings last, and the folder if nothing else is in it."""
        for path in self.path.iterdir():
            if _OWN_FILE.fullmatch(path.name):
                path.unlink(missing_ok=True)
        (self.path / _JOB).unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    @classmethod
    def remove_left(cls, path: Path, settings: Mapping[str, Any]) -> None:
        """Remove what a run of the job with these settings left when it was killed at its end."""
        with suppress(OSError, ValueError, AttributeError):
            found = json.loads((path / _JOB).read_text(encoding="utf-8"))
            if found == {**settings, "format": _FORMAT, "shards": found.get("shards")}:
                cls(path, "", 0).remove()
        with suppress(OSError):
            # Empty, where only this was missing.
            path.rmdir()

    def _bytes(self, shard: int) -> bytes:
        entry = self._entry(shard)
        try:
            content = self.table_path(shard).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{self.table_path(shard)} cannot be read: {error.strerror}") from None
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise CheckpointError(f"{self.table_path(shard)} is damaged; run the job again to repeat it")
        return content

    def _entry(self, shard: int) -> dict[str, Any]:
        path = self.entry_path(shard)
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            if entry["job"] == self.digest and isinstance(entry["sha256"], str):
                return dict(entry)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise CheckpointError(f"{path} is missing, damaged or of another job; run the job again to repeat it")


def run_job(
    work: Work, inputs: Iterable[InputFile], folder: Path, options: RunOptions, *, unit: str
) -> JobFolder | None:
    """Compute the shards of a job that are not stored yet.

    Args:
        work: the job.
        inputs: what it reads.
        folder: of the shards.
        options: who computes; `options.folder` is not looked at.
        unit: of `work.amount`, for the progress bar.

    Returns:
        The folder, once all shards are stored; None for a part of a job array.

    Raises:
        ArgumentError: the folder belongs to another job.
        InputError: an input was changed meanwhile; no shard is left then.
        MissingExtraError: the engine is not installed.
    """
    from fastgenome.scoring.engines import compute_shards

    job = JobFolder.of(folder, work)
    part = options.part(work.n_shards)
    missing = [shard for shard in part if not job.is_stored(shard)]
    try:
        compute_shards(work, job, missing, options, unit=unit, done=set(part) - set(missing))
    finally:
        _check_unchanged(inputs, job)
    return None if options.shard is not None else job


def _check_unchanged(inputs: Iterable[InputFile], job: JobFolder) -> None:
    """InputError where an input was changed; no shard is left then, since any may be of the changed one."""
    try:
        for file in inputs:
            file.check_unchanged()
    except InputError:
        job.remove()
        raise


def job_digest(work: Work) -> str:
    """Digest of all that the results of a job depend on."""
    return hashlib.sha256(json.dumps(_settings(work), sort_keys=True).encode()).hexdigest()


def _settings(work: Work) -> dict[str, Any]:
    return {"format": _FORMAT, "shards": work.n_shards, **work.settings()}


def folder_sha256(folder: Path) -> str:
    """Digest of the files in a folder and its folders, by their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    parts = [[path.relative_to(folder).as_posix(), file_sha256(path)] for path in files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def check_same_job(folder: Path, found: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """ArgumentError where the settings found in a folder are not those of the job."""
    if changed := sorted(key for key in {*found, *settings} if found.get(key) != settings.get(key)):
        raise ArgumentError(
            f"{str(folder)!r} holds shards of a job with another {', '.join(changed)}; remove the folder to "
            "start anew, or finish that job with its own settings"
        )


def check_unused(path: Path) -> None:
    """ArgumentError for a folder that holds something else than what a job puts there before its settings."""
    if not path.is_dir() or any(not _is_early(entry) for entry in path.iterdir()):
        raise ArgumentError(f"{str(path)!r} exists and is no folder of shards; remove it, or choose another")


def _is_early(path: Path) -> bool:
    """Whether a file may stand in a folder of shards before its settings do."""
    return path.name == ALLELES or (path.name.startswith(".") and path.name.endswith(".partial"))


def write_json(path: Path, content: Mapping[str, Any], *, replace: bool = True) -> None:
    """Write a file of JSON, complete or not at all; FileExistsError as `atomic_path`."""
    with atomic_file(path, replace=replace) as file:
        file.write((json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
