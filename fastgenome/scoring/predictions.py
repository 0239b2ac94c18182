"""Predictions for every record of a file, or for windows of it, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastgenome.prediction import Predictor
from fastgenome.scoring.sequence_table import TableReport, write_sequence_table
from fastgenome.scoring.writers import takes_matrix_only
from fastgenome.sequences import ReadOptions


def write_predictions(
    predictor: Predictor,
    source: str | Path | Sequence[str],
    out: str | Path,
    *,
    window: int | None = None,
    stride: int | None = None,
    reading: ReadOptions | None = None,
    progress: bool = False,
) -> TableReport:
    """Write the column ``prediction``, and for classes a column ``probability_CLASS`` each.

    For several labels it is ``prediction_LABEL`` and ``probability_LABEL`` each.

    Args:
        predictor: trained or loaded.
        source: see ``read_sequences``.
        out: see ``open_writer``; .npy holds the outputs alone, (rows, outputs).
        window, stride, reading, progress: see ``write_sequence_table``.
    """
    task = predictor.task
    names = task.output_names

    def compute(sequences: list[str]) -> dict[str, Any]:
        outputs = predictor.outputs(sequences)
        if takes_matrix_only(out):
            return {"outputs": outputs.reshape(len(outputs), -1).astype("float32")}
        decided = predictor.decide(outputs)
        if task.kind == "regression":
            return {"prediction": decided}
        columns: dict[str, Any] = {"prediction": decided}
        if task.kind == "multilabel":
            columns = {f"prediction_{name}": decided[:, i] for i, name in enumerate(names)}
        return columns | {f"probability_{name}": outputs[:, i] for i, name in enumerate(names)}

    if predictor.model is not None:
        predictor.model.check_window(window)
    return write_sequence_table(
        source,
        out,
        compute,
        min_length=predictor.min_length,
        window=window,
        stride=stride,
        reading=reading,
        progress=progress,
    )
