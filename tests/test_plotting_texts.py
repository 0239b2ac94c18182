"""Texts that XML and HTML cannot hold, from names of files, columns, contigs and genes."""

import html
import json
import os
import re
import sys
import unicodedata
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from genome_files import write
from plotting_files import GENES, write_bedgraph, write_parquet

import fastgenome as fg
from fastgenome.errors import ArgumentError
from fastgenome.plotting.texts import printable
from fastgenome.regions import Region
from fastgenome.scoring.saturation_picture import draw_saturation

SVG = "{http://www.w3.org/2000/svg}"


def test_printable_is_what_xml_can_hold() -> None:
    for code in range(sys.maxunicode + 1):
        letter = chr(code)
        # XML 1.0, production 2, but for control characters, which are none of it or only white space.
        held = 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
        kept = held and unicodedata.category(letter) != "Cc"
        shown = letter if kept else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
        assert printable(f"a{letter}") == f"a{shown}"


@pytest.fixture
def strange(tmp_path: Path) -> tuple[list[Path], Path]:
    """Tracks and genes whose names hold what neither a picture nor a page can."""
    rows = [("o\x03ne", 0, 90, 1.0), ("one", 0, 90, 1.0)]
    named = tmp_path / (os.fsdecode(b"gc\xff") + "\x01\x1b.bedgraph")
    column = write_parquet(tmp_path / "t.parquet", rows, **{"p\x00\ufffe\n<&": [2.0, 2.0]})
    genes = "".join(GENES.replace("one\t", f"{name}\t") for name in ("one", "o\x03ne"))
    return [write_bedgraph(named, rows), column], write(
        tmp_path / "g.gtf", genes.replace("ABC1", "AB\x08\x7fC1").replace("G2", "\x02<G2")
    )


NAMES = ["gc\\udcff\\x01\\x1b", "score", "p\\x00\\ufffe\\x0a<&"]


def test_picture_shows_control_characters_as_escapes(
    strange: tuple[list[Path], Path], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    tracks, genes = strange
    out = tmp_path / "p.svg"
    fg.plot_track(tracks, out, region="o\x03ne:1-1000", genes=genes)
    texts = {element.text for element in ElementTree.fromstring(out.read_bytes()).iter(f"{SVG}text")}
    assert {*NAMES, "AB\\x08\\x7fC1", "\\x02<G2", "o\\x03ne (base, from 1)"} <= texts


def test_heat_map_shows_control_characters_as_escapes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    out = tmp_path / "p.svg"
    draw_saturation(out, Region("o\x03ne", 0, 9), [], ["probability_\x00\x1b_delta"])
    texts = {element.text for element in ElementTree.fromstring(out.read_bytes()).iter(f"{SVG}text")}
    assert {
        "every single-base change of o\\x03ne:1-9",
        "position in o\\x03ne (from 1)",
        "probability \\x00\\x1b delta",
    } <= texts


def test_page_shows_control_characters_as_escapes(strange: tuple[list[Path], Path], tmp_path: Path) -> None:
    tracks, genes = strange
    out = tmp_path / "p.html"
    fg.plot_track(tracks, out, region="one:1-1000", genes=genes)
    page = re.sub("<script>.*?</script>", "", out.read_bytes().decode(), flags=re.DOTALL)
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffe]", page) == []
    title = re.search("<title>(.*?)</title>", page)
    assert title is not None
    assert html.unescape(title[1]) == f"{', '.join(NAMES)}: one:1-1,000"
    data = re.search('id="page-data">(.*?)</script>', page)
    assert data is not None
    *scores, drawn = json.loads(data[1])["config"]["tracks"]
    assert [track["name"] for track in scores] == [html.escape(name) for name in NAMES]
    assert {gene["name"] for gene in drawn["features"]} >= {"AB\\x08\\x7fC1", "\\x02<G2"}
    with pytest.raises(ArgumentError, match=r"contig called 'o\\x03ne'"):
        fg.plot_track(tracks, out, region="o\x03ne:1-1000")
