"""The table of all alleles of a job, checked once; its row groups are the job's shards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgenome.atomic import atomic_file
from fastgenome.errors import ArgumentError, CheckpointError, InputError
from fastgenome.progress import progress_bar
from fastgenome.scoring.allele_checks import Allele, AlleleChecks
from fastgenome.scoring.jobs import ALLELES, check_same_job, check_unused
from fastgenome.variants import Variant

if TYPE_CHECKING:
    import pyarrow as pa

# A shard is what a killed job repeats at most; its windows are in memory at once.
_SHARD_ALLELES = 1 << 11
_SHARD_BASES = 1 << 22
# Of alleles alone: files of structural variants spell out many thousand bases a line.
_SHARD_LETTERS = 1 << 24

_ACCOUNT, _SETTINGS = b"account", b"settings"


@dataclass(frozen=True)
class AlleleAccount:
    """What became of the lines and alleles of a source.

    Attributes:
        records: lines.
        alleles, accepted: by shard.
        reasons: how many alleles were rejected, by reason, see `allele_checks.REASONS`.
        aliases: contigs found in the genome by another name, and that name.
        checked: lines whose REF was compared with the genome.
        mismatched: those of them whose REF differed.
    """

    records: int
    alleles: tuple[int, ...]
    accepted: tuple[int, ...]
    reasons: Mapping[str, int]
    aliases: Mapping[str, str]
    checked: int
    mismatched: int


@dataclass(frozen=True)
class AlleleTable:
    """A table of alleles on disk: the fields of `Allele`, and `end` of REF, 0-based, half-open."""

    path: Path
    account: AlleleAccount

    @property
    def n_shards(self) -> int:
        """Row groups."""
        return len(self.account.alleles)

    def open(self) -> Callable[[int], pa.Table]:
        """What reads a shard's alleles; CheckpointError where the file is damaged."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        file = parquet.ParquetFile(self.path, page_checksum_verification=True)

        def read(shard: int) -> pa.Table:
            try:
                return file.read_row_group(shard)
            except (OSError, pa.ArrowException) as error:
                raise CheckpointError(f"{self.path} is damaged ({error}); remove its folder") from None

        return read

    def tables(self) -> Iterator[pa.Table]:
        """All shards in order."""
        return map(self.open(), range(self.n_shards))


def prepare_alleles(
    variants: Iterable[Variant],
    checks: AlleleChecks,
    folder: Path,
    *,
    settings: Mapping[str, Any],
    max_ref_mismatch: float,
    progress: bool,
) -> AlleleTable:
    """Check every allele of a source and write the table of a job, or open the one of an earlier run.

    Memory does not grow with the source.

    Args:
        variants: the source; only looked at where there is no table yet.
        checks: the rules.
        folder: of the job; made where it is missing.
        settings: all that the table depends on, ready for JSON.
        max_ref_mismatch: share of the lines compared with the genome that may have another REF.
        progress: show that something goes on.

    Raises:
        InputError: REF differs from the genome in more lines: no table is left then.
        ArgumentError: the folder holds the table of another job, or cannot be made.
    """
    path = folder / ALLELES
    if path.exists():
        table = AlleleTable(path, _read_account(path, settings))
        _check_build(table.account, checks, max_ref_mismatch)
        return table
    made = not folder.exists()
    _make(folder)
    try:
        with atomic_file(path, replace=False) as file:
            account = _write(variants, checks, file, settings, progress)
            _check_build(account, checks, max_ref_mismatch)
    except FileExistsError:
        # Another part of this job, or another job, was faster.
        account = _read_account(path, settings)
    except BaseException:
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise
    return AlleleTable(path, account)


def _make(folder: Path) -> None:
    """Make the folder, or refuse one with other content; another part of the job may fill it meanwhile."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_unused(folder)
    except ArgumentError:
        if not (folder / ALLELES).exists():
            raise
    except OSError as error:
        raise ArgumentError(f"cannot make the folder {str(folder)!r}: {error.strerror}") from error


def _write(
    variants: Iterable[Variant], checks: AlleleChecks, file: Any, settings: Mapping[str, Any], progress: bool
) -> AlleleAccount:
    import pyarrow.parquet as parquet

    alleles: list[int] = []
    accepted: list[int] = []
    reasons: Counter[str] = Counter()
    with (
        parquet.ParquetWriter(
            file,
            _schema(),
            compression="zstd",
            use_dictionary=["contig", "reason"],
            write_page_checksum=True,
        ) as writer,
        progress_bar("checking alleles", None, shown=progress) as advance,
    ):
        for lines in _shards(variants, checks.window):
            found = checks.check(lines)
            writer.write_table(_to_table(found), row_group_size=len(found))
            counts = Counter(allele.reason for allele in found)
            alleles.append(len(found))
            accepted.append(counts.pop("", 0))
            reasons.update(counts)
            advance(len(found), f"{checks.n_records:,} records")
        account = AlleleAccount(
            records=checks.n_records,
            alleles=tuple(alleles),
            accepted=tuple(accepted),
            reasons=dict(sorted(reasons.items())),
            aliases=dict(checks.contigs.aliases),
            checked=checks.n_checked,
            mismatched=checks.n_mismatched,
        )
        stored = {_ACCOUNT: json.dumps(asdict(account)), _SETTINGS: json.dumps(settings, sort_keys=True)}
        writer.add_key_value_metadata(stored)
    return account


def _shards(variants: Iterable[Variant], window: int) -> Iterator[list[Variant]]:
    """Lines until their alleles fill a shard; the alleles of a line stay together."""
    most = max(1, min(_SHARD_ALLELES, _SHARD_BASES // window))
    lines: list[Variant] = []
    alleles = letters = 0
    for variant in variants:
        lines.append(variant)
        alleles += len(variant.alternatives) or 1
        letters += len(variant.reference) + sum(map(len, variant.alternatives))
        if alleles >= most or letters >= _SHARD_LETTERS:
            yield lines
            lines, alleles, letters = [], 0, 0
    if lines:
        yield lines


def _schema() -> pa.Schema:
    import pyarrow as pa

    texts = {"contig", "id", "reference", "alternative", "reason"}
    order = (*Allele._fields[:5], "end", *Allele._fields[5:])
    return pa.schema([(name, pa.string() if name in texts else pa.int64()) for name in order])


def _to_table(alleles: Sequence[Allele]) -> pa.Table:
    import pyarrow as pa

    columns = dict(zip(Allele._fields, map(list, zip(*alleles, strict=True)), strict=True))
    columns["end"] = [allele.start + len(allele.reference) for allele in alleles]
    schema = _schema()
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _read_account(path: Path, settings: Mapping[str, Any]) -> AlleleAccount:
    """The account of a table; ArgumentError where it is that of another job."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        stored = parquet.read_metadata(path).metadata
        found, account = json.loads(stored[_SETTINGS]), json.loads(stored[_ACCOUNT])
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); remove the folder") from None
    check_same_job(path.parent, found, json.loads(json.dumps(settings)))
    account["alleles"], account["accepted"] = tuple(account["alleles"]), tuple(account["accepted"])
    return AlleleAccount(**account)


def _check_build(account: AlleleAccount, checks: AlleleChecks, most: float) -> None:
    """InputError where so many REF differ from the genome that it is likely to be another one."""
    if account.checked and account.mismatched / account.checked > most:
        raise InputError(
            f"REF differs from {checks.genome.path} in {account.mismatched:,} of {account.checked:,} lines, "
            f"more than {most:.2%}: probable wrong build; give the genome that the variants were called on, "
            "or raise max_ref_mismatch to score those that fit"
        )
