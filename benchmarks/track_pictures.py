"""The pictures of docs/plotting.md: `python benchmarks/track_pictures.py GENOME.fa.gz GENES.gtf.gz`.

GC content of windows of 50 bases over a piece of yeast's chromosome IV, above its genes: as a picture, and as
a page opened in headless Chromium (FASTGENOME_BROWSER, or one on the path; without one the screenshot is left
out).
"""

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
REGION = "IV:430001-450000"
WINDOW = 50

sys.path.insert(0, str(HERE.parent / "tests"))


def main() -> None:
    from headless_browser import find_browser, opened
    from plotting_files import gc_windows, write_bigwig

    import fastgenome as fg
    from fastgenome.sequences import read_sequences

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("genome", type=Path)
    parser.add_argument("genes", type=Path)
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "pictures")
    arguments = parser.parse_args()
    contig = REGION.partition(":")[0]
    letters = next(record.sequence for record in read_sequences(arguments.genome) if record.id == contig)
    how = {"region": REGION, "genes": arguments.genes}
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = gc_windows(contig, letters, WINDOW)
        track = write_bigwig(Path(folder, f"GC content, {WINDOW} bp.bw"), rows, {contig: len(letters)})
        print(fg.plot_track(track, arguments.out / "yeast_gc.png", **how).summary())
        page = Path(folder, "page.html")
        print(fg.plot_track(track, page, genome=arguments.genome, **how).summary())
        if (browser := find_browser()) is None:
            print("no browser, so no picture of the page")
            return
        with opened(browser, page, Path(folder, "profile"), width=1100, height=480) as view:
            view.wait_until_drawn()
            (arguments.out / "yeast_gc_page.png").write_bytes(view.screenshot())


if __name__ == "__main__":
    main()
