"""Pages with igv.js: what they hold, that they reach nothing, and that a browser draws them."""

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotting_files import (
    GENES,
    LENGTHS,
    Rows,
    per_base,
    write_bedgraph,
    write_bigwig,
    write_parquet,
)
from typer.testing import CliRunner

import fastgenome as fg
from fastgenome.cli import app
from fastgenome.errors import ArgumentError, InputError
from fastgenome.genome import Genome
from fastgenome.plotting import igv_page

pytest.importorskip("pyBigWig", reason="pyBigWig is not installed")

FOLDER = Path(igv_page.__file__).parent / "igv"


class Elements(HTMLParser):
    """Attributes of every element of a page, and the text of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def page_data(page: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Elements(page).scripts[0])
    return data


def decoded(uri: str) -> str:
    head, _, data = uri.partition(",")
    assert head == "data:application/gzip;base64"
    return gzip.decompress(base64.b64decode(data)).decode()


def bedgraph_rows(text: str) -> Rows:
    fields = [line.split("\t") for line in text.splitlines()]
    return [(contig, int(start), int(end), float(value)) for contig, start, end, value in fields]


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    rng = np.random.default_rng(6)
    path = tmp_path / "genome.fa"
    path.write_text(
        "".join(f">{name}\n{''.join(rng.choice(list('ACGT'), n))}\n" for name, n in LENGTHS.items())
    )
    return path


def test_library_is_the_published_file() -> None:
    content = (FOLDER / "igv.min.js").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert digest == "87b991ae2a720978172e269dd5127c495e56df5af31144dff19c83124e2f5744"
    assert digest in (FOLDER / "README.md").read_text()
    assert "MIT License" in (FOLDER / "LICENSE").read_text()


def test_page_holds_scores_genes_and_sequence_of_its_regions(
    bigwig: Path, gtf: Path, genome: Path, rows: Rows, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    regions = ["one:101-500", "two:11-60"]
    report = fg.plot_track(bigwig, out, region=regions, genes=gtf, genome=genome)
    data = page_data(out.read_text(encoding="utf-8"))
    config = data["config"]
    assert (data["regions"], config["locus"]) == (regions, regions[0])
    scores, genes = config["tracks"]
    embedded = bedgraph_rows(decoded(scores["url"]))
    for locus in (("one", 100, 500), ("two", 10, 60)):
        # Seven digits hold what is of float32.
        np.testing.assert_allclose(per_base(embedded, *locus), per_base(rows, *locus), rtol=1e-6)
    assert sum(end - start for _, start, end, _ in embedded) == report.tracks[0].scored_bases
    assert [gene["name"] for gene in genes["features"]] == ["ABC1", "G2", "ELSE"]
    assert genes["features"][0]["exons"] == [{"start": 100, "end": 250}, {"start": 300, "end": 400}]
    opened_genome = Genome(genome)
    assert decoded(config["reference"]["fastaURL"]) == (
        f">one:101-500 @len=2000\n{opened_genome.fetch('one', 100, 500)}\n"
        f">two:11-60 @len=300\n{opened_genome.fetch('two', 10, 60)}\n"
    )
    assert (report.sequence_bases, report.genes, config["showSequence"]) == (450, 3, True)


@pytest.mark.parametrize("ending", [".bw", ".parquet", ".bedgraph.gz"])
def test_page_without_region_holds_all_contigs(rows: Rows, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scores{ending}"
    if ending == ".bw":
        write_bigwig(path, rows, LENGTHS)
    else:
        (write_parquet if ending == ".parquet" else write_bedgraph)(path, rows)
    out = tmp_path / "page.html"
    report = fg.plot_track(path, out)
    config = page_data(out.read_text(encoding="utf-8"))["config"]
    last = {name: max(end for contig, _, end, _ in rows if contig == name) for name in LENGTHS}
    lengths = LENGTHS if ending == ".bw" else last
    assert decoded(config["reference"]["fastaURL"]) == "".join(
        f">{contig}:1-1 @len={length}\nN\n" for contig, length in lengths.items()
    )
    embedded = bedgraph_rows(decoded(config["tracks"][0]["url"]))
    for contig, length in lengths.items():
        expected = per_base(rows, contig, 0, length)
        np.testing.assert_allclose(per_base(embedded, contig, 0, length), expected, rtol=1e-6)
    assert report.regions == tuple(f"{contig}:1-{length:,}" for contig, length in lengths.items())


def test_page_loads_nothing_and_runs_only_its_own_scripts(
    bigwig: Path, gtf: Path, genome: Path, tmp_path: Path
) -> None:
    gtf.write_text(GENES.replace("ABC1", "</script><script>alert(1)</script>"))
    out = tmp_path / "<b>page.html"
    fg.plot_track(bigwig, out, region="one:101-500", genes=gtf, genome=genome)
    elements = Elements(out.read_text(encoding="utf-8"))
    loading = {"src", "href", "srcset", "data", "action", "poster", "background", "style"}
    assert [item for item in elements.attributes if item[1] in loading or item[1].startswith("on")] == []
    assert not [tag for tag, *_ in elements.attributes if tag in ("link", "iframe", "object", "base")]
    assert len(elements.scripts) == 3
    (policy,) = (value for tag, name, value in elements.attributes if (tag, name) == ("meta", "content"))
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert rules["default-src"] == "'none'"
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in elements.scripts[1:]]
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    allowed = {"'none'", "'unsafe-inline'", "data:", "blob:"}
    assert {word for name, rule in rules.items() if name != "script-src" for word in rule.split()} <= allowed
    config = json.loads(elements.scripts[0])["config"]
    assert config["tracks"][1]["features"][0]["name"] == "</script><script>alert(1)</script>"
    addresses = re.findall(r"[a-z]+://[^\"]*", json.dumps(config))
    assert addresses == []
    assert (config["loadDefaultGenomes"], config["search"]) == (False, False)


def test_page_is_the_same_again(bigwig: Path, gtf: Path, tmp_path: Path) -> None:
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        fg.plot_track(bigwig, page, region="one:101-500", genes=gtf)
    assert pages[0].read_bytes() == pages[1].read_bytes()
    size = pages[0].stat().st_size
    assert 1_500_000 < size < 1_530_000


def test_page_writes_names_of_tracks_as_text(rows: Rows, tmp_path: Path) -> None:
    path = tmp_path / "p<b id=hit>&.bedgraph"
    write_bedgraph(path, rows)
    fg.plot_track(path, tmp_path / "page.html", region="one:1-400")
    config = page_data((tmp_path / "page.html").read_text(encoding="utf-8"))["config"]
    assert config["tracks"][0]["name"] == "p&lt;b id=hit&gt;&amp;"


def test_page_refuses_too_much(bigwig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(igv_page, "MOST_INTERVALS", 20)
    with pytest.raises(ArgumentError, match="at most 20 intervals"):
        fg.plot_track(bigwig, tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()
    fg.plot_track(bigwig, tmp_path / "p.html", region="one:1-100")


def test_page_leaves_a_long_sequence_out(
    bigwig: Path, genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(igv_page, "MOST_BASES", 400)
    for last, embedded in ((400, 400), (401, 0)):
        report = fg.plot_track(bigwig, tmp_path / "p.html", region=f"one:1-{last}", genome=genome)
        assert report.sequence_bases == embedded


def test_page_refuses_names_that_igv_cannot_take(tmp_path: Path) -> None:
    track = write_bedgraph(tmp_path / "t.bedgraph", [("HLA:01", 1, 5, 1.0)])
    with pytest.raises(ArgumentError, match="contig called 'HLA:01'"):
        fg.plot_track(track, tmp_path / "p.html", region="HLA:01:1-4")


def test_page_refuses_another_genome_and_no_scores(genome: Path, tmp_path: Path) -> None:
    track = write_bedgraph(tmp_path / "t.bedgraph", [("chrone", 1, 5, 1.0)])
    with pytest.raises(ArgumentError, match="no contig 'chrone'"):
        fg.plot_track(track, tmp_path / "p.html", genome=genome)
    track.write_text("")
    with pytest.raises(ArgumentError, match="no scores"):
        fg.plot_track(track, tmp_path / "p.html")
    with pytest.raises(InputError, match="no file"):
        fg.plot_track(track, tmp_path / "p.html", genome=tmp_path / "none.fa")


def test_plot_command_writes_a_page(bigwig: Path, genome: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    regions = ("--region", "one:1-50", "--region", "two")
    arguments = ("plot", bigwig, bigwig, *regions, "--genome", genome, "-o", out, "--json")
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["regions"], report["sequence_bases"]) == (["one:1-50", "two:1-300"], 350)
    assert report["size_bytes"] == out.stat().st_size
