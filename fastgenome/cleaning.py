"""What cleaning refuses, said in words; the cleaning itself is part of the C++ core.

Cleaning upper-cases (soft-masked bases are bases), turns U into T in a sequence without T, turns the IUPAC
codes R Y S W K M B D H V into N, and removes the gaps "-" and "." and white space. Anything else is not DNA,
and neither is a U beside a T.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastgenome.errors import ArgumentError

_ACCEPTED = frozenset("ACGTURYSWKMBDHVN-.acgturyswkmbdhvn")


def as_batch(sequences: Iterable[str | bytes]) -> tuple[str | bytes, ...]:
    """The sequences as a tuple; ArgumentError for one str, whose letters would pass for sequences."""
    if isinstance(sequences, str | bytes):
        raise ArgumentError("sequences is one str; give a list of them, [sequence] for a single one")
    return tuple(sequences)


def describe_invalid(sequence: str | bytes, index: int) -> str:
    """A message for the sequence at `index` (from 0), which cleaning found not to be DNA."""
    text = sequence.decode("latin-1") if isinstance(sequence, bytes) else sequence
    for position, letter in enumerate(text):
        if letter not in _ACCEPTED and not letter.isspace():
            return (
                f"sequences[{index}] is not DNA: {letter!r} at position {position} (from 0) "
                "is no nucleotide code; remove the sequence or correct it"
            )
    return f"sequences[{index}] is neither DNA nor RNA: it holds both U and T; write one of them throughout"
