"""A record of DNA, before and after cleaning, and the account of a reading."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_KEPT_REJECTIONS = 1000
_MISSING_LABELS = frozenset({"", "na", "n/a", "nan", "null", "none"})


class RawRecord(NamedTuple):
    """A record as it stands in its source; `defect` says why it cannot be used, empty for a sound one."""

    id: str
    sequence: str
    labels: tuple[str, ...] = ()
    defect: str = ""


class SequenceRecord(NamedTuple):
    """A cleaned record: upper-case A, C, G, T, N only.

    A record without a name in its source has its number as its id: 1 for the first, as in `Rejection`.
    """

    id: str
    sequence: str
    labels: tuple[str, ...] = ()


class CleanedBatch(NamedTuple):
    """Records after cleaning, before it is decided which are used.

    Attributes:
        ids: as in the source, empty where it names none.
        labels: one tuple a record; None where no record has any.
        sequences: what cleaning left.
        counts: (n, 7) int64: lower-case, RNA, IUPAC, gap and invalid characters, bases of the cleaned
            sequence, and 1 where none of its bases is known.
        suspects: by index the raw letters and the defect of each record that is malformed, not DNA or empty.
    """

    ids: list[str]
    labels: Sequence[tuple[str, ...]] | None
    sequences: list[str]
    counts: NDArray[np.int64]
    suspects: dict[int, tuple[str, str]]


@dataclass(frozen=True)
class Rejection:
    """A record that was not used.

    `number` counts records from 1 in the order of the source. `reason` is one of malformed, empty, not_dna,
    too_short, all_n, missing_label, duplicate_id; `detail` is for people.
    """

    number: int
    id: str
    reason: str
    detail: str


@dataclass
class ReadReport:
    """The account of a reading: `n_in = n_out + n_rejected` whenever a batch has been handed out.

    `reasons` counts the rejects by reason, `rejections` keeps the first 1,000. The counts of bases say what
    cleaning changed in the records that were handed out: lower case raised, U made T, IUPAC codes made N,
    gaps removed. `duplicate_ids` counts records handed out whose id had been handed out before,
    `all_n_records` those without any A, C, G or T. `complete` tells whether the source was read to its end.
    """

    n_in: int = 0
    n_out: int = 0
    bases_out: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)
    duplicate_ids: int = 0
    all_n_records: int = 0
    lowercase_bases: int = 0
    rna_bases: int = 0
    iupac_bases: int = 0
    gap_bases: int = 0
    complete: bool = False

    @property
    def n_rejected(self) -> int:
        """Records that were read and not handed out."""
        return sum(self.reasons.values())

    def reject(self, rejection: Rejection) -> None:
        """Count a reject."""
        self.reasons[rejection.reason] = self.reasons.get(rejection.reason, 0) + 1
        if len(self.rejections) < _KEPT_REJECTIONS:
            self.rejections.append(rejection)

    def to_dict(self) -> dict[str, Any]:
        """Return the account for JSON."""
        return {"n_in": self.n_in, "n_out": self.n_out, "n_rejected": self.n_rejected, **asdict(self)}

    def summary(self) -> str:
        """Return the account as a line for people."""
        parts = [f"{self.n_in:,} records read, {self.n_out:,} used, {self.n_rejected:,} rejected"]
        if self.reasons:
            parts[0] += (
                " (" + ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.items()) + ")"
            )
        notes = {
            "lower-case bases raised": self.lowercase_bases,
            "U read as T": self.rna_bases,
            "IUPAC codes read as N": self.iupac_bases,
            "gap characters removed": self.gap_bases,
            "repeated ids kept": self.duplicate_ids,
            "records of N alone kept": self.all_n_records,
        }
        parts += [f"{count:,} {what}" for what, count in notes.items() if count]
        return "; ".join(parts)


def is_missing_label(value: object) -> bool:
    """Whether a label is absent: None, NaN, pandas' NA and NaT, or na, n/a, nan, null, none or no text."""
    if isinstance(value, str):
        return value.strip().casefold() in _MISSING_LABELS
    if value is None:
        return True
    try:
        # Only NaN and its like differ from themselves.
        return bool(value != value)
    except TypeError:
        # pandas' NA neither equals itself nor differs.
        return True
