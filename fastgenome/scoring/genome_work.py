"""The shards of a genome job: windows of contigs or regions, and their scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastgenome.genome import Genome
from fastgenome.scoring.inputs import InputFile
from fastgenome.scoring.jobs import Shard
from fastgenome.scoring.scored_windows import ScoredWindows, joined, to_table
from fastgenome.scoring.scorer import Scorer, Scores
from fastgenome.scoring.shared_context import SharedContext
from fastgenome.scoring.window_plan import WindowPlan
from fastgenome.scoring.window_scores import Part, SeparateWindows, WindowScorer, scored_parts


@dataclass(frozen=True)
class GenomeWork:
    """See Work; `sources` are the digests of the genome and of the regions."""

    genome: Genome
    scorer: Scorer
    plan: WindowPlan
    sources: dict[str, str]

    @property
    def n_shards(self) -> int:
        """Shards of the plan."""
        return self.plan.n_shards

    @property
    def device(self) -> str:
        """Kind of the device that computes."""
        return self.scorer.device

    def settings(self) -> dict[str, Any]:
        """All that the results depend on."""
        return {**self.sources, "scorer": self.scorer.sha256, **asdict(self.plan.options)}

    def amount(self, shard: int) -> float:
        """Bases by which a shard moves on."""
        return self.plan.bases(shard)

    def open(self) -> Callable[[int], Shard]:
        """What scores the windows of a shard."""
        options, scorer = self.plan.options, self.scorer
        score: WindowScorer = (
            SeparateWindows(scorer, options)
            if options.context is None
            else SharedContext(self.genome, scorer, options)
        )
        ahead = self.device != "cpu"

        def compute(shard: int) -> Shard:
            pieces = self.plan.pieces(shard)
            scored = scored_parts(pieces, self.genome, options, score, ahead=ahead)
            windows = joined([self._rows(parts, values) for parts, values in scored], scorer.dim)
            finite = np.asarray(np.isfinite(windows.values).all(axis=1), dtype=np.bool_)
            n_windows, n_known = sum(piece.windows for piece in pieces), len(finite)
            if not finite.all():
                windows = windows.chosen(finite)
            n_scored = len(windows.starts)
            counts = {
                "windows": n_windows,
                "scored": n_scored,
                "too_many_n": n_windows - n_known,
                "not_finite": n_known - n_scored,
            }
            return Shard(to_table(windows, self.genome.names, scorer.columns), counts)

        return compute

    def _rows(self, parts: list[Part], values: Scores) -> ScoredWindows:
        options = self.plan.options
        counts = [part.windows for part in parts]
        contigs = np.repeat(np.array([part.piece.contig for part in parts], dtype=np.int64), counts)
        spans = np.repeat(np.array([part.piece.span for part in parts], dtype=np.int64), counts)
        starts = np.concatenate(
            [part.piece.start + options.stride * np.flatnonzero(part.wanted) for part in parts]
        )
        ends = np.minimum(starts + options.window, self.genome.lengths[contigs])
        return ScoredWindows(contigs, starts, ends, spans, values)


def genome_digests(genome: Genome, file: InputFile) -> dict[str, str]:
    """Digests of a genome's file and of its contigs: indexes of different makers may name others."""
    contigs = json.dumps([genome.names, genome.lengths.tolist()])
    return {"genome": file.sha256, "contigs": hashlib.sha256(contigs.encode()).hexdigest()}
