"""Contigs of a file among those of a genome, where one of the two writes chr1 and the other 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fastgenome.errors import InputError

_MITOCHONDRIA = frozenset({"chrM", "chrMT", "M", "MT"})


class FoundContig(NamedTuple):
    """The place of a contig in the genome; −1 and a reason where it has none."""

    place: int
    reason: str = ""


class ContigNames:
    """Finds contigs of a file in a genome by their name, or by another name of the same contig.

    Other names are those with and without "chr"; chrM, chrMT, M and MT are one. Another name counts only
    where it is unambiguous: just one contig of the genome has one of these names, and no other contig of the
    file is that one.

    Args:
        genome: names of the genome's contigs.
        declared: names that the file declares; others may occur.

    Attributes:
        aliases: names of the file that were found by another name, and that name.
    """

    def __init__(self, genome: Sequence[str], declared: Iterable[str] = ()) -> None:
        self.aliases: dict[str, str] = {}
        self._genome = genome
        self._places = {name: place for place, name in enumerate(genome)}
        self._known: dict[str, FoundContig] = {}
        names = dict.fromkeys(declared)
        found = {name: self._look(name) for name in names}
        owners = Counter(contig.place for contig in found.values() if contig.place >= 0)
        for name, contig in found.items():
            shared = contig.place >= 0 and owners[contig.place] > 1 and name not in self._places
            self._known[name] = FoundContig(-1, "ambiguous_contig") if shared else contig
        self._owners = {contig.place: name for name, contig in self._known.items() if contig.place >= 0}

    def find(self, name: str) -> FoundContig:
        """Find a contig of the file; to be called for those that occur.

        Raises:
            InputError: a name that was not declared is that of a contig found by another name before.
        """
        contig = self._known.get(name)
        if contig is None:
            contig = self._known[name] = self._look(name)
            if contig.place >= 0:
                owner = self._owners.setdefault(contig.place, name)
                if owner != name:
                    raise InputError(
                        f"the contigs {owner!r} and {name!r} would both be {self._genome[contig.place]!r} of "
                        "the genome; give them one name, or declare them in the file's header"
                    )
        if contig.place >= 0 and self._genome[contig.place] != name:
            self.aliases[name] = self._genome[contig.place]
        return contig

    def _look(self, name: str) -> FoundContig:
        if name in self._places:
            return FoundContig(self._places[name])
        places = [self._places[other] for other in _other_names(name) if other in self._places]
        if len(places) == 1:
            return FoundContig(places[0])
        return FoundContig(-1, "ambiguous_contig" if places else "unknown_contig")


def _other_names(name: str) -> frozenset[str]:
    if name in _MITOCHONDRIA:
        return _MITOCHONDRIA - {name}
    return frozenset({name[3:] if name.startswith("chr") else f"chr{name}"})
