"""A task for tuning: two words in every sequence, whose order alone tells the class."""

import numpy as np
from numpy.typing import NDArray

WORDS = ("TGACTCAG", "GGCGCCAT")


def planted_motifs(count: int, *, seed: int, length: int = 60) -> tuple[list[str], NDArray[np.int64]]:
    """Random sequences with both words, and 1 where the first word comes first: composition says nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    half = length // 2
    sequences = []
    for label in labels:
        bases = rng.choice(list("ACGT"), length)
        for word, begin in zip(WORDS if label else WORDS[::-1], (0, half), strict=True):
            place = begin + int(rng.integers(0, half - len(word) + 1))
            bases[place : place + len(word)] = list(word)
        sequences.append("".join(bases))
    return sequences, labels
