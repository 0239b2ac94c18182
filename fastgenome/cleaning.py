"""What cleaning refuses, said in words; the cleaning itself is part of the C++ core.

Cleaning upper-cases (soft-masked bases are bases), turns U into T in a sequence without T, turns the IUPAC
codes R Y S W K M B D H V into N, and removes the gaps "-" and "." and white space. Anything else is not DNA,
and neither is a U beside a T.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastgenome.errors import ArgumentError

# DNA, RNA and the IUPAC codes; the C++ core counts other letters, but for gaps and white space, as invalid.
NUCLEOTIDE_CODES = frozenset("ACGTUNRYSWKMBDHV")
_ACCEPTED = NUCLEOTIDE_CODES | {code.lower() for code in NUCLEOTIDE_CODES} | set("-.")


def as_batch(sequences: Iterable[str | bytes]) -> tuple[str | bytes, ...]:
    """The sequences as a tuple; ArgumentError for one str, whose letters would pass for sequences."""
    if isinstance(sequences, str | bytes):
        raise ArgumentError("sequences is one str; give a list of them, [sequence] for a single one")
    return tuple(sequences)


def check_threads(threads: int) -> int:
    """The number of threads, 0 for as many as the work deserves; ArgumentError for anything else."""
    if isinstance(threads, bool) or not isinstance(threads, int) or not 0 <= threads < 1 << 31:
        raise ArgumentError(f"threads={threads!r}: expected an int, 0 or more")
    return threads


def describe_invalid(sequence: str | bytes, index: int) -> str:
    """A message for the sequence at `index` (from 0), which cleaning found not to be DNA."""
    return f"sequences[{index}] is not DNA: {why_not_dna(sequence)}; remove the sequence or correct it"


def why_not_dna(sequence: str | bytes) -> str:
    """What makes a sequence, which cleaning found not to be DNA, something else; positions count from 0."""
    text = sequence.decode("latin-1") if isinstance(sequence, bytes) else sequence
    for position, letter in enumerate(text):
        if letter not in _ACCEPTED and not letter.isspace():
            return f"{letter!r} at position {position} (from 0)"
    return "both U and T"
