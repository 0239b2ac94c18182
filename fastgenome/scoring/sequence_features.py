"""Features of every record of a file, or of windows of it, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastgenome.errors import ArgumentError
from fastgenome.scoring.sequence_table import TableReport, write_sequence_table
from fastgenome.scoring.writers import takes_matrix_only
from fastgenome.sequences import ReadOptions


def write_features(
    source: str | Path | Sequence[str],
    out: str | Path,
    sets: Sequence[str] = ("zcurve", "gc", "kmer"),
    *,
    window: int | None = None,
    stride: int | None = None,
    reading: ReadOptions | None = None,
    progress: bool = False,
) -> TableReport:
    """Write one column per feature; sequences shorter than the longest k-mer asked for are rejected.

    Args:
        source: see ``read_sequences``.
        out: see ``open_writer``; .npy holds all features as one matrix.
        sets: any of "zcurve", "gc", "kmer".
        window, stride, reading, progress: see ``write_sequence_table``.

    Raises:
        ArgumentError: a set is unknown or none is given.
    """
    from fastgenome.features import feature_set, min_length

    if not sets:
        raise ArgumentError("name at least one feature set")
    featurizer = feature_set(sets).fit(["ACGT"])
    names = [str(name) for name in featurizer.get_feature_names_out()]

    def compute(sequences: list[str]) -> dict[str, Any]:
        matrix = np.asarray(featurizer.transform(sequences), dtype=np.float32)
        if takes_matrix_only(out):
            return {"features": matrix}
        return dict(zip(names, matrix.T, strict=True))

    return write_sequence_table(
        source,
        out,
        compute,
        min_length=min_length(sets),
        window=window,
        stride=stride,
        reading=reading,
        progress=progress,
    )
