"""Embed sequences, or the records of a file into a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastgenome.errors import ArgumentError
from fastgenome.scoring.sequence_table import Repeated, TableReport, write_sequence_table
from fastgenome.scoring.writers import Column
from fastgenome.sequences import ReadOptions

if TYPE_CHECKING:
    from fastgenome.models.model import Model

_TOKEN_BYTES = 1 << 26


@overload
def embed(
    source: str | Path | Sequence[str],
    *,
    model: str | Path | Model = ...,
    out: None = ...,
    pooling: str | None = ...,
    layer: int | Sequence[int] | None = ...,
    output_dtype: DTypeLike = ...,
    reading: ReadOptions | None = ...,
    progress: bool = ...,
) -> NDArray[Any]: ...
@overload
def embed(
    source: str | Path | Sequence[str],
    *,
    model: str | Path | Model = ...,
    out: str | Path,
    window: int | None = ...,
    stride: int | None = ...,
    pooling: str | None = ...,
    layer: int | Sequence[int] | None = ...,
    output_dtype: DTypeLike = ...,
    reading: ReadOptions | None = ...,
    progress: bool = ...,
) -> TableReport: ...
def embed(
    source: str | Path | Sequence[str],
    *,
    model: str | Path | Model = "tiny",
    out: str | Path | None = None,
    window: int | None = None,
    stride: int | None = None,
    pooling: str | None = None,
    layer: int | Sequence[int] | None = None,
    output_dtype: DTypeLike = np.float32,
    reading: ReadOptions | None = None,
    progress: bool = False,
) -> NDArray[Any] | TableReport:
    """Embed sequences: to an array, or with ``out`` to a table in constant memory.

    Args:
        source: DNA, or a path (FASTA, FASTQ, CSV, TSV, Parquet, text; gzip; "-" is standard input).
        model: name, directory or loaded model.
        out: .parquet, .tsv, .csv or .npy file with the columns id, (start, end,) embedding.
        window, stride: cut records into windows of this many bases; a shorter end is kept. Needed for
            records beyond the model's limit; stride is window by default.
        pooling, layer, output_dtype: see ``Model.embed``; pooling "token", with ``out``, writes a row for
            each token, with its 0-based place among those of the sequence.
        reading: the format, the columns of a table, and which records are used.
        progress: show a bar.

    Returns:
        (n, dim), or a TableReport where ``out`` is given: every record is accounted for.

    Raises:
        InputError: the source cannot be used or, without ``out``, one record of it cannot.
        SequenceTooLongError: a record needs ``window``.
    """
    from fastgenome.models import load

    loaded = load(model) if isinstance(model, (str, Path)) else model
    if out is None:
        if pooling == "token":
            raise ArgumentError("pooling='token' needs out=, or use Model.token_embeddings")
        if window is not None or stride is not None:
            raise ArgumentError("window and stride need out=: an array has no place for positions")
        if isinstance(source, (str, Path)):
            # An array has no place to say which rows are missing.
            records = replace(reading or ReadOptions(), strict=True).read(
                source, min_length=loaded.min_length
            )
            source = [record.sequence for record in records]
        return loaded.embed(
            source, pooling=pooling, layer=layer, output_dtype=output_dtype, progress=progress
        )
    loaded.check_window(window)

    def compute(sequences: list[str]) -> Mapping[str, Column] | Repeated:
        if pooling == "token":
            values, offsets = loaded.token_embeddings(sequences, layer=layer, output_dtype=output_dtype)
            counts = np.diff(offsets)
            places = np.arange(len(values)) - np.repeat(offsets[:-1], counts)
            return Repeated({"token": places, "embedding": values}, counts)
        embeddings = loaded.embed(sequences, pooling=pooling, layer=layer, output_dtype=output_dtype)
        return {"embedding": embeddings}

    return write_sequence_table(
        source,
        out,
        compute,
        min_length=loaded.min_length,
        window=window,
        stride=stride,
        reading=reading,
        metadata={
            "model": loaded.name,
            "sha256": loaded.sha256 or "",
            "dtype": str(loaded.dtype),
            "pooling": pooling or loaded.defaults.pooling,
            "layers": json.dumps(loaded.layer_indices(layer)),
            **loaded.options,
        },
        bases_at_a_time=_bases_at_a_time(loaded, layer) if pooling == "token" else None,
        progress=progress,
    )


def _bases_at_a_time(model: Model, layer: int | Sequence[int] | None) -> int:
    """Bases whose tokens' embeddings are held at a time, one token for each at the most."""
    row = 4 * model.embedding_width(pooling="mean", layer=layer)
    return max(1, _TOKEN_BYTES // row) * model.encoder.stride
