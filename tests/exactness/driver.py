"""Compares every path of every tokenizer, and the features, with independent references.

    python tests/exactness/driver.py --bases 1e9 --tokenizer all --json exactness.json

Prints one line per tokenizer: bases compared, paths, mismatches and seconds. A mismatch is printed with the
smallest text that shows it. The exit status is 1 where there is any. The same --seed gives the same texts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from comparison import Mismatch, compare, expected_ids, is_equal, refuses
from families import BASES_PER_MERGE_LIST, DATA, FAMILIES, MERGE_LISTS, Family, merge_list
from feature_checks import check_features
from numpy.typing import NDArray
from packed import Rows
from paths import Path as Way
from paths import cut_paths, paths
from references import cleaned
from texts import Batch, Source, batches, long_dna, periodic, random_dna, real_dna

#: Characters per batch for the second reference, which is slow.
SLOW_SHARE = 4_000
MOST_MISMATCHES = 5
#: A text is cut among threads from 2^20 letters on.
CUT_TEXT = 1_200_000
#: Of the merge lists, so many have one such text; of all others each.
MERGE_LISTS_PER_CUT_TEXT = 8


@dataclass
class Outcome:
    """What became of one tokenizer."""

    name: str
    seed: int
    bases: int = 0
    paths: list[str] = field(default_factory=list)
    mismatches: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        """One row of a Markdown table."""
        return (
            f"| {self.name} | {self.bases:,} | {len(self.paths)} | {self.mismatches} | {self.seconds:.0f} |"
        )


def check_tokenizer(name: str, *, bases: int, seed: int) -> Outcome:
    """Compares all paths of one tokenizer over about `bases` characters of text."""
    outcome = Outcome(name, seed)
    start = time.monotonic()
    if name in MERGE_LISTS:
        for draw in range(max(1, bases // BASES_PER_MERGE_LIST)):
            if outcome.mismatches < MOST_MISMATCHES:
                check_family(merge_list(name, seed + draw), outcome, BASES_PER_MERGE_LIST, draw)
    else:
        with tempfile.TemporaryDirectory() as folder:
            check_family(FAMILIES[name](Path(folder)), outcome, bases)
    outcome.seconds = time.monotonic() - start
    return outcome


def check_family(family: Family, outcome: Outcome, bases: int, draw: int = 0) -> None:
    """Adds to `outcome` what comes of a family; `draw` tells families of one name apart."""
    ways = list(paths(family))
    outcome.paths = [way.name for way in ways]
    random = np.random.default_rng([outcome.seed, draw, *outcome.name.encode()])
    source = Source(random, family.tokens, family.specials, genome())
    for batch in batches(source, bases, first_round=draw):
        outcome.bases += sum(map(len, batch.texts))
        for mismatch in _check_batch(family, ways, batch):
            outcome.mismatches += 1
            where = f"{outcome.name} ({draw}), kind {batch.kind!r}, seed {outcome.seed}"
            print(f"MISMATCH {where}\n    {mismatch}", flush=True)
        if outcome.mismatches >= MOST_MISMATCHES:
            return
    if draw % MERGE_LISTS_PER_CUT_TEXT == 0:
        _check_cut_text(family, source, outcome)


def _check_cut_text(family: Family, source: Source, outcome: Outcome) -> None:
    """A text so long that threads share it, random, real and a stretch without a cut, among short ones."""
    half = CUT_TEXT // 2
    parts = [*long_dna(source, half), *periodic(source, 20_000), *real_dna(source, half - 20_000)]
    text = "".join(parts).upper()
    texts = ["ACGTACGTNACG", *random_dna(source, 20_000), text, "", *random_dna(source, 5_000)]
    outcome.bases += sum(map(len, texts))
    ways = list(cut_paths(family))
    outcome.paths += [way.name for way in ways]
    rows = family.reference(texts)
    for clean in (False, True):
        for mismatch in _check_paths(family, ways, texts, clean, rows):
            outcome.mismatches += 1
            print(f"MISMATCH {outcome.name}, long text, seed {outcome.seed}\n    {mismatch}", flush=True)


def _check_batch(family: Family, ways: Sequence[Way], batch: Batch) -> list[Mismatch]:
    found = _check_second_reference(family, batch)
    clean_texts, wrong = cleaned(batch.texts)
    found += _check_refusals(family, ways, batch.texts, wrong)
    raw = family.reference(batch.texts)
    found += _check_paths(family, ways, batch.texts, False, raw)
    if wrong.any():
        dna = [text for text, is_wrong in zip(batch.texts, wrong, strict=True) if not is_wrong]
        return found + _check_paths(family, ways, dna, True, expected_ids(family, dna, True, False))
    rows = raw if clean_texts == batch.texts else family.reference(clean_texts)
    return found + _check_paths(family, ways, batch.texts, True, rows)


def _check_paths(
    family: Family, ways: Sequence[Way], texts: list[str], clean: bool, rows: Rows
) -> list[Mismatch]:
    """All ways over some texts, whose ids without special tokens are `rows`."""
    found = []
    surrounded = rows.surrounded(family.prefix, family.suffix)
    for way in ways:
        if way.cleans_only and not clean:
            continue
        some, expected = texts, surrounded if way.special_tokens else rows
        if way.most_texts is not None and len(texts) > way.most_texts:
            some = texts[:: len(texts) // way.most_texts]
            expected = expected_ids(family, some, clean, way.special_tokens)
        mismatch = compare(family, way, some, clean, expected)
        if mismatch is not None:
            found.append(mismatch)
        if len(found) == MOST_MISMATCHES:
            break
    return found


def _check_refusals(
    family: Family, ways: Sequence[Way], texts: list[str], wrong: NDArray[np.bool_]
) -> list[Mismatch]:
    """With cleaning, a text that is no DNA must be refused, and the first such text be named."""
    if not wrong.any():
        return []
    index = int(np.flatnonzero(wrong)[0])
    return [
        Mismatch(way.name, True, [texts[index]], [], "the text was not refused")
        for way in ways
        if way.name.endswith("call") and not refuses(family, way, texts, index)
    ]


def _check_second_reference(family: Family, batch: Batch) -> list[Mismatch]:
    """The two references have to agree, on a share of the texts."""
    if family.slow is None:
        return []
    some: list[str] = []
    for text in batch.texts:
        is_read = not family.slow_reads_dna_alone or set(text) <= set("ACGTN")
        if is_read and sum(map(len, some)) + len(text) <= SLOW_SHARE:
            some.append(text)
    slow = family.slow
    second = Way("second reference", lambda texts, _: slow(texts), False)
    rows = expected_ids(family, some, False, False)
    if is_equal(family, second, some, False, rows):
        return []
    mismatch = compare(family, second, some, False, rows)
    return [mismatch] if mismatch else []


@lru_cache
def genome() -> str:
    """The yeast genome of the data folder, or ""."""
    path = DATA / "yeast_genome" / "Saccharomyces_cerevisiae.R64-1-1.dna.toplevel.fa.gz"
    if not path.is_file():
        return ""
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    return "".join(line for line in lines if not line.startswith(">"))


def main() -> int:
    """Runs the comparison as told on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bases", type=float, default=1e7, help="characters per tokenizer")
    parser.add_argument(
        "--tokenizer", nargs="+", default=["all"], metavar="NAME", help="all, features, or names"
    )
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", type=Path, help="file for the outcomes, written after each tokenizer")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else time.time_ns() % 2**32
    print(f"seed {seed}", flush=True)
    print("| tokenizer | bases | paths | mismatches | seconds |\n|---|---|---|---|---|", flush=True)
    names = [*FAMILIES, *MERGE_LISTS, "features"] if options.tokenizer == ["all"] else options.tokenizer
    outcomes: list[Outcome] = []
    for name in names:
        if name == "features":
            outcome = Outcome(name, seed, *check_features(int(options.bases), seed, genome()))
        else:
            outcome = check_tokenizer(name, bases=int(options.bases), seed=seed)
        outcomes.append(outcome)
        print(outcome.line(), flush=True)
        if options.json:
            options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    return 1 if any(outcome.mismatches for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
