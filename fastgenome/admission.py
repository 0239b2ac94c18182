"""Which records of a source are used, and the count of those that are not."""

from dataclasses import dataclass
from itertools import repeat
from typing import Literal

from fastgenome import _core
from fastgenome.cleaning import why_not_dna
from fastgenome.errors import ArgumentError
from fastgenome.records import CleanedBatch, ReadReport, Rejection, SequenceRecord, is_missing_label

# Columns of CleanedBatch.counts.
_INVALID, _BASES, _ALL_N = 4, 5, 6


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

    def admit(self, batch: CleanedBatch) -> list[SequenceRecord]:
        """Return the usable records of a batch."""
        if self._needs_judgement(batch):
            used, admitted = self._judge(batch)
            counts = batch.counts[used]
        else:
            admitted = _core.make_records(SequenceRecord, batch.ids, batch.sequences)
            counts = batch.counts
            self._report.n_in += len(admitted)
        report = self._report
        lowercase, rna, iupac, gaps, _, bases, all_n = counts.sum(axis=0).tolist()
        report.lowercase_bases += lowercase
        report.rna_bases += rna
        report.iupac_bases += iupac
        report.gap_bases += gaps
        report.bases_out += bases
        report.all_n_records += all_n
        report.n_out += len(admitted)
        return admitted

    def _needs_judgement(self, batch: CleanedBatch) -> bool:
        """Tell whether records must be looked at one by one; remembers the ids where they need not."""
        rules = self._acceptance
        if batch.suspects or batch.labels is not None or "" in batch.ids:
            return True
        if batch.counts[:, _BASES].min() < rules.min_length:
            return True
        if rules.on_all_n == "reject" and batch.counts[:, _ALL_N].any():
            return True
        if rules.on_duplicate == "ignore":
            return False
        known = len(self._ids)
        if not self._ids.isdisjoint(batch.ids):
            return True
        self._ids.update(batch.ids)
        if len(self._ids) == known + len(batch.ids):
            return False
        self._ids.difference_update(batch.ids)
        return True

    def _judge(self, batch: CleanedBatch) -> tuple[list[int], list[SequenceRecord]]:
        """Return the usable records and their indexes; count the others."""
        report = self._report
        used: list[int] = []
        admitted: list[SequenceRecord] = []
        labels = repeat(()) if batch.labels is None else batch.labels
        records = map(SequenceRecord, batch.ids, batch.sequences, labels)
        for index, (record, counts) in enumerate(zip(records, batch.counts.tolist(), strict=True)):
            report.n_in += 1
            refusal = self._refuse(record, batch.suspects.get(index), counts)
            if not record.id:
                record = record._replace(id=str(report.n_in))
            if refusal is None:
                used.append(index)
                admitted.append(record)
            else:
                report.reject(Rejection(report.n_in, record.id, *refusal))
        return used, admitted

    def _refuse(
        self, record: SequenceRecord, suspect: tuple[str, str] | None, counts: list[int]
    ) -> tuple[str, str] | None:
        """Return (reason, detail) for a record that cannot be used."""
        rules = self._acceptance
        length = counts[_BASES]
        if suspect is not None:
            raw, defect = suspect
            if defect:
                return "malformed", defect
            if counts[_INVALID]:
                return "not_dna", why_not_dna(raw)
            return "empty", "no bases" + (" besides gaps" if raw else "")
        if length < rules.min_length:
            return "too_short", f"{length} bases, fewer than {rules.min_length}"
        if rules.on_all_n == "reject" and counts[_ALL_N]:
            return "all_n", f"{length} bases, all of them N"
        if any(map(is_missing_label, record.labels)):
            return "missing_label", f"labels {record.labels}"
        return self._refuse_duplicate(record.id)

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
