"""The stretches of a genome that a job scores: all contigs, or the regions of a BED file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastgenome.bed import BedRegion, read_bed
from fastgenome.genome import Genome
from fastgenome.records import Rejection
from fastgenome.scoring.accounts import Account

_NO_SCORE = {
    "too_many_n": "each window has too many unknown bases",
    "no_score": "each window has too many unknown bases or a score that is no finite number",
}


@dataclass(frozen=True)
class Regions:
    """Stretches in the order of the genome.

    Attributes:
        places: (n, 3) int64: contig, start, end; 0-based, half-open.
        numbers: (n,) of the records that they come from, counted from 1.
        names: (n,) of regions, None for whole contigs.
        labels: (n,) what a record is called in the account.
        rejected: records that are no stretch of the genome.
    """

    places: NDArray[np.int64]
    numbers: NDArray[np.int64]
    names: tuple[str, ...] | None
    labels: tuple[str, ...]
    rejected: Account

    @property
    def sha256(self) -> str:
        """Digest of the places and names, and of what was rejected."""
        texts = json.dumps([self.names, self.rejected.to_dict()])
        return hashlib.sha256(self.places.tobytes() + texts.encode()).hexdigest()

    def account(
        self, scored: NDArray[np.int64], counts: NDArray[np.int64], *, not_finite: bool = False
    ) -> Account:
        """The account of all records.

        Args:
            scored, counts: (n,) the scored windows and the windows of each stretch.
            not_finite: whether the score of any window of the job is not a finite number.
        """
        account = Account(
            self.rejected.n_in,
            int((scored > 0).sum()),
            dict(self.rejected.reasons),
            list(self.rejected.rejections),
        )
        for place in np.flatnonzero(scored == 0).tolist():
            short = counts[place] == 0
            reason = "too_short" if short else "no_score" if not_finite else "too_many_n"
            detail = "no window fits" if short else _NO_SCORE[reason]
            account.reject(Rejection(int(self.numbers[place]), self.labels[place], reason, detail))
        return account.check()


def contigs_of(genome: Genome) -> Regions:
    """Every contig as a whole."""
    n = len(genome.lengths)
    places = np.stack([np.arange(n), np.zeros(n, dtype=np.int64), genome.lengths], axis=1)
    return Regions(places, np.arange(1, n + 1), None, genome.names, Account(n))


def regions_of(bed: str | Path, genome: Genome) -> Regions:
    """The regions of a BED file that lie in the genome; the others are rejected with a reason.

    Raises:
        InputError: the file cannot be read.
    """
    known = {name: place for place, name in enumerate(genome.names)}
    rejected = Account()
    found: list[tuple[int, int, int, int, str]] = []
    for number, region in enumerate(read_bed(bed, strict=False), 1):
        rejected.n_in += 1
        reason, detail = _judge(region, genome, known)
        if reason:
            label = f"{region.contig}:{region.start}-{region.end}"
            rejected.reject(Rejection(number, region.name or label, reason, detail))
        else:
            found.append((known[region.contig], region.start, region.end, number, region.name))
    found.sort(key=lambda region: region[:4])
    table = np.array([region[:4] for region in found], dtype=np.int64).reshape(-1, 4)
    names = tuple(region[4] for region in found)
    labels = tuple(name or f"{genome.names[contig]}:{start}-{end}" for contig, start, end, _, name in found)
    return Regions(table[:, :3], table[:, 3], names, labels, rejected)


def _judge(region: BedRegion, genome: Genome, known: dict[str, int]) -> tuple[str, str]:
    """Why a region cannot be used, as reason and detail; empty for one that can."""
    if region.defect:
        return "malformed", region.defect
    if region.contig not in known:
        return "unknown_contig", f"the genome has no contig {region.contig!r}"
    length = int(genome.lengths[known[region.contig]])
    if region.end > length:
        return "outside_contig", f"{region.contig} has {length} bases; the region ends at {region.end}"
    return "", ""
