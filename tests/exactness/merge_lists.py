"""Random byte-pair merge lists: as a trainer makes them, and as no trainer would."""

from __future__ import annotations

import random

#: proper: each token comes from one merge of earlier tokens. repeated: some tokens come from several merges.
#: shuffled: ranks in any order, so that a merge may stand before those that make its parts.
KINDS = ("proper", "repeated", "shuffled")

_ALPHABETS = ("A", "AC", "ACGT", "ACGTN", "ACGTacgt", "ACDEFGHIKLMNPQRSTVWY")


def random_merge_list(kind: str, seed: int) -> tuple[dict[str, int], list[tuple[str, str]], str]:
    """Vocabulary with ids in any order, merges in rank order, and the single letters."""
    chosen = random.Random(f"{kind} {seed}")
    letters = chosen.choice(_ALPHABETS)
    size = chosen.choice([0, 1, 3, 10, 40, 200])
    tokens = list(letters)
    merges: list[tuple[str, str]] = []
    for _ in range(20 * size):
        if len(merges) == size:
            break
        pair = (chosen.choice(tokens), chosen.choice(tokens))
        joined = "".join(pair)
        is_known = pair in merges or (kind != "repeated" and joined in tokens)
        if is_known or len(joined) > 40:
            continue
        merges.append(pair)
        tokens.append(joined)
    if kind == "shuffled":
        chosen.shuffle(merges)
    spellings = list(dict.fromkeys(tokens))
    chosen.shuffle(spellings)
    return {token: number for number, token in enumerate(["[UNK]", *spellings])}, merges, letters
