"""Predictions for every record of a file, or for windows of it, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastgenome.prediction import Predictor
from fastgenome.scoring.sequence_table import TableReport, write_sequence_table


def write_predictions(
    predictor: Predictor,
    source: str | Path | Sequence[str],
    out: str | Path,
    *,
    window: int | None = None,
    stride: int | None = None,
    progress: bool = False,
) -> TableReport:
    """Write the prediction and, for classes and labels, a column ``probability_NAME`` for each.

    Args:
        predictor: trained or loaded.
        source: see ``read_sequences``.
        out: see ``open_writer``; .npy holds the outputs alone, (rows, outputs).
        window, stride, progress: see ``write_sequence_table``.
    """
    names = predictor.task.output_names

    def compute(sequences: list[str]) -> dict[str, Any]:
        outputs = predictor.outputs(sequences)
        if str(out).endswith(".npy"):
            return {"outputs": outputs.reshape(len(outputs), -1).astype("float32")}
        decided = predictor.decide(outputs)
        if predictor.task.kind == "regression":
            return {names[0]: decided}
        columns: dict[str, Any] = {"prediction": decided}
        if predictor.task.kind == "multilabel":
            columns = {name: decided[:, i] for i, name in enumerate(names)}
        return columns | {f"probability_{name}": outputs[:, i] for i, name in enumerate(names)}

    return write_sequence_table(
        source,
        out,
        compute,
        min_length=predictor.min_length,
        window=window,
        stride=stride,
        progress=progress,
    )
