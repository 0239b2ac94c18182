"""Score tracks and genes of a region as a picture, or as a page to browse."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastgenome.atomic import atomic_file
from fastgenome.errors import ArgumentError
from fastgenome.genome import Genome, open_genome
from fastgenome.plotting.gene_models import Gene, read_genes
from fastgenome.plotting.igv_page import PageTrack, reference_of, render_page
from fastgenome.plotting.locus import Extents, parse_locus, within
from fastgenome.plotting.picture import Panel, write_picture
from fastgenome.plotting.score_files import read_scores
from fastgenome.plotting.score_tracks import ScoreFile, ScoreTrack
from fastgenome.plotting.segments import Segments
from fastgenome.regions import Region
from fastgenome.streams import PathLike

ENDINGS = (".png", ".svg", ".html")
_MOST_TRACKS = 24


@dataclass(frozen=True)
class TrackSummary:
    """What was drawn of a score.

    Attributes:
        name: of the panel.
        intervals: scored intervals; where those of the file overlap, the pieces of them.
        scored_bases: bases with a score, of `bases` in the regions.
        lowest, highest: score; None where nothing is scored.
        infinite: intervals left blank because their score is infinite.
    """

    name: str
    intervals: int
    scored_bases: int
    bases: int
    lowest: float | None
    highest: float | None
    infinite: int


@dataclass(frozen=True)
class PlotReport:
    """What was drawn.

    Attributes:
        out: the file written.
        regions: as browsers write them: bases from 1, both ends included.
        tracks: in the order drawn.
        genes: genes that touch the regions; None where none were asked for.
        sequence_bases: letters embedded in a page.
        size_bytes: of the file.
    """

    out: str
    regions: tuple[str, ...]
    tracks: tuple[TrackSummary, ...]
    genes: int | None
    sequence_bases: int
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return asdict(self)

    def summary(self) -> str:
        """A line for the file and one for each track."""
        genes = "" if self.genes is None else f", {self.genes:,} genes"
        letters = f", {self.sequence_bases:,} bases of sequence" if self.sequence_bases else ""
        where = ", ".join(self.regions[:3]) + (" …" if len(self.regions) > 3 else "")
        lines = [f"{where} in {self.out}: {self.size_bytes / 1e3:,.0f} kB{genes}{letters}"]
        for track in self.tracks:
            span = "" if track.lowest is None else f", {track.lowest:.4g} to {track.highest:.4g}"
            left = f", {track.infinite:,} infinite left blank" if track.infinite else ""
            scored = f"{track.scored_bases:,} of {track.bases:,} bases scored"
            lines.append(f"  {track.name}: {track.intervals:,} intervals, {scored}{span}{left}")
        return "\n".join(lines)


def plot_track(
    tracks: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    region: str | Sequence[str] | None = None,
    genes: PathLike | None = None,
    genome: PathLike | None = None,
    columns: str | Sequence[str] = (),
) -> PlotReport:
    """Draw score tracks, and the genes below them, as a picture or as a page to browse.

    A base without a score is left blank. Where intervals overlap, a base has their mean.

    Args:
        tracks: see `read_scores`; one panel for each file, or column of a Parquet file.
        out: .png or .svg, or .html: igv.js and the data in one file that needs no network.
        region: `contig:first-last` as browsers write it, bases counted from 1 and the last included, so that
            "IV:1-100" is [0, 100) elsewhere in this package; or a contig, for all of it: to its end where a
            file tells it, else to that of the longest track. A picture has one; a page has any number, and
            without any all contigs.
        genes: GTF, plain or gzip.
        genome: FASTA or 2bit, for lengths of contigs and the sequence in a page.
        columns: scores of Parquet files; by default every column of numbers.

    Raises:
        ArgumentError: the ending of `out` is not known; a region is malformed or does not lie in a contig of
            every file; there is too much for a page.
        InputError: a file is missing or cannot be used.
        MissingExtraError: matplotlib or pyBigWig is needed and not installed.
    """
    kind, paths, names = _kind(out), _listed(tracks), _listed(columns)
    wanted = [parse_locus(text) for text in _listed(region or ())]
    _check_counts(kind, paths, wanted, names)
    opened = None if genome is None else open_genome(genome)
    files = [read_scores(path, wanted or None, columns=names) for path in paths]
    extents = [file.extents for file in files]
    known = [] if opened is None else [_extents(opened)]
    lengths = _lengths(known or extents)
    loci = _checked(wanted, [*known, *extents]) if wanted else _all_of(lengths, extents, known)
    if not loci:
        raise ArgumentError(f"{', '.join(map(str, paths))}: there are no scores, so there is nothing to draw")
    found = None if genes is None else read_genes(genes, loci)
    named = _named(files)
    pieces = [tuple(track.segments(locus) for locus in loci) for _, track in named]
    letters = _write(out, kind, [name for name, _ in named], pieces, loci, found, lengths, opened)
    return PlotReport(
        str(out),
        tuple(map(str, loci)),
        tuple(_summary(name, part, loci) for (name, _), part in zip(named, pieces, strict=True)),
        None if found is None else len(found),
        letters,
        Path(out).stat().st_size,
    )


def _kind(out: PathLike) -> str:
    name = os.fspath(out)
    if not name.lower().endswith(ENDINGS):
        raise ArgumentError(f"the ending of {name!r} is not known; use one of {', '.join(ENDINGS)}")
    return name.lower().rpartition(".")[2]


def _listed(value: Any) -> list[Any]:
    """One text or path, or several, as a list."""
    return [value] if isinstance(value, (str, os.PathLike)) else list(value)


def _check_counts(kind: str, paths: list[PathLike], wanted: list[Region], columns: list[str]) -> None:
    """Refuse arguments that leave nothing to draw, or too much."""
    if not paths:
        raise ArgumentError("tracks: give at least one file of scores")
    if kind != "html" and len(wanted) != 1:
        raise ArgumentError(
            f"region: a picture shows one, and got {len(wanted)}; a page (.html) may show more"
        )
    if columns and not any(os.fspath(path).lower().endswith(".parquet") for path in paths):
        raise ArgumentError(f"columns {', '.join(columns)}: none of the tracks is a Parquet file")


def _extents(genome: Genome) -> Extents:
    lengths = zip(genome.names, genome.lengths.tolist(), strict=True)
    return Extents(str(genome.path), dict(lengths), exact=True)


def _lengths(files: Sequence[Extents]) -> dict[str, int]:
    """Contig → bases, the most that any file tells."""
    lengths: dict[str, int] = {}
    for file in files:
        for contig, length in file.lengths.items():
            lengths[contig] = max(length, lengths.get(contig, 0))
    return lengths


def _checked(loci: Sequence[Region], files: Sequence[Extents]) -> list[Region]:
    """The loci with their ends; each must lie in every file."""
    # The first to refuse is one that knows lengths of contigs.
    files = sorted(files, key=lambda file: not file.exact)
    return [within(locus, files) for locus in loci]


def _all_of(lengths: dict[str, int], files: Sequence[Extents], genome: Sequence[Extents]) -> list[Region]:
    """All contigs; what the files hold must lie in those of the genome, if there is one."""
    if genome:
        for file in files:
            _checked([Region(contig, 0, length) for contig, length in file.lengths.items()], genome)
    return [Region(contig, 0, length) for contig, length in lengths.items()]


def _named(files: Sequence[ScoreFile]) -> list[tuple[str, ScoreTrack]]:
    """The tracks of all files, each with a name of its own."""
    tracks = [(file, track) for file in files for track in file.tracks]
    if len(tracks) > _MOST_TRACKS:
        raise ArgumentError(
            f"{len(tracks)} tracks, of which at most {_MOST_TRACKS} are drawn: choose with columns (--column)"
        )
    names = [track.name for _, track in tracks]
    return [
        (track.name if names.count(track.name) == 1 else f"{file.source}: {track.name}", track)
        for file, track in tracks
    ]


def _write(
    out: PathLike,
    kind: str,
    names: Sequence[str],
    pieces: Sequence[tuple[Segments, ...]],
    loci: Sequence[Region],
    genes: Sequence[Gene] | None,
    lengths: dict[str, int],
    genome: Genome | None,
) -> int:
    """Write the file, whole or not at all; return the bases of sequence in it."""
    if kind != "html":
        panels = [Panel(name, part[0]) for name, part in zip(names, pieces, strict=True)]
        with atomic_file(out) as file:
            write_picture(file, kind, panels, loci[0], genes)
        return 0
    # A file without lengths of contigs may end before a locus does.
    known = dict(lengths)
    for locus in loci:
        known[locus.contig] = max(known[locus.contig], locus.end)
    reference = reference_of(loci, known, genome)
    page = render_page([PageTrack(*pair) for pair in zip(names, pieces, strict=True)], loci, reference, genes)
    with atomic_file(out) as file:
        file.write(page)
    return sum(map(len, reference.letters))


def _summary(name: str, pieces: Sequence[Segments], loci: Sequence[Region]) -> TrackSummary:
    scored = [piece for piece in pieces if len(piece.values)]
    return TrackSummary(
        name=name,
        intervals=sum(len(piece.values) for piece in scored),
        scored_bases=sum(piece.bases for piece in scored),
        bases=sum(locus.end - locus.start for locus in loci),
        lowest=min((float(piece.values.min()) for piece in scored), default=None),
        highest=max((float(piece.values.max()) for piece in scored), default=None),
        infinite=sum(piece.infinite for piece in pieces),
    )
