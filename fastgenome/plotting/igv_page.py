"""A page with igv.js and all data in one HTML file, which needs no network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from fastgenome.errors import ArgumentError
from fastgenome.genome import Genome
from fastgenome.plotting.gene_models import Gene
from fastgenome.plotting.segments import Segments
from fastgenome.plotting.texts import printable
from fastgenome.regions import Region

# About 15 bytes each in the page, and as many objects in the browser's memory.
MOST_INTERVALS = 500_000
# A byte each in the page, before compression.
MOST_BASES = 5_000_000

_COLOURS = ("#1b4f72", "#7d3c98", "#1f6f54", "#9c3d2e", "#7d6608", "#424949")

# What the page may do: run these two scripts, use styles and images of its own, and reach nothing else.
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; connect-src data: blob:; base-uri 'none'; form-action 'none'"
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
body {{ font: 14px sans-serif; margin: 1em; }}
#regions button {{ margin: 0 0.5em 0.5em 0; }}
</style>
</head>
<body>
<p>{note}</p>
<nav id="regions"></nav>
<div id="browser"></div>
<script type="application/json" id="page-data">{data}</script>
<script>{library}</script>
<script>{script}</script>
</body>
</html>
"""


class PageTrack(NamedTuple):
    """A score over the loci of a page, one piece for each."""

    name: str
    pieces: tuple[Segments, ...]


class Reference(NamedTuple):
    """What igv.js knows of the genome.

    Attributes:
        lengths: contig → bases, of the contigs of the loci.
        letters: of each locus; empty where there is no genome or it is too long to embed.
    """

    lengths: Mapping[str, int]
    letters: tuple[str, ...] = ()


def reference_of(loci: Sequence[Region], lengths: Mapping[str, int], genome: Genome | None) -> Reference:
    """Take the lengths of the contigs of the loci and, up to 5 million bases of it, the sequence."""
    wanted = {locus.contig: lengths[locus.contig] for locus in loci}
    if genome is None or sum(locus.end - locus.start for locus in loci) > MOST_BASES:
        return Reference(wanted)
    return Reference(wanted, tuple(genome.fetch_many(loci)))


def render_page(
    tracks: Sequence[PageTrack], loci: Sequence[Region], reference: Reference, genes: Sequence[Gene] | None
) -> bytes:
    """Return an HTML page that draws tracks and genes with igv.js, without any request.

    The page holds the library (1.5 MB), and of tracks, genes and sequence only what lies in the loci. Its
    content security policy forbids the browser every request and every script but its own two.

    Raises:
        ArgumentError: there are more than 500,000 intervals, or a contig has a name that igv.js cannot take.
    """
    total = sum(len(piece.starts) for track in tracks for piece in track.pieces)
    if total > MOST_INTERVALS:
        raise ArgumentError(
            f"a page holds at most {MOST_INTERVALS:,} intervals and {total:,} were asked for; "
            "choose smaller regions (--region)"
        )
    for contig in reference.lengths:
        # Printable ASCII but for the blank.
        if not re.fullmatch("[!-9;-~]+", contig):
            raise ArgumentError(f"igv.js cannot show a contig called {contig!r}; a picture (.png, .svg) can")
    shown = ", ".join(map(str, loci[:5])) + (f" and {len(loci) - 5} more" if len(loci) > 5 else "")
    data = {
        "config": _config(tracks, loci, reference, genes),
        "regions": [_searched(locus) for locus in loci],
    }
    library = _resource("igv.min.js").rpartition("//# sourceMappingURL=")[0]
    script = _resource("page.js")
    policy = _POLICY.format(scripts=" ".join(f"'sha256-{_digest(text)}'" for text in (library, script)))
    note = f"This page holds {shown}; what lies outside is not in it."
    page = _PAGE.format(
        policy=policy,
        title=html.escape(printable(f"{', '.join(track.name for track in tracks)}: {shown}")),
        note=html.escape(note),
        # "<" could end the element; JSON may write it as an escape.
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        library=library,
        script=script,
    )
    return page.encode()


def _resource(name: str) -> str:
    return files("fastgenome.plotting").joinpath("igv", name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _searched(locus: Region) -> str:
    return f"{locus.contig}:{locus.start + 1}-{locus.end}"


def _config(
    tracks: Sequence[PageTrack], loci: Sequence[Region], reference: Reference, genes: Sequence[Gene] | None
) -> dict[str, Any]:
    """The configuration of igv.js: everything within, nothing to look up."""
    drawn = [_score_track(track, loci, index) for index, track in enumerate(tracks)]
    if genes is not None:
        drawn.append(_gene_track(genes))
    return {
        "loadDefaultGenomes": False,
        "queryParametersSupported": False,
        "search": False,
        "reference": _reference_config(reference, loci),
        "showSequence": bool(reference.letters),
        "locus": _searched(loci[0]),
        "tracks": drawn,
    }


def _reference_config(reference: Reference, loci: Sequence[Region]) -> dict[str, Any]:
    """Stretches of sequence, each with its place and the length of its contig.

    igv.js 3.8.10 takes lengths alone only from an address that is no data URI. One N at the beginning of each
    contig, of a sequence that is not shown, tells them as well.
    """
    stretches = (
        list(zip(loci, reference.letters, strict=True))
        if reference.letters
        else [(Region(contig, 0, 1), "N") for contig in reference.lengths]
    )
    fasta = "".join(
        f">{_searched(locus)} @len={reference.lengths[locus.contig]}\n{letters}\n"
        for locus, letters in stretches
    )
    return {"id": "embedded", "name": "embedded", "fastaURL": _data_uri(fasta)}


def _score_track(track: PageTrack, loci: Sequence[Region], index: int) -> dict[str, Any]:
    lines = [
        f"{locus.contig}\t{start}\t{end}\t{value:.7g}\n"
        for locus, piece in zip(loci, track.pieces, strict=True)
        for start, end, value in zip(
            piece.starts.tolist(), piece.ends.tolist(), piece.values.tolist(), strict=True
        )
    ]
    return {
        # igv.js writes it into the page as it stands.
        "name": html.escape(printable(track.name)),
        "type": "wig",
        "format": "bedgraph",
        "url": _data_uri("".join(lines)),
        "height": 100,
        "color": _COLOURS[index % len(_COLOURS)],
    }


def _gene_track(genes: Sequence[Gene]) -> dict[str, Any]:
    features = [
        {
            "chr": gene.contig,
            "start": gene.start,
            "end": gene.end,
            "name": printable(gene.name),
            "id": printable(gene.id),
            "strand": gene.strand,
            "exons": [{"start": start, "end": end} for start, end in gene.exons],
        }
        for gene in genes
    ]
    return {
        "name": "genes",
        "type": "annotation",
        "displayMode": "EXPANDED",
        "searchable": True,
        "height": 150,
        "features": features,
    }


def _data_uri(text: str) -> str:
    # Without a time in the header the same data give the same bytes.
    packed = gzip.compress(text.encode(), mtime=0)
    return "data:application/gzip;base64," + base64.b64encode(packed).decode()
