"""Which records of a source are used, and the count of those that are not."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastgenome.cleaning import why_not_dna
from fastgenome.errors import ArgumentError
from fastgenome.records import RawRecord, ReadReport, Rejection, SequenceRecord, is_missing_label


@dataclass(frozen=True)
class Acceptance:
    """What makes a record usable.

    Args:
        min_length: bases that a cleaned record must have.
        on_duplicate: "keep" hands a repeated id out and counts it, "reject" rejects it; both remember every
            id. "ignore" does not look, so that memory stays constant over any number of records.
        on_all_n: "keep" hands records without any A, C, G or T out and counts them, "reject" rejects them.
        strict: end the reading with an error where any record was rejected.
    """

    min_length: int = 1
    on_duplicate: Literal["keep", "reject", "ignore"] = "keep"
    on_all_n: Literal["keep", "reject"] = "keep"
    strict: bool = False

    def __post_init__(self) -> None:
        if self.min_length < 1:
            raise ArgumentError(f"min_length is {self.min_length}; it must be at least 1 base")
        if self.on_duplicate not in ("keep", "reject", "ignore"):
            raise ArgumentError(f"on_duplicate is {self.on_duplicate!r}; use 'keep', 'reject' or 'ignore'")
        if self.on_all_n not in ("keep", "reject"):
            raise ArgumentError(f"on_all_n is {self.on_all_n!r}; use 'keep' or 'reject'")


class Admission:
    """Decides which records are used; every one is counted in the report."""

    def __init__(self, acceptance: Acceptance, report: ReadReport) -> None:
        self._acceptance = acceptance
        self._report = report
        self._ids: set[str] = set()

    def admit(
        self, batch: list[RawRecord], cleaned: list[str], counts: NDArray[np.int64]
    ) -> list[SequenceRecord]:
        """Return the usable records of a batch, given what cleaning made of it.

        `cleaned` holds their sequences and `counts` (n, 5) the lower-case, RNA, IUPAC, gap and invalid
        characters.
        """
        report = self._report
        invalid: list[int] = counts[:, 4].tolist()
        used: list[int] = []
        admitted: list[SequenceRecord] = []
        for index, raw in enumerate(batch):
            report.n_in += 1
            record = SequenceRecord(raw.id or str(report.n_in), cleaned[index], raw.labels)
            refusal = self._refuse(raw, record, invalid[index] > 0)
            if refusal is None:
                used.append(index)
                admitted.append(record)
            else:
                report.reject(Rejection(report.n_in, record.id, *refusal))
        lowercase, rna, iupac, gaps, _ = counts[used].sum(axis=0).tolist()
        report.lowercase_bases += lowercase
        report.rna_bases += rna
        report.iupac_bases += iupac
        report.gap_bases += gaps
        report.n_out += len(admitted)
        report.all_n_records += sum(_is_all_n(record.sequence) for record in admitted)
        report.bases_out += sum(len(record.sequence) for record in admitted)
        return admitted

    def _refuse(self, raw: RawRecord, record: SequenceRecord, invalid: bool) -> tuple[str, str] | None:
        """Return (reason, detail) for a record that cannot be used."""
        rules = self._acceptance
        length = len(record.sequence)
        if raw.defect:
            return "malformed", raw.defect
        if invalid:
            return "not_dna", why_not_dna(raw.sequence)
        if length == 0:
            return "empty", "no bases" + (" besides gaps" if raw.sequence else "")
        if length < rules.min_length:
            return "too_short", f"{length} bases, fewer than {rules.min_length}"
        if rules.on_all_n == "reject" and _is_all_n(record.sequence):
            return "all_n", f"{length} bases, all of them N"
        if any(map(is_missing_label, raw.labels)):
            return "missing_label", f"labels {raw.labels}"
        return self._refuse_duplicate(raw.id)

    def _refuse_duplicate(self, identifier: str) -> tuple[str, str] | None:
        """Remember the id of a usable record; ids that we number ourselves are never repeated."""
        if self._acceptance.on_duplicate == "ignore" or not identifier:
            return None
        if identifier not in self._ids:
            self._ids.add(identifier)
        elif self._acceptance.on_duplicate == "reject":
            return "duplicate_id", f"an earlier record has the id {identifier!r}"
        else:
            self._report.duplicate_ids += 1
        return None


def _is_all_n(sequence: str) -> bool:
    """Tell whether a cleaned sequence has no known base."""
    return not sequence.strip("N")
