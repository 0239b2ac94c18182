"""Scoring of variants, beside a loop of predictions: `python benchmarks/variant_scoring.py`.

A probe on tiny and features, trained on the histone mark H3, scores both alleles of random substitutions of
the yeast genome in windows of 300 bp on both strands. The ways in turn, medians of the rounds. Figures go to
results/variant_scoring.json and, as a table, to docs/variant_scoring.md (some minutes; leave the machine
alone). `--render` writes the table anew from the stored results.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
from genome_scoring import machine, predictors, timed
from pages import write_between

import fastgenome as fg
from fastgenome.genome import Genome

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "variant_scoring.md"
RESULTS = HERE / "results" / "variant_scoring.json"
BEGIN, END = (
    "<!-- variant table: written by benchmarks/variant_scoring.py -->",
    "<!-- end of variant table -->",
)

WINDOW, VARIANTS = 300, 12_000
BEFORE = (WINDOW - 1) // 2  # bases of a window before a substitution
LOOP, TOGETHER = "loop of predict, an allele at a time", "predict, all windows at once"
# Variants of which a loop of predictions is timed, since it is slow.
LOOPED = 400
_COMPLEMENT = str.maketrans("ACGT", "TGCA")


def substitutions(genome: Genome, path: Path) -> list[tuple[str, int, str, str]]:
    """Random substitutions (contig, 0-based place, REF, ALT) in the order of the genome, and their VCF."""
    draw = np.random.default_rng(0)
    lengths = genome.lengths
    contigs = np.sort(draw.choice(len(lengths), VARIANTS, p=lengths / lengths.sum()))
    found = []
    for contig in np.unique(contigs).tolist():
        name, n = genome.names[contig], int((contigs == contig).sum())
        places = draw.choice(int(lengths[contig]) - 2 * WINDOW, n, replace=False) + WINDOW
        for place in np.sort(places).tolist():
            ref = genome.fetch(name, place, place + 1).upper()
            found.append((name, place, ref, str(draw.choice(list({*"ACGT"} - {ref})))))
    lines = [
        f"##contig=<ID={name},length={length}>" for name, length in zip(genome.names, lengths, strict=True)
    ]
    rows = [f"{name}\t{place + 1}\t.\t{ref}\t{alt}\t.\t.\t." for name, place, ref, alt in found]
    header = ["##fileformat=VCFv4.3", *lines, "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    path.write_text("\n".join([*header, *rows]) + "\n")
    return found


def loops(
    predictor: fg.Predictor, genome: Genome, variants: list[tuple[str, int, str, str]]
) -> dict[str, Callable[[], Any]]:
    """The difference of both alleles' scores, mean of both strands: a call for each, or one for all."""
    pairs = []
    for name, place, _, alt in variants[:LOOPED]:
        letters = genome.fetch(name, place - BEFORE, place - BEFORE + WINDOW).upper()
        pairs += [letters, letters[:BEFORE] + alt + letters[BEFORE + 1 :]]
    windows = [text for letters in pairs for text in (letters, letters[::-1].translate(_COMPLEMENT))]

    def difference(scores: Any) -> Any:
        ref, alt = scores.reshape(-1, 2, 2).mean(axis=2).T
        return alt - ref

    def one_by_one() -> Any:
        each = [
            predictor.predict_proba(windows[first : first + 2])[:, 1] for first in range(0, len(windows), 2)
        ]
        return difference(np.concatenate(each))

    return {LOOP: one_by_one, TOGETHER: lambda: difference(predictor.predict_proba(windows)[:, 1])}


def measure(data: Path, rounds: int) -> dict[str, Any]:
    """All figures."""
    source = next((data / "yeast_genome").glob("*.fa*"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, plain = Genome(source, in_memory=True), folder / "genome.fa"
        with plain.open("w") as file:
            file.writelines(f">{contig}\n{whole.fetch(contig)}\n" for contig in whole.names)
        genome, vcf = Genome(plain), folder / "variants.vcf"
        variants = substitutions(genome, vcf)
        made = predictors(data, folder)
        (out := folder / "out").mkdir()

        def score(predictor: fg.Predictor, workers: int | None) -> Callable[[], Any]:
            def run() -> Any:
                for left in out.iterdir():
                    left.unlink()
                outs = [out / "scored.vcf.gz", out / "scored.parquet"]
                fg.score_variants(
                    predictor, vcf, genome, out=outs, window=WINDOW, run=fg.RunOptions(workers=workers)
                )
                return parquet.read_table(outs[1])["probability_1_delta"].to_numpy()

            return run

        of_tiny = made["tiny + features"]
        ways = loops(of_tiny, genome, variants) | {
            "score_variants": score(of_tiny, None),
            "score_variants, one process": score(of_tiny, 1),
            "score_variants, features alone": score(made["features"], 1),
        }
        seconds, given = timed(ways, rounds)
        np.testing.assert_allclose(given["score_variants"][:LOOPED], given[TOGETHER], atol=4e-3)
        np.testing.assert_allclose(given["score_variants"][:LOOPED], given[LOOP], atol=4e-3)
        return {
            "machine": machine(),
            "variants": VARIANTS,
            "looped": LOOPED,
            "seconds": seconds,
        }


def alleles_per_second(results: dict[str, Any], name: str) -> float:
    """Alternative alleles that are compared with the reference in a second."""
    n = results["looped"] if name in (LOOP, TOGETHER) else results["variants"]
    return float(n / results["seconds"][name])


def render(results: dict[str, Any]) -> str:
    """The table: alleles a second, and multiples of the loop."""
    loop = alleles_per_second(results, LOOP)
    lines = ["| way | alleles/s | × the loop |", "|---|---|---|"]
    for name in results["seconds"]:
        rate = alleles_per_second(results, name)
        lines.append(f"| {name} | {rate:,.0f} | {rate / loop:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    data = Path(os.environ.get("FASTGENOME_DATA", HERE.parent / ".." / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--render", action="store_true", help="write the table from the stored results")
    options = parser.parse_args()
    if not options.render:
        RESULTS.write_text(json.dumps(measure(options.data, options.rounds), indent=2) + "\n")
    write_between(PAGE, BEGIN, END, render(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
