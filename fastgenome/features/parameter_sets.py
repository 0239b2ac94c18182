"""Sets of z-curve parameters: which k-mers, at which phases, divided by what, in which order of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastgenome import _core
from fastgenome.errors import ArgumentError
from fastgenome.features.rows import RowPlan, kmers

#: What the differences of counts are divided by, see `ParameterSet`.
ZCurveNorm = Literal["count", "length", "phase", "conditional"]

#: The published sets by their number of parameters: blocks of (order, phases). 3 to 189 are those of Gao &
#: Zhang 2004 and its forerunners: 1 phase is phase-free, 3 phases are codon positions, 69 = 9 + 12 + 48 has
#: phases for bases alone, 189 = 9 + 36 + 144; 63 = 3 + 12 + 48 is 189 without phases, and 765 = 189 + 576
#: adds tetranucleotides, as ZCurvePy does.
PARAMETER_SETS: dict[int, tuple[tuple[int, int], ...]] = {
    3: ((1, 1),),
    9: ((1, 3),),
    12: ((2, 1),),
    36: ((2, 3),),
    48: ((3, 1),),
    63: ((1, 1), (2, 1), (3, 1)),
    69: ((1, 3), (2, 1), (3, 1)),
    144: ((3, 3),),
    189: ((1, 3), (2, 3), (3, 3)),
    765: ((1, 3), (2, 3), (3, 3), (4, 3)),
}


@dataclass(frozen=True)
class ParameterSet:
    """A set of z-curve parameters.

    Args:
        blocks: pairs (order, phases), order 1 to 8. Each gives 3 · 4^(order−1) · phases numbers.
        norm: what x, y and z are divided by: "count", nothing; "length", the bases of the sequence; "phase",
            the k-mers of that order and phase (Gao & Zhang 2004); "conditional", those of them that share the
            prefix. ZCurvePy calls these freq=False, none, freq=True and local=True.
        layout: "phase-major", all prefixes of the first phase, then of the second, as ZCurvePy has it;
            "prefix-major", all phases of the first prefix, then of the second. x, y, z stand together.
        letters: order of the bases in prefixes. ZCurvePy's is "AGCT".
    """

    blocks: tuple[tuple[int, int], ...]
    norm: ZCurveNorm = "phase"
    layout: Literal["phase-major", "prefix-major"] = "phase-major"
    letters: str = "ACGT"

    def __post_init__(self) -> None:
        # Hashable, whatever sequences the caller gave.
        object.__setattr__(self, "blocks", tuple((order, phases) for order, phases in self.blocks))
        for order, phases in self.blocks:
            if not 1 <= order <= 8 or not 1 <= phases <= 1024:
                raise ArgumentError(f"blocks={self.blocks}: expected orders of 1 to 8, phases of 1 to 1024")
        if len(set(self.blocks)) < len(self.blocks):
            raise ArgumentError(f"blocks={self.blocks}: a block stands twice")
        if self.norm not in ("count", "length", "phase", "conditional"):
            raise ArgumentError(f"norm={self.norm!r}: expected count, length, phase or conditional")
        if self.layout not in ("phase-major", "prefix-major"):
            raise ArgumentError(f"layout={self.layout!r}: expected phase-major or prefix-major")
        if sorted(self.letters) != list("ACGT"):
            raise ArgumentError(f"letters={self.letters!r}: expected A, C, G and T, each once")

    @property
    def max_order(self) -> int:
        """The longest k-mer that takes part."""
        return max(order for order, _ in self.blocks)

    def names(self) -> list[str]:
        """Column names: "x", "x_AC" (prefix AC), "x_AC_phase2" (phases from 1)."""
        return [name for block in self.blocks for name in self._block_names(*block)]

    def _block_names(self, order: int, phases: int) -> list[str]:
        endings = [f"_phase{phase}" if phases > 1 else "" for phase in range(1, phases + 1)]
        prefixes = [f"_{prefix}" if prefix else "" for prefix in kmers(order - 1, self.letters)]
        if self.layout == "phase-major":
            pairs = [(prefix, ending) for ending, prefix in product(endings, prefixes)]
        else:
            pairs = list(product(prefixes, endings))
        return [f"{axis}{prefix}{ending}" for prefix, ending in pairs for axis in "xyz"]


def named_set(number: int) -> ParameterSet:
    """The published set of so many parameters; ArgumentError for a number that names none."""
    if number not in PARAMETER_SETS:
        known = ", ".join(map(str, PARAMETER_SETS))
        raise ArgumentError(f"parameters={number!r}: expected a ParameterSet or one of {known}")
    return ParameterSet(PARAMETER_SETS[number])


def parameter_set(parameters: ParameterSet | int | None, orders: Sequence[int], phases: int) -> ParameterSet:
    """The set that a caller means: `parameters` where given, else one block per order, all of `phases`."""
    if isinstance(parameters, ParameterSet):
        if not parameters.blocks:
            raise ArgumentError("parameters has no blocks")
        return parameters
    if parameters is not None:
        return named_set(parameters)
    if not orders or not all(1 <= order <= 8 for order in orders):
        raise ArgumentError(f"orders={orders!r}: expected one or more of 1 to 8")
    if not 1 <= phases <= 1024:
        raise ArgumentError(f"phases={phases!r}: expected 1 to 1024")
    return ParameterSet(tuple((order, phases) for order in orders))


@lru_cache(maxsize=32)
def parameter_plan(parameters: ParameterSet) -> RowPlan:
    """The rows of a set of parameters."""
    core = _core.ZCurveRows(list(parameters.blocks), parameters.norm)
    if parameters.layout == "phase-major" and parameters.letters == "ACGT":
        return RowPlan(core)
    order = _column_order(parameters)
    return RowPlan(core, lambda rows: np.take(rows, order, axis=1), len(order))


def _column_order(parameters: ParameterSet) -> NDArray[np.intp]:
    """The core's column of each column of the set."""
    columns: list[int] = []
    for block in parameters.blocks:
        written = ParameterSet((block,)).names()
        column = {name: len(columns) + number for number, name in enumerate(written)}
        columns += [
            column[name]
            for name in ParameterSet((block,), layout=parameters.layout, letters=parameters.letters).names()
        ]
    return np.array(columns, np.intp)
