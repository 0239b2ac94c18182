"""Composition features: z-curve, GC content, skews and k-mer frequencies, as functions and transformers.

Sequences are cleaned first (see `fastgenome.cleaning`). N takes part in nothing: it is no base of any count,
and no k-mer contains it. A quantity that would divide by zero, as all of them do for a sequence of N or an
empty one, is 0, so no feature is ever NaN. Bases and k-mers stand in alphabetical order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import FeatureUnion

from fastgenome import _core
from fastgenome.cleaning import as_batch, describe_invalid
from fastgenome.errors import ArgumentError, InputError
from fastgenome.sequence_transformer import SequenceTransformer, as_sequences

ZCurveMode = Literal["summary", "normalized", "parameters"]

_COMPLEMENT = str.maketrans("ACGT", "TGCA")


class Curves(NamedTuple):
    """The z-curves of many sequences, one behind the other.

    Sequence i has the rows `values[offsets[i]:offsets[i + 1]]`; row n−1 of it holds x, y and z after n bases.
    """

    values: NDArray[np.int32]  # (total, 3)
    offsets: NDArray[np.int64]  # (n + 1,)


@overload
def zcurve(
    sequences: Iterable[str | bytes],
    *,
    mode: ZCurveMode = "summary",
    orders: Sequence[int] = (1,),
    phases: int = 1,
) -> NDArray[np.float64]: ...
@overload
def zcurve(sequences: Iterable[str | bytes], *, mode: Literal["cumulative"]) -> Curves: ...
def zcurve(
    sequences: Iterable[str | bytes],
    *,
    mode: ZCurveMode | Literal["cumulative"] = "summary",
    orders: Sequence[int] = (1,),
    phases: int = 1,
) -> NDArray[np.float64] | Curves:
    """z-curve of each sequence: x purine − pyrimidine, y amino − keto, z weak − strong bases.

    Args:
        sequences: n sequences.
        mode: "summary", x = (A+G)−(C+T), y = (A+C)−(G+T), z = (A+T)−(C+G) of the whole sequence (as in
            PyFeat, Muhammod et al. 2019); "normalized", the same divided by the number of bases;
            "cumulative", the curve x_n, y_n, z_n after each base (Zhang & Zhang 1994); "parameters", see
            `zcurve_parameters`.
        orders, phases: of "parameters".

    Returns:
        float64 (n, f), f = 3 but for "parameters"; for "cumulative" Curves.

    Raises:
        ArgumentError: an unknown mode, order or number of phases.
        InputError: a sequence is not DNA.
    """
    batch = as_batch(sequences)
    if mode == "cumulative":
        values, offsets, invalid = _core.zcurve_curves(batch)
        _require_dna(batch, invalid)
        return Curves(values, offsets)
    if mode == "parameters":
        return zcurve_parameters(batch, orders=orders, phases=phases)
    _check_tabular(mode)
    a, c, g, t = _base_counts(batch)
    components = np.stack([(a + g) - (c + t), (a + c) - (g + t), (a + t) - (c + g)], axis=1)
    if mode == "normalized":
        return _divide(components, (a + c + g + t)[:, None])
    return components


def zcurve_parameters(
    sequences: Iterable[str | bytes], *, orders: Sequence[int] = (1, 2, 3), phases: int = 3
) -> NDArray[np.float64]:
    """Frequency parameters of the z-curve (Gao & Zhang 2004).

    For order k, the frequencies of the four k-mers that share their first k−1 bases make one x, y, z. They
    are relative to all k-mers of that order and phase; the phase of a k-mer is the position of its first
    base, from 0, modulo `phases`.

    Args:
        sequences: n sequences.
        orders: lengths k, 1 to 8: 1 gives 3 numbers per phase, 2 gives 12, 3 gives 48.
        phases: 1 for phase-free; 3 for codon positions, where orders (1, 2, 3) give 189 parameters.

    Returns:
        float64 (n, f) in the order of `zcurve_names`: by order, phase, prefix, then x, y, z.
    """
    _check_orders(orders, phases)
    batch = as_batch(sequences)
    values, invalid = _core.zcurve_parameters(batch, orders=list(orders), phases=phases)
    _require_dna(batch, invalid)
    return values


def zcurve_names(mode: ZCurveMode = "summary", *, orders: Sequence[int] = (1,), phases: int = 1) -> list[str]:
    """Column names of `zcurve`: "x"; in parameters "x_AC" (prefix AC) and "x_AC_phase2" (phases from 1)."""
    _check_tabular(mode)
    if mode != "parameters":
        return ["x", "y", "z"]
    _check_orders(orders, phases)
    names = []
    for order in orders:
        prefixes = [f"_{prefix}" if prefix else "" for prefix in _kmers(order - 1)]
        for phase in range(1, phases + 1):
            ending = f"_phase{phase}" if phases > 1 else ""
            names += [f"{axis}{prefix}{ending}" for prefix in prefixes for axis in "xyz"]
    return names


def gc_content(sequences: Iterable[str | bytes]) -> NDArray[np.float64]:
    """Fraction (0 to 1) of G and C among the bases of each sequence: (n,)."""
    a, c, g, t = _base_counts(as_batch(sequences))
    return _divide(g + c, a + c + g + t)


def gc_skew(sequences: Iterable[str | bytes]) -> NDArray[np.float64]:
    """(G − C) / (G + C) of each sequence, −1 to 1 (Lobry 1996): (n,)."""
    _, c, g, _ = _base_counts(as_batch(sequences))
    return _divide(g - c, g + c)


def at_skew(sequences: Iterable[str | bytes]) -> NDArray[np.float64]:
    """(A − T) / (A + T) of each sequence, −1 to 1 (Lobry 1996): (n,)."""
    a, _, _, t = _base_counts(as_batch(sequences))
    return _divide(a - t, a + t)


def kmer_frequencies(
    sequences: Iterable[str | bytes], k: int, *, canonical: bool = False, counts: bool = False
) -> NDArray[np.float64]:
    """Frequencies of overlapping k-mers.

    Args:
        sequences: n sequences.
        k: 1 to 8.
        canonical: count a k-mer and its reverse complement as one, so that both strands give the same row.
        counts: give counts and not frequencies.

    Returns:
        float64 (n, f) in the order of `kmer_names`; f = 4^k, or about half of it with `canonical`. A row of
        frequencies adds up to 1, or to 0 where the sequence has no k-mer.
    """
    names = kmer_names(k, canonical=canonical)
    column = {name: number for number, name in enumerate(names)}
    columns = [column[_canonical(kmer) if canonical else kmer] for kmer in _kmers(k)]
    batch = as_batch(sequences)
    rows, invalid = _core.kmer_rows(
        batch, k=k, columns=np.array(columns, np.int32), width=len(names), frequencies=not counts
    )
    _require_dna(batch, invalid)
    return rows


def kmer_names(k: int, *, canonical: bool = False) -> list[str]:
    """Column names of `kmer_frequencies`: k-mers in alphabetical order.

    With `canonical`, of each pair of reverse complements the one that comes first.
    """
    if not 1 <= k <= 8:
        raise ArgumentError(f"k={k!r}: expected 1 to 8")
    return [kmer for kmer in _kmers(k) if not canonical or kmer == _canonical(kmer)]


class ZCurve(SequenceTransformer):
    """z-curve components of sequences as a scikit-learn transformer; parameters as in `zcurve`."""

    def __init__(
        self, mode: ZCurveMode = "summary", *, orders: Sequence[int] = (1,), phases: int = 1
    ) -> None:
        self.mode = mode
        self.orders = orders
        self.phases = phases

    @property
    def min_length(self) -> int:
        """Bases that hold one k-mer of each order."""
        return max(self.orders) if self.mode == "parameters" else 1

    def transform(self, X: Sequence[str]) -> NDArray[np.float64]:
        """Features of n sequences: float64 (n, f)."""
        _check_tabular(self.mode)
        return zcurve(as_sequences(X), mode=self.mode, orders=self.orders, phases=self.phases)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Column names, see `zcurve_names`; `input_features` is not used."""
        return np.array(zcurve_names(self.mode, orders=self.orders, phases=self.phases), dtype=object)


class GCContent(SequenceTransformer):
    """GC content of sequences, with `skews` also GC and AT skew, as a scikit-learn transformer."""

    def __init__(self, *, skews: bool = False) -> None:
        self.skews = skews

    @property
    def min_length(self) -> int:
        """One base."""
        return 1

    def transform(self, X: Sequence[str]) -> NDArray[np.float64]:
        """Features of n sequences: float64 (n, 1), with `skews` (n, 3)."""
        sequences = as_sequences(X)
        functions = (gc_content, gc_skew, at_skew) if self.skews else (gc_content,)
        return np.stack([function(sequences) for function in functions], axis=1)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Column names; `input_features` is not used."""
        names = ["gc_content", "gc_skew", "at_skew"] if self.skews else ["gc_content"]
        return np.array(names, dtype=object)


class KmerFrequency(SequenceTransformer):
    """k-mer frequencies of sequences as a scikit-learn transformer; parameters as in `kmer_frequencies`."""

    def __init__(self, k: int = 4, *, canonical: bool = False) -> None:
        self.k = k
        self.canonical = canonical

    @property
    def min_length(self) -> int:
        """Bases that hold one k-mer."""
        return self.k

    def transform(self, X: Sequence[str]) -> NDArray[np.float64]:
        """Features of n sequences: float64 (n, f)."""
        return kmer_frequencies(as_sequences(X), self.k, canonical=self.canonical)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Column names, see `kmer_names`; `input_features` is not used."""
        return np.array(kmer_names(self.k, canonical=self.canonical), dtype=object)


#: Names that `feature_set` knows.
FEATURE_SETS: dict[str, Callable[[], Any]] = {"zcurve": ZCurve, "gc": GCContent, "kmer": KmerFrequency}


def feature_set(names: Sequence[str]) -> Any:
    """The union of named feature sets, as a scikit-learn transformer whose columns are called "kmer__ACGT".

    Raises ArgumentError where a name is not one of FEATURE_SETS, stands twice, or none is given.
    """
    chosen = [names] if isinstance(names, str) else list(names)
    known = ", ".join(FEATURE_SETS)
    if not chosen or len(set(chosen)) != len(chosen):
        raise ArgumentError(f"names={names!r}: expected one or more different ones of {known}")
    for name in chosen:
        if name not in FEATURE_SETS:
            raise ArgumentError(f"names: no feature set {name!r}, expected {known}")
    return FeatureUnion([(name, FEATURE_SETS[name]()) for name in chosen])


def min_length(names: Sequence[str]) -> int:
    """Bases that a sequence needs so that no feature of these sets is 0 for want of a whole k-mer."""
    transformers = [transformer for _, transformer in feature_set(names).transformer_list]
    return max(int(transformer.min_length) for transformer in transformers)


def _base_counts(batch: tuple[str | bytes, ...]) -> NDArray[np.float64]:
    """Counts of A, C, G, T: (4, n)."""
    counts, invalid = _core.base_counts(batch)
    _require_dna(batch, invalid)
    return counts.T.astype(np.float64)


def _require_dna(batch: tuple[str | bytes, ...], invalid: int) -> None:
    if invalid >= 0:
        raise InputError(describe_invalid(batch[invalid], invalid))


def _divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quotients, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


def _check_tabular(mode: str) -> None:
    """Raises ArgumentError for a mode that has no fixed number of columns."""
    if mode not in ("summary", "normalized", "parameters"):
        hint = "; the function zcurve gives the curve" if mode == "cumulative" else ""
        raise ArgumentError(f"mode={mode!r}: expected summary, normalized or parameters{hint}")


def _check_orders(orders: Sequence[int], phases: int) -> None:
    if not orders or not all(1 <= order <= 8 for order in orders):
        raise ArgumentError(f"orders={orders!r}: expected one or more of 1 to 8")
    if phases < 1:
        raise ArgumentError(f"phases={phases!r}: expected at least 1")


def _kmers(k: int) -> list[str]:
    return ["".join(letters) for letters in product("ACGT", repeat=k)]


def _canonical(kmer: str) -> str:
    """The first in alphabetical order of a k-mer and its reverse complement."""
    return min(kmer, kmer.translate(_COMPLEMENT)[::-1])
