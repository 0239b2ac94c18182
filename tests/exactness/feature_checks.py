"""Features of fastgenome against their definitions, written out in NumPy, on every instruction set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
from comparison import shrink
from numpy.typing import NDArray
from packed import code_points
from paths import instruction_sets
from references import cleaned, window_codes
from texts import Source, batches

from fastgenome import _core, features

#: Quotients may differ in the last digits, counts may not.
RELATIVE_ERROR = 1e-15
MOST_MISMATCHES = 5

Values = NDArray[np.float64]


class Check(NamedTuple):
    """A function of fastgenome and its definition, on cleaned texts.

    Where rows are wide, a share of the texts of a batch has to do: `most_texts` of them.
    """

    name: str
    run: Callable[[Sequence[str]], Values]
    definition: Callable[[Sequence[str]], Values]
    most_texts: int = 1_000_000


def base_counts(texts: Sequence[str]) -> Values:
    """Counts of A, C, G and T: (n, 4)."""
    return kmer_counts(texts, 1)


def kmer_counts(texts: Sequence[str], k: int, phases: int = 1) -> Values:
    """Counts of k-mers by phase of their first base: (n, phases · 4^k), phase by phase."""
    points = code_points(texts)
    codes, known = window_codes(_digits()[points.values], k)
    rows = points.row_of_value()[: codes.size]
    inside = known & (np.arange(codes.size) + k <= points.offsets[1:][rows])
    phase = (np.arange(codes.size) - points.offsets[rows]) % phases
    width = phases * 4**k
    flat = rows * width + phase * 4**k + codes
    counts = np.bincount(flat[inside], minlength=len(texts) * width)
    return counts.reshape(len(texts), width).astype(float)


def canonical_counts(texts: Sequence[str], k: int) -> Values:
    """Counts of k-mers together with those of their reverse complements, by the first of the two."""
    names = ["".join(letters) for letters in product("ACGT", repeat=k)]
    first = [min(name, name[::-1].translate(str.maketrans("ACGT", "TGCA"))) for name in names]
    kept = sorted(set(first))
    sums = np.array([[name == other for other in kept] for name in first], float)
    return kmer_counts(texts, k) @ sums


def frequencies(counts: Values) -> Values:
    """Rows divided by their sums, zeros where a sum is zero."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)


def z_parameters(texts: Sequence[str], orders: Sequence[int], phases: int) -> Values:
    """Per order, phase and prefix: x = A+G−C−T, y = A+C−G−T, z = A+T−C−G of the frequencies of each phase."""
    signs = np.array([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]])
    parts = []
    for k in orders:
        counts = kmer_counts(texts, k, phases).reshape(len(texts), phases, 4 ** (k - 1), 4)
        totals = counts.sum(axis=(2, 3), keepdims=True)
        differences = counts @ signs
        quotients = np.divide(differences, totals, out=np.zeros_like(differences), where=totals > 0)
        parts.append(quotients.reshape(len(texts), 3 * phases * 4 ** (k - 1)))
    return np.concatenate(parts, axis=1)


def z_curve(texts: Sequence[str]) -> Values:
    """x, y and z after each base, as running sums that begin anew with each text: (total, 3)."""
    points = code_points(texts)
    digits = _digits()[points.values]
    signs = np.array([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1], [0, 0, 0]])
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum(signs[digits], axis=0)])
    return sums[1:] - sums[points.offsets[:-1]][points.row_of_value()]


def skews(texts: Sequence[str]) -> Values:
    """GC content, GC skew and AT skew: (n, 3)."""
    a, c, g, t = base_counts(texts).T
    quotients = [(c + g, a + c + g + t), (g - c, g + c), (a - t, a + t)]
    return np.stack([np.divide(n, d, out=np.zeros_like(n), where=d > 0) for n, d in quotients], axis=1)


def checks() -> Iterator[Check]:
    """The functions that are compared."""
    yield Check("base_counts", lambda texts: _core.base_counts(texts)[0].astype(float), base_counts)
    for k in (1, 2, 3, 4, 5, 6, 8):
        yield Check(
            f"kmer_counts {k}",
            lambda texts, k=k: features.kmer_frequencies(texts, k, counts=True),
            lambda texts, k=k: kmer_counts(texts, k),
            2_000_000 // 4**k,
        )
    for k in (1, 2, 3, 4):
        yield Check(
            f"canonical_counts {k}",
            lambda texts, k=k: features.kmer_frequencies(texts, k, canonical=True, counts=True),
            lambda texts, k=k: canonical_counts(texts, k),
        )
    yield Check(
        "kmer_frequencies 6",
        lambda texts: features.kmer_frequencies(texts, 6),
        lambda texts: frequencies(kmer_counts(texts, 6)),
        500,
    )
    for orders, phases in (((1, 2, 3), 3), ((1,), 1), ((4,), 2), ((2, 6), 5)):
        yield Check(
            f"zcurve_parameters {orders} {phases}",
            lambda texts, o=orders, p=phases: features.zcurve_parameters(texts, orders=o, phases=p),
            lambda texts, o=orders, p=phases: z_parameters(texts, o, p),
            2_000_000 // (phases * 4 ** max(orders)),
        )
    yield Check("zcurve cumulative", lambda texts: features.zcurve(texts, mode="cumulative").values, z_curve)
    yield Check(
        "gc_content and skews",
        lambda texts: np.stack(
            [f(texts) for f in (features.gc_content, features.gc_skew, features.at_skew)], 1
        ),
        skews,
    )


def check_features(bases: int, seed: int, genome: str) -> tuple[int, list[str], int, float]:
    """Compares all features over about `bases` characters: bases, names, mismatches and seconds."""
    start = time.monotonic()
    source = Source(np.random.default_rng(seed), ["ACGT", "N", "ACGTACGTT"], ["<mask>"], genome)
    sets = instruction_sets()
    every = list(checks())
    done = mismatches = 0
    for batch in batches(source, bases):
        done += sum(map(len, batch.texts))
        wrong = cleaned(batch.texts)[1]
        texts = [text for text, is_wrong in zip(batch.texts, wrong, strict=True) if not is_wrong]
        for check in every:
            some = texts[:: max(1, -(-len(texts) // check.most_texts))]
            small = _smallest_fault(check, some, sets)
            if small is not None:
                mismatches += 1
                print(f"MISMATCH {check.name}, kind {batch.kind!r}, seed {seed}: {small!r}", flush=True)
        if mismatches >= MOST_MISMATCHES:
            break
    names = [f"{name}, {check.name}" for name in sets for check in every]
    return done, names, mismatches, time.monotonic() - start


def _smallest_fault(check: Check, texts: list[str], sets: Sequence[str]) -> list[str] | None:
    expected = check.definition(cleaned(texts)[0])
    for name in sets:
        _core.limit_instruction_set(name)
        try:
            if _is_close(check.run(texts), expected):
                continue
            small = shrink(texts, partial(_is_wrong, check))
            return [shrink(small[0], lambda text: _is_wrong(check, [text]))] if len(small) == 1 else small
        finally:
            _core.limit_instruction_set(sets[-1])
    return None


def _is_wrong(check: Check, texts: list[str]) -> bool:
    return not _is_close(check.run(texts), check.definition(cleaned(texts)[0]))


def _is_close(got: Values, expected: Values) -> bool:
    return got.shape == expected.shape and bool(
        np.all(np.abs(got - expected) <= RELATIVE_ERROR * np.abs(expected))
    )


def _digits() -> NDArray[np.int64]:
    digits = np.full(257, 4)
    digits[[ord(letter) for letter in "ACGT"]] = range(4)
    return digits
