"""z-curve of each sequence: its components, its parameters, its path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastgenome.cleaning import as_batch
from fastgenome.errors import ArgumentError
from fastgenome.features.composition import float_counts
from fastgenome.features.curves import Curves, cumulative_zcurve
from fastgenome.features.parameter_sets import ParameterSet, parameter_plan, parameter_set
from fastgenome.features.rows import UnknownPolicy, divide, sequence_rows

ZCurveMode = Literal["summary", "normalized", "parameters"]


@overload
def zcurve(
    sequences: Iterable[str | bytes],
    *,
    mode: ZCurveMode = "summary",
    orders: Sequence[int] = (1,),
    phases: int = 1,
    unknown: UnknownPolicy = "skip",
) -> NDArray[np.float64]: ...
@overload
def zcurve(sequences: Iterable[str | bytes], *, mode: Literal["cumulative"]) -> Curves: ...
def zcurve(
    sequences: Iterable[str | bytes],
    *,
    mode: ZCurveMode | Literal["cumulative"] = "summary",
    orders: Sequence[int] = (1,),
    phases: int = 1,
    unknown: UnknownPolicy = "skip",
) -> NDArray[np.float64] | Curves:
    """z-curve of each sequence: x purine − pyrimidine, y amino − keto, z weak − strong bases.

    Args:
        sequences: n sequences.
        mode: "summary", x = (A+G)−(C+T), y = (A+C)−(G+T), z = (A+T)−(C+G) of the whole sequence (as in
            PyFeat, Muhammod et al. 2019); "normalized", the same divided by the number of bases;
            "cumulative", the curve x_n, y_n, z_n after each base (Zhang & Zhang 1994); "parameters", see
            `zcurve_parameters`.
        orders, phases: of "parameters".
        unknown: see `fastgenome.features`; a curve always skips N.

    Returns:
        float64 (n, f), f = 3 but for "parameters"; for "cumulative" Curves.

    Raises:
        ArgumentError: an unknown mode, order or number of phases.
        InputError: a sequence is not DNA.
    """
    batch = as_batch(sequences)
    if mode == "cumulative":
        if unknown != "skip":
            raise ArgumentError(f"unknown={unknown!r}: a curve skips every N; expected skip")
        check_described("cumulative", orders, phases, None)
        return cumulative_zcurve(batch)
    if mode == "parameters":
        return zcurve_parameters(batch, orders=orders, phases=phases, unknown=unknown)
    check_tabular(mode)
    check_described(mode, orders, phases, None)
    return components_of(float_counts(batch, unknown), normalized=mode == "normalized")


def zcurve_parameters(
    sequences: Iterable[str | bytes],
    *,
    orders: Sequence[int] = (1, 2, 3),
    phases: int = 3,
    parameters: ParameterSet | int | None = None,
    unknown: UnknownPolicy = "skip",
    dtype: DTypeLike = np.float64,
    out: NDArray[Any] | None = None,
    threads: int = 0,
) -> NDArray[Any]:
    """Frequency parameters of the z-curve (Gao & Zhang 2004).

    For order k, the frequencies of the four k-mers that share their first k−1 bases make one x, y, z. They
    are relative to all k-mers of that order and phase; the phase of a k-mer is the position of its first
    base, from 0, modulo `phases`.

    Args:
        sequences: n sequences.
        orders: lengths k, 1 to 8: 1 gives 3 numbers per phase, 2 gives 12, 3 gives 48.
        phases: 1 for phase-free; 3 for codon positions, where orders (1, 2, 3) give 189 parameters.
        parameters: in place of these two, a published set by its number (see PARAMETER_SETS) or any
            ParameterSet.
        unknown, dtype, out, threads: see `fastgenome.features`.

    Returns:
        (n, f) in the order of `zcurve_names`: by order, phase, prefix, then x, y, z.
    """
    if parameters is not None and (tuple(orders) != (1, 2, 3) or phases != 3):
        raise ArgumentError("parameters stands in place of orders and phases: give one or the other")
    plan = parameter_plan(parameter_set(parameters, orders, phases))
    return sequence_rows(sequences, plan, unknown=unknown, dtype=dtype, out=out, threads=threads)


def zcurve_names(
    mode: ZCurveMode = "summary",
    *,
    orders: Sequence[int] = (1,),
    phases: int = 1,
    parameters: ParameterSet | int | None = None,
) -> list[str]:
    """Column names of `zcurve`: "x"; in parameters "x_AC" (prefix AC) and "x_AC_phase2" (phases from 1)."""
    check_tabular(mode)
    check_described(mode, orders, phases, parameters)
    if mode != "parameters":
        return ["x", "y", "z"]
    return parameter_set(parameters, orders, phases).names()


def components_of(counts: NDArray[np.float64], *, normalized: bool) -> NDArray[np.float64]:
    """x, y, z from counts of A, C, G, T (n, 4), `normalized` by the number of bases: (n, 3)."""
    a, c, g, t = counts.T
    components = np.stack([(a + g) - (c + t), (a + c) - (g + t), (a + t) - (c + g)], axis=1)
    return divide(components, (a + c + g + t)[:, None]) if normalized else components


def check_tabular(mode: str) -> None:
    """Raises ArgumentError for a mode that has no fixed number of columns."""
    if mode not in ("summary", "normalized", "parameters"):
        hint = "; the function zcurve gives the curve" if mode == "cumulative" else ""
        raise ArgumentError(f"mode={mode!r}: expected summary, normalized or parameters{hint}")


def check_described(
    mode: str, orders: Sequence[int], phases: int, parameters: ParameterSet | int | None
) -> None:
    """Raises ArgumentError where the parameters are described for a mode that has none."""
    described = parameters is not None or tuple(orders) != (1,) or phases != 1
    if described and mode != "parameters":
        raise ArgumentError(f'mode={mode!r}: orders, phases and parameters need mode="parameters"')
