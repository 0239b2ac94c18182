"""Which alleles of variants can be scored: each is checked by itself, against the genome, and for room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fastgenome.cleaning import NUCLEOTIDE_CODES
from fastgenome.genome import Genome
from fastgenome.scoring.contig_names import ContigNames
from fastgenome.scoring.variant_windows import Change, fetch_windows, no_room
from fastgenome.variants import Variant

REASONS = {
    "no_alternative": "the line has no ALT",
    "symbolic_allele": "ALT is a name such as <DEL>",
    "breakend": "ALT joins two places of the genome",
    "spanning_deletion": "ALT is *, a deletion that begins before",
    "ambiguous_letters": "an allele has IUPAC codes beyond A, C, G, T and N",
    "not_dna": "an allele has letters that are no nucleotides",
    "same_as_reference": "REF and ALT are one",
    "unknown_contig": "the genome has no such contig",
    "ambiguous_contig": "by another name the contig could be several",
    "position_zero": "position 0 is the telomere, no base",
    "beyond_contig_end": "REF does not lie within the contig",
    "ref_mismatch": "REF differs from the genome",
    "allele_too_long": "REF or ALT is longer than the window",
    "contig_too_short": "the contig, as it is or changed, is shorter than the window",
    "too_many_n": "too many bases of a window are unknown",
}

_EXPLICIT = frozenset("ACGTN")


class Allele(NamedTuple):
    """One alternative allele of a line of VCF.

    Attributes:
        record: which line, from 0.
        number: which of the line's alternatives, from 1; 0 where it has none.
        contig: as the line has it.
        place: of the contig in the genome, −1 where it has none.
        start: first base of REF, 0-based.
        reason: why it cannot be scored, see `REASONS`; "" where it can.
    """

    record: int
    number: int
    contig: str
    place: int
    start: int
    id: str
    reference: str
    alternative: str
    reason: str


@dataclass
class AlleleChecks:
    """Checks alleles, some lines at a time; rejects none twice.

    Attributes:
        genome, contigs: where alleles lie.
        window: bases of the windows.
        max_n: share of the bases of a window that may be unknown.
        n_records: lines so far.
        n_checked: lines so far whose REF was compared with the genome, because an ALT could be scored.
        n_mismatched: those whose REF differed.
    """

    genome: Genome
    contigs: ContigNames
    window: int
    max_n: float
    n_records: int = 0
    n_checked: int = 0
    n_mismatched: int = 0

    def check(self, variants: Sequence[Variant]) -> list[Allele]:
        """The alleles of the next lines, in order; a line without ALT gives one."""
        alleles = [allele for variant in variants for allele in self._split(variant)]
        self._compare(alleles)
        self._find_room(alleles)
        return alleles

    def _split(self, variant: Variant) -> list[Allele]:
        """The alleles of a line, rejected by what the line alone tells and the lengths of contigs."""
        record = self.n_records
        self.n_records += 1
        contig = self.contigs.find(variant.contig)
        shared = contig.reason or self._misplaced(variant, contig.place)
        start, reference = variant.position, variant.reference
        return [
            Allele(
                *(record, number, variant.contig, contig.place, start, variant.id, reference, alternative),
                reason=_defect(reference, alternative) or shared,
            )
            for number, alternative in list(enumerate(variant.alternatives, 1)) or [(0, "")]
        ]

    def _misplaced(self, variant: Variant, place: int) -> str:
        if variant.position < 0:
            return "position_zero"
        end = variant.position + len(variant.reference)
        return "beyond_contig_end" if end > self.genome.lengths[place] else ""

    def _compare(self, alleles: list[Allele]) -> None:
        """Reject the alleles of lines whose REF is not what the genome has."""
        lines = {allele.record: allele for allele in alleles if not allele.reason}
        regions = [(self._name(a), a.start, a.start + len(a.reference)) for a in lines.values()]
        letters = self.genome.fetch_many(regions, threads=1)
        wrong = {
            record
            for (record, allele), found in zip(lines.items(), letters, strict=True)
            if found.upper() != allele.reference.upper()
        }
        self.n_checked += len(lines)
        self.n_mismatched += len(wrong)
        for i, allele in enumerate(alleles):
            if allele.record in wrong and not allele.reason:
                alleles[i] = allele._replace(reason="ref_mismatch")

    def _find_room(self, alleles: list[Allele]) -> None:
        """Reject alleles whose windows do not fit or hold too many unknown bases."""
        placed: list[int] = []
        for i, allele in enumerate(alleles):
            if allele.reason:
                continue
            lengths = len(allele.reference), len(allele.alternative)
            reason = no_room(*lengths, window=self.window, contig=int(self.genome.lengths[allele.place]))
            if reason:
                alleles[i] = allele._replace(reason=reason)
            else:
                placed.append(i)
        changes = [self._change(alleles[i]) for i in placed]
        for i, *windows in zip(placed, *fetch_windows(self.genome, changes, self.window), strict=True):
            if max(letters.count("N") for letters in windows) > self.max_n * self.window:
                alleles[i] = alleles[i]._replace(reason="too_many_n")

    def _name(self, allele: Allele) -> str:
        return self.genome.names[allele.place]

    def _change(self, allele: Allele) -> Change:
        return Change(self._name(allele), allele.start, allele.reference, allele.alternative)


def _defect(reference: str, alternative: str) -> str:
    """Why two alleles cannot be scored wherever they lie, or ""."""
    if alternative in ("", "."):
        return "no_alternative"
    if alternative == "*":
        return "spanning_deletion"
    if "[" in alternative or "]" in alternative or alternative[0] == "." or alternative[-1] == ".":
        return "breakend"
    if "<" in alternative:
        return "symbolic_allele"
    letters = set(reference.upper()) | set(alternative.upper())
    if not letters <= _EXPLICIT:
        return "ambiguous_letters" if letters <= NUCLEOTIDE_CODES else "not_dna"
    return "same_as_reference" if reference.upper() == alternative.upper() else ""
