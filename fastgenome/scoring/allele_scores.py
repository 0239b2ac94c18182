"""Scores of both alleles of variants and what the change makes of them, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgenome.genome import Genome
from fastgenome.scoring.allele_table import AlleleTable
from fastgenome.scoring.jobs import Shard
from fastgenome.scoring.scorer import Scorer, Scores
from fastgenome.scoring.variant_windows import AlleleWindows, Change, fetch_windows
from fastgenome.scoring.window_plan import Strand
from fastgenome.scoring.window_scores import other_strand

if TYPE_CHECKING:
    import pyarrow as pa


def figure_names(columns: Sequence[str]) -> tuple[str, ...]:
    """The figures of an allele: NAME_ref, NAME_alt, NAME_delta of each column, or distances of embeddings."""
    if not columns:
        return "cosine_distance", "l2_distance"
    return tuple(f"{column}_{part}" for column in columns for part in ("ref", "alt", "delta"))


def allele_figures(scorer: Scorer, windows: AlleleWindows, strand: Strand) -> NDArray[np.float32]:
    """The figures of alleles, (n, figures), in the order of `figure_names`.

    Of a column: the score of the reference's window, of the alternative's, and alternative − reference. Of a
    model alone: the cosine distance (1 − cosine) and the Euclidean distance of the two embeddings. With both
    strands each score, or distance, is the mean of the two.
    """
    n = len(windows.reference)
    # Neighbouring alleles share the window of their reference.
    places: dict[str, int] = {}
    rows = [places.setdefault(letters, len(places)) for letters in (*windows.reference, *windows.alternative)]
    reference, alternative = np.array(rows[:n], dtype=np.int64), np.array(rows[n:], dtype=np.int64)
    strands = []
    if n and strand != "reverse":
        strands.append(scorer.scores(list(places)))
    if n and strand != "forward":
        strands.append(scorer.scores([other_strand(letters) for letters in places]))
    if not n:
        return np.empty((0, len(figure_names(scorer.columns))), dtype=np.float32)
    if not scorer.columns:
        return _mean([_distances(scores[reference], scores[alternative]) for scores in strands])
    scores = _mean(strands)
    before, after = scores[reference], scores[alternative]
    return np.stack([before, after, after - before], axis=2).reshape(n, -1)


def _mean(parts: list[Scores]) -> Scores:
    return parts[0] if len(parts) == 1 else (parts[0] + parts[1]) / np.float32(2)


def _distances(before: Scores, after: Scores) -> Scores:
    """Cosine and Euclidean distance of rows, (n, 2); a row of zeros has cosine 0 with any other."""
    first, second = before.astype(np.float64), after.astype(np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosine = np.divide((first * second).sum(axis=1), norms, out=np.zeros(len(first)), where=norms > 0)
    euclidean = np.linalg.norm(second - first, axis=1)
    # Rounding leaves a distance of equal rows a little beside 0.
    distance = np.where(euclidean == 0, 0.0, np.clip(1 - cosine, 0, 2))
    return np.stack([distance, euclidean], axis=1).astype(np.float32)


def allele_settings(source: Mapping[str, Any], scorer: Scorer, strand: Strand) -> dict[str, Any]:
    """All that the figures of a table of alleles depend on, ready for JSON."""
    return {**source, "strand": strand, "scorer": scorer.sha256}


@dataclass(frozen=True)
class AlleleWork:
    """The scoring of a table of alleles, as a job.

    Attributes:
        scorer: see `as_scorer`.
        genome: where the alleles lie.
        alleles: checked, with windows of `window` bases.
        window, strand: see `score_variants`.
        source: all that the table depends on, ready for JSON.
    """

    scorer: Scorer
    genome: Genome
    alleles: AlleleTable
    window: int
    strand: Strand
    source: dict[str, Any]

    @property
    def n_shards(self) -> int:
        """Row groups of the table."""
        return self.alleles.n_shards

    @property
    def device(self) -> str:
        """Kind of the device that computes."""
        return self.scorer.device

    def settings(self) -> dict[str, Any]:
        """All that the figures depend on."""
        return allele_settings(self.source, self.scorer, self.strand)

    def amount(self, shard: int) -> float:
        """Alleles that are scored."""
        return float(self.alleles.account.accepted[shard])

    def open(self) -> Callable[[int], Shard]:
        """What scores a shard: the rows of the table, with figures, null for alleles that were rejected."""
        read = self.alleles.open()

        def compute(shard: int) -> Shard:
            table = read(shard)
            accepted = np.array([not reason for reason in table["reason"].to_pylist()], dtype=bool)
            windows = fetch_windows(self.genome, self._changes(table.filter(accepted)), self.window)
            figures = allele_figures(self.scorer, windows, self.strand)
            return Shard(self._joined(table, accepted, figures), {"scored": len(figures)})

        return compute

    def _changes(self, accepted: pa.Table) -> list[Change]:
        columns = ("place", "start", "reference", "alternative")
        rows = zip(*(accepted[name].to_pylist() for name in columns), strict=True)
        return [Change(self.genome.names[place], *rest) for place, *rest in rows]

    def _joined(self, table: pa.Table, accepted: NDArray[np.bool_], figures: NDArray[np.float32]) -> pa.Table:
        import pyarrow as pa

        values = np.zeros((len(accepted), figures.shape[1]), dtype=np.float32)
        values[accepted] = figures
        for name, column in zip(figure_names(self.scorer.columns), values.T, strict=True):
            table = table.append_column(name, pa.array(column, mask=~accepted))
        return table
