"""Features as scikit-learn transformers, and the named sets of them that the command line knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import FeatureUnion

from fastgenome.errors import ArgumentError
from fastgenome.features.composition import (
    at_skew_of,
    base_count_rows,
    float_counts,
    gc_content_of,
    gc_skew_of,
)
from fastgenome.features.kmers import kmer_frequencies, kmer_names, kmer_plan
from fastgenome.features.parameter_sets import ParameterSet, parameter_plan, parameter_set
from fastgenome.features.rows import RowPlan, UnknownPolicy, sequence_rows
from fastgenome.features.zcurve import (
    ZCurveMode,
    check_described,
    check_tabular,
    components_of,
    zcurve,
    zcurve_names,
)
from fastgenome.sequence_transformer import SequenceTransformer, as_sequences


class ZCurve(SequenceTransformer):
    """z-curve components of sequences as a scikit-learn transformer; parameters as in `zcurve`.

    `parameters`, a published set by its number or any ParameterSet, stands in place of `orders` and `phases`
    in the mode "parameters".
    """

    def __init__(
        self,
        mode: ZCurveMode = "summary",
        *,
        orders: Sequence[int] = (1,),
        phases: int = 1,
        parameters: ParameterSet | int | None = None,
        unknown: UnknownPolicy = "skip",
    ) -> None:
        self.mode = mode
        self.orders = orders
        self.phases = phases
        self.parameters = parameters
        self.unknown = unknown

    @property
    def min_length(self) -> int:
        """Bases that hold one k-mer of each order."""
        return self._parameters().max_order if self.mode == "parameters" else 1

    def transform(self, X: Sequence[str]) -> NDArray[np.float64]:
        """Features of n sequences: float64 (n, f)."""
        self._check()
        if self.mode == "parameters":
            return sequence_rows(as_sequences(X), self.row_plan(), unknown=self.unknown)
        return zcurve(as_sequences(X), mode=self.mode, unknown=self.unknown)

    def row_plan(self) -> RowPlan:
        """How the core makes rows of this feature."""
        self._check()
        if self.mode == "parameters":
            return parameter_plan(self._parameters())
        normalized = self.mode == "normalized"
        return RowPlan(base_count_rows(), lambda counts: components_of(counts, normalized=normalized), 3)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Column names, see `zcurve_names`; `input_features` is not used."""
        self._check()
        names = zcurve_names(self.mode, orders=self.orders, phases=self.phases, parameters=self.parameters)
        return np.array(names, dtype=object)

    def _check(self) -> None:
        check_tabular(self.mode)
        check_described(self.mode, self.orders, self.phases, self.parameters)

    def _parameters(self) -> ParameterSet:
        return parameter_set(self.parameters, self.orders, self.phases)


class GCContent(SequenceTransformer):
    """GC content of sequences, with `skews` also GC and AT skew, as a scikit-learn transformer."""

    def __init__(self, *, skews: bool = False, unknown: UnknownPolicy = "skip") -> None:
        self.skews = skews
        self.unknown = unknown

    @property
    def min_length(self) -> int:
        """One base."""
        return 1

    def transform(self, X: Sequence[str]) -> NDArray[np.float64]:
        """Features of n sequences: float64 (n, 1), with `skews` (n, 3)."""
        return self._of_counts(float_counts(as_sequences(X), self.unknown))

    def row_plan(self) -> RowPlan:
        """How the core makes rows of this feature."""
        return RowPlan(base_count_rows(), self._of_counts, 3 if self.skews else 1)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Column names; `input_features` is not used."""
        names = ["gc_content", "gc_skew", "at_skew"] if self.skews else ["gc_content"]
        return np.array(names, dtype=object)

    def _of_counts(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        functions = (gc_content_of, gc_skew_of, at_skew_of) if self.skews else (gc_content_of,)
        return np.stack([function(counts) for function in functions], axis=1)


class KmerFrequency(SequenceTransformer):
    """k-mer frequencies of sequences as a scikit-learn transformer; parameters as in `kmer_frequencies`."""

    def __init__(
        self,
        k: int = 4,
        *,
        canonical: bool = False,
        counts: bool = False,
        unknown: UnknownPolicy = "skip",
    ) -> None:
        self.k = k
        self.canonical = canonical
        self.counts = counts
        self.unknown = unknown

    @property
    def min_length(self) -> int:
        """Bases that hold one k-mer."""
        return self.k

    def transform(self, X: Sequence[str]) -> NDArray[np.float64]:
        """Features of n sequences: float64 (n, f)."""
        return kmer_frequencies(
            as_sequences(X), self.k, canonical=self.canonical, counts=self.counts, unknown=self.unknown
        )

    def row_plan(self) -> RowPlan:
        """How the core makes rows of this feature."""
        return kmer_plan(self.k, canonical=self.canonical, counts=self.counts)

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
