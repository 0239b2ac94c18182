"""What a model is given: sequences, a file or tokens, checked before the network runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastgenome.errors import ArgumentError, InputError, SequenceTooLongError
from fastgenome.tokenizers import Tokens

if TYPE_CHECKING:
    from fastgenome.models.model import Model


def tokens_of(model: "Model", sequences: Sequence[str] | str | Path | Tokens) -> Tokens:
    """The tokens given, or those of the sequences, each with a token besides the special ones."""
    if isinstance(sequences, Tokens):
        check_packing(model, sequences)
        check_lengths(model, sequences.lengths)
        return sequences
    records = _as_list(sequences, model.min_length)
    tokens = model.tokenizer(records)
    check_lengths(model, tokens.lengths, records)
    return tokens


def _as_list(sequences: Sequence[str] | str | Path, min_length: int) -> list[str]:
    """The sequences given, or those of the file named; InputError if records of the file are rejected."""
    if not isinstance(sequences, str | Path):
        records = list(sequences)
        wrong = next((i for i, record in enumerate(records) if not isinstance(record, str)), None)
        if wrong is not None:
            raise InputError(f"sequences[{wrong}] is {type(records[wrong]).__name__}, expected str")
        return records
    from fastgenome.sequences import read_sequences

    reader = read_sequences(sequences, min_length=min_length)
    records = [record.sequence for record in reader]
    if reader.report.n_rejected:
        # An array has no place to say which rows are missing.
        raise InputError(f"{sequences} has unusable records: {reader.report.summary()}")
    return records


def check_packing(model: "Model", tokens: Tokens) -> None:
    """Tokens may be built by a caller; wrong ones would give numbers without a meaning."""
    ids, offsets = tokens
    if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(ids) or (np.diff(offsets) < 0).any():
        raise ArgumentError(
            f"tokens.offsets must rise from 0 to the number of ids, {len(ids)}; got {offsets[:9]}"
        )
    last = model.encoder.vocabulary_size - 1
    if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) <= last):
        raise ArgumentError(f"tokens.ids must lie in 0 … {last}; got {int(ids.min())} … {int(ids.max())}")


def check_special_tokens(model: "Model", tokens: Tokens) -> None:
    """ArgumentError for tokens without the special ones that an embedding would leave out."""
    starts, ends = tokens.offsets[:-1], tokens.offsets[1:]
    before, behind = np.array(model.tokenizer.prefix), np.array(model.tokenizer.suffix)
    found_before = tokens.ids[starts[:, None] + np.arange(len(before))]
    found_behind = tokens.ids[ends[:, None] - len(behind) + np.arange(len(behind))]
    wrong = (found_before != before).any(1) | (found_behind != behind).any(1)
    if wrong.any():
        raise ArgumentError(
            f"the tokens of sequence {int(wrong.argmax())} do not have the special tokens of model "
            f"{model.name!r} around them; encode them with special_tokens=True, or embed with it"
        )


def check_lengths(model: "Model", lengths: NDArray[np.int64], records: Sequence[str] | None = None) -> None:
    """InputError for a sequence of special tokens alone, and what `check_limit` raises."""
    special = model.tokenizer.prefix_length + model.tokenizer.suffix_length
    without = np.flatnonzero(lengths <= special)
    if len(without):
        index = int(without[0])
        found = "has" if records is None else f"has {len(records[index])} bases and gives"
        raise InputError(
            f"sequences[{index}] {found} no token besides special ones; model {model.name!r} needs "
            f"at least {model.min_length} bases: leave such sequences out"
        )
    check_limit(model, lengths)


def check_limit(model: "Model", lengths: NDArray[np.int64]) -> None:
    """SequenceTooLongError for a sequence of more tokens than the model takes."""
    if model.max_length is None or not (lengths > model.max_length).any():
        return
    index = int(np.flatnonzero(lengths > model.max_length)[0])
    raise SequenceTooLongError(
        f"sequences[{index}] has {lengths[index]} tokens, model {model.name!r} takes at most "
        f"{model.max_length}: cut it into windows with window= (--window on the command line)",
        index,
    )
