"""Labelled sequences: read from a file or given as two lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgenome.errors import ArgumentError, InputError
from fastgenome.sequences import ReadOptions, ReadReport, clean_sequences

Labelled = str | Path | tuple[Sequence[str], Sequence[Any] | NDArray[Any]]


class LabelledSequences(NamedTuple):
    """Cleaned sequences, labels (n, columns) as objects, and the account of reading (None for lists)."""

    sequences: list[str]
    labels: NDArray[Any]
    report: ReadReport | None


def read_labelled(
    data: Labelled,
    *,
    label_columns: Sequence[str | int] = ("label",),
    min_length: int = 1,
    reading: ReadOptions | None = None,
) -> LabelledSequences:
    """Read labelled sequences; every record that is left out is counted with its reason.

    Args:
        data: a CSV, TSV or Parquet file, or the tuple (sequences, labels).
        label_columns: columns of the target; several are a multi-label target.
        min_length: shorter sequences of a file are rejected; in lists they are an error.
        reading: of a file: its format, its columns (``sequence`` by default), and which records are used.

    Raises:
        ArgumentError: data are neither a path nor a tuple of two.
        InputError: a column is missing, lengths differ, or nothing is left.
    """
    check_labelled(data)
    if not isinstance(data, tuple):
        options = reading or ReadOptions()
        reader = options.read(data, label_columns=label_columns, min_length=min_length)
        records = list(reader)
        labels = np.array([record.labels for record in records], dtype=object)
        return LabelledSequences([record.sequence for record in records], labels, reader.report)
    sequences, values = data
    labels = np.asarray(values, dtype=object)
    if labels.ndim == 0:
        raise ArgumentError(f"labels must be a sequence of labels; got {values!r:.60}")
    labels = labels.reshape(-1, 1) if labels.ndim == 1 else labels
    if len(sequences) != len(labels):
        raise InputError(f"{len(sequences)} sequences, but {len(labels)} labels")
    if not len(sequences):
        raise InputError("no sequence to train on")
    cleaned = clean_sequences(sequences)
    if short := [i for i, sequence in enumerate(cleaned) if len(sequence) < min_length]:
        raise InputError(f"sequences {short[:5]} have fewer than {min_length} bases")
    return LabelledSequences(cleaned, labels, None)


def check_labelled(data: object, argument: str = "data") -> None:
    """Raise ArgumentError unless data are a path or the tuple (sequences, labels)."""
    if isinstance(data, str | Path) or (isinstance(data, tuple) and len(data) == 2):
        return
    got = f"a tuple of {len(data)}" if isinstance(data, tuple) else type(data).__name__
    raise ArgumentError(
        f"{argument} must be the path of a file or the tuple (sequences, labels); got {got}. "
        'Of a table in memory give (list(table["sequence"]), list(table["label"]))'
    )
