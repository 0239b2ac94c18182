"""Definitions of features written out in plain Python, slow and easy to check, for tests to compare with."""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import product

from fastgenome import _core

AXES = {"x": ("AG", "CT"), "y": ("AC", "GT"), "z": ("AT", "CG")}
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def reverse_complement(sequence: str) -> str:
    return sequence.translate(COMPLEMENT)[::-1]


def kmers_of(sequence: str, k: int) -> list[tuple[int, str]]:
    """Position and k-mer of each place without N."""
    found = [(i, sequence[i : i + k]) for i in range(len(sequence) - k + 1)]
    return [(position, kmer) for position, kmer in found if "N" not in kmer]


def block_parameters(sequence: str, order: int, phases: int, norm: str = "phase") -> list[float]:
    """x, y, z of each phase and prefix."""
    row = []
    bases = sum(base != "N" for base in sequence)
    for phase in range(phases):
        counts = Counter(kmer for position, kmer in kmers_of(sequence, order) if position % phases == phase)
        for prefix in map("".join, product("ACGT", repeat=order - 1)):
            of_prefix = sum(counts[prefix + base] for base in "ACGT")
            divisor = {"count": 1, "length": bases, "phase": sum(counts.values()), "conditional": of_prefix}
            for plus, minus in AXES.values():
                difference = sum(counts[prefix + base] for base in plus) - sum(
                    counts[prefix + base] for base in minus
                )
                row.append(difference / divisor[norm] if divisor[norm] else 0.0)
    return row


def parameters(sequence: str, blocks: tuple[tuple[int, int], ...], norm: str = "phase") -> list[float]:
    return [value for order, phases in blocks for value in block_parameters(sequence, order, phases, norm)]


def awkward_sequences(seed: int = 11) -> list[str]:
    """Clean sequences: every length up to 36, blocks and their borders, runs of N, repeats."""
    rng = random.Random(seed)
    lengths = (*range(37), 254, 255, 256, 1023, 1024, 1025, 1030, 1031, 1032, 2500)
    with_unknown = ["".join(rng.choices("ACGTN", [6, 5, 4, 7, 1], k=n)) for n in lengths]
    known = ["".join(rng.choices("ACGT", k=n)) for n in lengths]
    odd = ["N" * 20, "ACGT" + "N" * 9 + "GATTACA" * 200, "A" * 600, "GC" * 300, "NACGTNACGTAN" * 90]
    return [*with_unknown, *known, *odd]


def each_instruction_set() -> Iterator[str]:
    """Limits the core to one instruction set after the other, then lifts the limit."""
    best = _core.instruction_set()
    try:
        for name in ("baseline", "avx2", "avx512"):
            if _core.limit_instruction_set(name) == name:
                yield name
    finally:
        _core.limit_instruction_set(best)
