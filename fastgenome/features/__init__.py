"""Composition features: z-curve, GC content, skews and k-mer frequencies, as functions and transformers.

Sequences are cleaned first (see `fastgenome.cleaning`). A quantity that would divide by zero, as all of them
do for a sequence of N or an empty one, is 0, so no feature is NaN unless that is asked for. Bases and k-mers
stand in alphabetical order.

What most functions take:
    unknown: what becomes of a sequence, or window, that holds an N (or an IUPAC code, which cleaning makes
        one): "skip", N takes part in nothing: it is no base of any count, and no k-mer contains it; "nan",
        the row is NaN; "error", InputError.
    dtype: float64 or float32, to which the float64 result is rounded.
    out: a C-contiguous array of that shape to write to, whose dtype counts; filling the same memory again
        is much faster than filling new pages.
    threads: 0 for as many as the work deserves. Results do not depend on it.
"""

from fastgenome.features.composition import at_skew, base_counts, gc_content, gc_skew
from fastgenome.features.curves import Curves, Profiles, cumulative_zcurve, disparity_curve
from fastgenome.features.kmers import kmer_frequencies, kmer_names
from fastgenome.features.parameter_sets import PARAMETER_SETS, ParameterSet, ZCurveNorm
from fastgenome.features.rows import UnknownPolicy
from fastgenome.features.transformers import (
    FEATURE_SETS,
    GCContent,
    KmerFrequency,
    ZCurve,
    feature_set,
    min_length,
)
from fastgenome.features.windows import Windows, cumulative_skew, windowed
from fastgenome.features.zcurve import ZCurveMode, zcurve, zcurve_names, zcurve_parameters

__all__ = [
    "FEATURE_SETS",
    "PARAMETER_SETS",
    "Curves",
    "GCContent",
    "KmerFrequency",
    "ParameterSet",
    "Profiles",
    "UnknownPolicy",
    "Windows",
    "ZCurve",
    "ZCurveMode",
    "ZCurveNorm",
    "at_skew",
    "base_counts",
    "cumulative_skew",
    "cumulative_zcurve",
    "disparity_curve",
    "feature_set",
    "gc_content",
    "gc_skew",
    "kmer_frequencies",
    "kmer_names",
    "min_length",
    "windowed",
    "zcurve",
    "zcurve_names",
    "zcurve_parameters",
]
