"""What the features of cleaned texts are, by definition, written out in NumPy without any of fastgenome."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from packed import code_points
from references import window_codes

Values = NDArray[np.float64]

#: What A, C, G, T and N add to x, y and z.
STEPS = np.array([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1], [0, 0, 0]])


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


def base_counts(texts: Sequence[str]) -> Values:
    """Counts of A, C, G and T: (n, 4)."""
    return kmer_counts(texts, 1)


def canonical_counts(texts: Sequence[str], k: int) -> Values:
    """Counts of k-mers together with those of their reverse complements, by the first of the two."""
    codes = np.arange(4**k)
    rest, opposite = codes.copy(), np.zeros_like(codes)
    for _ in range(k):
        opposite = 4 * opposite + 3 - rest % 4
        rest //= 4
    kept, column = np.unique(np.minimum(codes, opposite), return_inverse=True)
    sums = np.zeros((kept.size, len(texts)))
    np.add.at(sums, column, kmer_counts(texts, k).T)
    return sums.T


def frequencies(counts: Values) -> Values:
    """Rows divided by their sums, zeros where a sum is zero."""
    return _quotients(counts, counts.sum(axis=1, keepdims=True))


def components(texts: Sequence[str]) -> Values:
    """x, y and z of whole texts: (n, 3)."""
    return base_counts(texts) @ STEPS[:4]


def z_parameters(
    texts: Sequence[str],
    blocks: Sequence[tuple[int, int]],
    norm: str = "phase",
    prefix_letters: str | None = None,
) -> Values:
    """x = A+G−C−T, y = A+C−G−T, z = A+T−C−G of the k-mers that share k−1 bases, divided as `norm` says.

    By block, phase and prefix; with `prefix_letters`, by block, prefix in the order of these, and phase.
    """
    bases = base_counts(texts).sum(axis=1).reshape(-1, 1, 1, 1)
    parts = []
    for k, phases in blocks:
        counts = kmer_counts(texts, k, phases).reshape(len(texts), phases, 4 ** (k - 1), 4)
        divisors = {
            "count": np.ones_like(bases),
            "length": bases,
            "phase": counts.sum(axis=(2, 3), keepdims=True),
            "conditional": counts.sum(axis=3, keepdims=True),
        }
        rows = _quotients(counts @ STEPS[:4], divisors[norm])
        if prefix_letters is not None:
            prefixes = ["".join(letters) for letters in product("ACGT", repeat=k - 1)]
            wanted = ["".join(letters) for letters in product(prefix_letters, repeat=k - 1)]
            rows = rows[:, :, [prefixes.index(prefix) for prefix in wanted]].swapaxes(1, 2)
        parts.append(rows.reshape(len(texts), 3 * phases * 4 ** (k - 1)))
    return np.concatenate(parts, axis=1)


def z_curve(texts: Sequence[str]) -> Values:
    """x, y and z after each base, as running sums that begin anew with each text: (total, 3)."""
    return _running_sums(texts, STEPS)


def step_curve(texts: Sequence[str], plus: str, minus: str) -> Values:
    """Bases of `plus` less those of `minus` after each base: (total,)."""
    steps = [[(base in plus) - (base in minus)] for base in "ACGTN"]
    return _running_sums(texts, np.array(steps))[:, 0]


def cpg_curve(texts: Sequence[str]) -> Values:
    """CpG less the other pairs of bases, after each pair of a text: (total,)."""
    parts = [np.empty(0)]
    for text in texts:
        pairs = [
            (text[i] != "N" != text[i + 1]) * (1 if text[i : i + 2] == "CG" else -1)
            for i in range(len(text) - 1)
        ]
        parts.append(np.cumsum(pairs))
    return np.concatenate(parts)


def skews(texts: Sequence[str]) -> Values:
    """GC content, GC skew and AT skew: (n, 3)."""
    a, c, g, t = base_counts(texts).T
    quotients = [(c + g, a + c + g + t), (g - c, g + c), (a - t, a + t)]
    return np.stack([_quotients(n, d) for n, d in quotients], axis=1)


def nan_where_unknown(texts: Sequence[str], rows: Values) -> Values:
    """The rows, those of texts with an N not a number."""
    has_unknown = np.array(["N" in text for text in texts], bool)
    return np.where(has_unknown[:, None], np.nan, rows)


def windows_of(texts: Sequence[str], window: int, stride: int) -> list[str]:
    """All windows of all texts."""
    return [text[i : i + window] for text in texts for i in range(0, len(text) - window + 1, stride)]


def _running_sums(texts: Sequence[str], steps: NDArray[np.int64]) -> Values:
    points = code_points(texts)
    width = steps.shape[1]
    sums = np.concatenate([np.zeros((1, width)), np.cumsum(steps[_digits()[points.values]], axis=0)])
    return sums[1:] - sums[points.offsets[:-1]][points.row_of_value()]


def _quotients(numerator: Values, denominator: Values) -> Values:
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.divide(numerator, denominator, out=np.zeros(shape), where=denominator != 0)


def _digits() -> NDArray[np.int64]:
    digits = np.full(257, 4)
    digits[[ord(letter) for letter in "ACGT"]] = range(4)
    return digits
