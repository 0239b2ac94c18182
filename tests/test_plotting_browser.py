"""Pages as a browser draws them: headless Chromium, without a network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headless_browser import Page, find_browser, opened
from plotting_files import gc_windows, write_bigwig

import fastgenome as fg
from fastgenome.plotting.gene_models import read_genes
from fastgenome.regions import Region
from fastgenome.sequences import read_sequences

pytest.importorskip("pyBigWig", reason="pyBigWig is not installed")

# Of every track of scores or genes: its name, and for each column of pixels where it begins on the contig
# and how many pixels of it are painted, and painted in the colour of the track.
PAINTED = """
window.fastgenome.browser.trackViews.filter(view => /wig|annotation/.test(view.track.type)).map(view => {
  const canvas = view.viewports[0].canvas, data = canvas._data;
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const wanted = (view.track.color || "").toString();
  const channels = /^#/.test(wanted) ? [1, 3, 5].map(i => parseInt(wanted.slice(i, i + 2), 16)) : [];
  const any = [], own = [], at = [];
  for (let x = 0; x < canvas.width; x++) {
    let some = 0, same = 0;
    for (let y = 0; y < canvas.height; y++) {
      const i = 4 * (y * canvas.width + x);
      some += pixels[i + 3] > 0;
      same += pixels[i + 3] === 255 && channels.length === 3 && channels.every((c, k) => pixels[i + k] === c);
    }
    any.push(some), own.push(same), at.push(data.bpStart + x * data.bpPerPixel);
  }
  return { name: view.track.name, type: view.track.type, any, own, at, step: data.bpPerPixel };
})
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = find_browser()
    if found is None:
        pytest.skip("needs Chromium on the path, or FASTGENOME_BROWSER pointing at it")
    return found


def painted(page: Page) -> dict[str, dict[str, Any]]:
    page.wait_until_drawn()
    return {track["name"]: track for track in page.evaluate(PAINTED)}


def assert_offline_and_sound(page: Page, path: Path) -> None:
    """Nothing was asked for but the file and data within it, and nothing went wrong."""
    assert page.errors == []
    outside = [url for url in page.requests if not url.startswith(("data:", "blob:", "about:"))]
    assert outside == [path.resolve().as_uri()]


def test_browser_leaves_blank_what_is_not_scored(browser: str, tmp_path: Path) -> None:
    scored = [(200, 800), (1200, 1500)]
    rows = [("one", start, end, 1.0) for start, end in scored]
    track = write_bigwig(tmp_path / "steps.bw", rows, {"one": 2000})
    page_path = tmp_path / "page.html"
    fg.plot_track(track, page_path, region="one")
    with opened(browser, page_path, tmp_path / "profile") as page:
        drawn = painted(page)["steps"]
        assert_offline_and_sound(page, page_path)
    at, own, step = np.array(drawn["at"]), np.array(drawn["own"]), drawn["step"]
    assert step < 5
    # A column of pixels lies within a scored stretch, outside all, or on an edge.
    inside = np.any([(at > a + step) & (at + step < b - step) for a, b in scored], axis=0)
    outside = np.all([(at > b + 2 * step) | (at + step < a - 2 * step) for a, b in scored], axis=0)
    assert inside.sum() > 300
    assert outside.sum() > 300
    assert (own[inside] > 20).all()
    assert np.array(drawn["any"])[outside].sum() == 0


def test_browser_draws_scores_and_genes_of_yeast(
    browser: str, yeast: Path, yeast_genes: Path, tmp_path: Path
) -> None:
    letters = next(record.sequence for record in read_sequences(yeast) if record.id == "IV")
    track = write_bigwig(tmp_path / "gc.bw", gc_windows("IV", letters, 50), {"IV": len(letters)})
    path = tmp_path / "page.html"
    regions = ["IV:430001-450000", "IV:450101-450150"]
    fg.plot_track(track, path, region=regions, genes=yeast_genes, genome=yeast)
    with opened(browser, path, tmp_path / "profile") as page:
        drawn = painted(page)
        types = page.evaluate("window.fastgenome.browser.trackViews.map(v => v.track.type)")
        title = page.evaluate("[...document.querySelectorAll('#regions button')].map(b => b.textContent)")
        first = "window.fastgenome.browser.referenceFrameList[0]"
        shown = page.evaluate(f"[{first}.chr, {first}.start, {first}.end]")
        read = page.evaluate("window.fastgenome.browser.genome.getSequence('IV', 450100, 450150)")
        # A gene is found by its name, in the page alone.
        page.evaluate("window.fastgenome.browser.search('YDL001W')")
        found = page.evaluate(f"[{first}.start, {first}.end]")
        screenshot = page.screenshot()
        assert_offline_and_sound(page, path)
    assert {"sequence", "wig", "annotation"} <= set(types)
    assert title == regions
    assert shown[0] == "IV"
    assert abs(shown[1] - 430_000) <= 1
    assert abs(shown[2] - 450_000) <= 1
    assert read == letters[450_100:450_150]
    gc = drawn["gc"]
    at = np.array(gc["at"])
    inside = (at > 430_050) & (at < 449_900)
    # Where two windows meet within a column of pixels, its colour is mixed.
    assert (np.array(gc["any"])[inside] > 0).all()
    assert (np.array(gc["own"])[inside] > 0).mean() > 0.6
    assert np.array(gc["any"])[at > 450_200].sum() == 0
    covered = np.zeros(len(at), bool)
    for gene in read_genes(yeast_genes, [Region("IV", 430_000, 450_000)]):
        covered |= (at >= gene.start) & (at + gc["step"] <= gene.end)
    assert (np.array(drawn["genes"]["any"])[covered & inside] > 0).all()
    (gene,) = (g for g in read_genes(yeast_genes, [Region("IV", 0, 10**7)]) if g.name == "YDL001W")
    assert found[0] <= gene.start < gene.end <= found[1] < found[0] + 10_000
    assert screenshot.startswith(b"\x89PNG")
