"""Fields of VCF that hold the figures of alleles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fastgenome.errors import ArgumentError

_PARTS = {"ref": "score of REF", "alt": "score of ALT", "delta": "score of ALT - score of REF"}
_DISTANCES = {
    "cosine_distance": "1 - cosine of the embeddings of REF and ALT",
    "l2_distance": "Euclidean distance of the embeddings of REF and ALT",
}


class InfoField(NamedTuple):
    """A field of INFO with one number for each ALT, "." for one that was not scored."""

    id: str
    figure: str
    description: str

    @property
    def header_line(self) -> str:
        """Its definition."""
        return f'##INFO=<ID={self.id},Number=A,Type=Float,Description="{self.description}">'


def info_fields(figures: Sequence[str], prefix: str, how: str) -> list[InfoField]:
    """Fields for figures (see `figure_names`): the prefix and the figure's name, "_" for letters VCF forbids.

    Args:
        figures: their names.
        prefix: of the fields.
        how: the figures were found, for people.

    Raises:
        ArgumentError: the prefix cannot begin a name in VCF, or two figures would have one name.
    """
    if not re.fullmatch(r"[A-Za-z_][0-9A-Za-z_.]*", prefix):
        raise ArgumentError(
            f"info_prefix={prefix!r}: expected letters, digits, '_' and '.', first a letter or '_'"
        )
    fields = [
        InfoField(prefix + re.sub(r"[^0-9A-Za-z_.]", "_", figure), figure, f"{_meaning(figure)}, {how}")
        for figure in figures
    ]
    if len({field.id for field in fields}) < len(fields):
        raise ArgumentError(
            f"in VCF the figures {', '.join(figures)} would have names in common; write a table instead"
        )
    return fields


def check_free(fields: Iterable[InfoField], header: Iterable[bytes]) -> None:
    """ArgumentError where a header defines one of the fields already."""
    lines = list(header)
    for field in fields:
        if any(line.startswith(f"##INFO=<ID={field.id},".encode()) for line in lines):
            raise ArgumentError(
                f"the variants have a field INFO/{field.id} already; give another info_prefix, or remove the "
                f"field: bcftools annotate -x INFO/{field.id}"
            )


def _meaning(figure: str) -> str:
    if figure in _DISTANCES:
        return _DISTANCES[figure]
    column, _, part = figure.rpartition("_")
    # Names of classes are texts of the user: quotes and line ends would break the header.
    plain = re.sub(r"[^ -~]|[\"\\\\]", "_", column)
    return f"{plain}, {_PARTS[part]}"
