"""Scoring of the yeast genome, beside a loop of predictions: `python benchmarks/genome_scoring.py`.

A probe on tiny and features, trained on the histone mark H3, scores windows of 300 bp on both strands. Ratios
come from one chromosome, the ways in turn, medians of the rounds; the whole genome is scored once. What a
shared context does to predictions is seen with a probe that tells coding windows, trained on the other
chromosomes. Figures go to results/genome_scoring.json and, as a table, to docs/genome_scoring.md (a quarter
of an hour; leave the machine alone). `--render` writes the table anew from the stored results.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import torch
from numpy.typing import NDArray
from pages import write_between
from sklearn.metrics import matthews_corrcoef, roc_auc_score

import fastgenome as fg
from fastgenome.genome import Genome

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "genome_scoring.md"
RESULTS = HERE / "results" / "genome_scoring.json"
BEGIN, END = "<!-- genome table: written by benchmarks/genome_scoring.py -->", "<!-- end of genome table -->"

FEATURES = ("zcurve", "gc", "kmer")
WINDOW, CONTEXT = 300, 1800
CHROMOSOME = "I"
LOOP = "loop of predict, a window at a time"
# Windows of which a loop of predictions is timed, since it is slow.
LOOPED = 1000
# Windows that the probe of coding sequences learns from.
TRAINED = 8000


def predictors(data: Path, folder: Path) -> dict[str, fg.Predictor]:
    """A probe on tiny and features, and one on features alone."""
    train = data / "gue" / "H3" / "dev.csv.gz"
    made = {"tiny + features": "tiny", "features": None}
    found = {}
    for name, model in made.items():
        fg.finetune(train, model=model, method="probe", features=FEATURES).save(folder / name)
        found[name] = fg.Predictor.load(folder / name)
    return found


def loops(predictor: fg.Predictor, genome: Path) -> dict[str, Callable[[], Any]]:
    """Predictions for some windows on both strands, one call for each window, or for all of them."""
    text = Genome(genome).fetch(CHROMOSOME)
    windows = [text[start : start + WINDOW] for start in range(0, 50 * LOOPED, 50)]
    swap = str.maketrans("ACGT", "TGCA")
    other = [window[::-1].translate(swap) for window in windows]

    def one_by_one() -> Any:
        pairs = zip(windows, other, strict=True)
        return np.array([predictor.predict_proba([a, b])[:, 1].mean() for a, b in pairs])

    def together() -> Any:
        return (predictor.predict_proba(windows)[:, 1] + predictor.predict_proba(other)[:, 1]) / 2

    return {LOOP: one_by_one, "predict, all windows at once": together}


def scoring(predictor: fg.Predictor, genome: Path, folder: Path, **options: Any) -> Callable[[], Any]:
    """A job that writes bigWig and Parquet anew."""
    run = fg.RunOptions(workers=options.pop("workers", None), emissions=bool(options.pop("emissions", False)))

    def score() -> Any:
        for left in folder.iterdir():
            left.unlink()
        outs = [folder / "scores.bw", folder / "scores.parquet"]
        report = fg.score_genome(predictor, genome, out=outs, window=WINDOW, run=run, **options)
        return report, parquet.read_table(outs[1])["probability_1"].to_numpy()

    return score


def timed(ways: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds of each way, in turn, and what each gave last."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    given = {}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            given[name] = way()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}, given


def machine() -> dict[str, Any]:
    """Where figures were taken."""
    processor = platform.processor() or platform.machine()
    return {"processor": processor, "cores": os.cpu_count(), "torch": torch.__version__}


def coding(data: Path, contigs: dict[str, int]) -> dict[str, NDArray[np.float64]]:
    """Of each contig how many bases before a place lie in a coding sequence of either strand."""
    marks = {name: np.zeros(length + 1) for name, length in contigs.items()}
    with gzip.open(next((data / "yeast_genome").glob("*.gtf.gz")), "rt") as file:
        for line in file:
            cells = line.split("\t")
            if len(cells) > 4 and cells[2] == "CDS":
                marks[cells[0]][int(cells[3]) : int(cells[4]) + 1] = 1
    return {name: np.cumsum(found) for name, found in marks.items()}


def is_coding(before: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whether more than half of a window is coding."""
    return (before[starts + WINDOW] - before[starts] > WINDOW / 2).astype(np.int64)


def labelled(data: Path, genome: Path, chromosome: Path, folder: Path) -> dict[str, dict[str, float]]:
    """AUC and MCC on the windows of one chromosome, each scored alone and with a shared context."""
    opened = Genome(genome)
    lengths = dict(zip(opened.names, opened.lengths.tolist(), strict=True))
    before, draw = coding(data, lengths), np.random.default_rng(0)
    others = [name for name in lengths if name not in (CHROMOSOME, "Mito")]
    texts, labels = [], []
    for name in others:
        starts = draw.integers(0, lengths[name] - WINDOW, TRAINED // len(others))
        texts += [opened.fetch(name, start, start + WINDOW) for start in starts.tolist()]
        labels += is_coding(before[name], starts).tolist()
    fg.finetune((texts, labels), model="tiny", method="probe", features=FEATURES).save(folder / "coding")
    predictor = fg.Predictor.load(folder / "coding")
    (out := folder / "coding scores").mkdir()
    alone, shared = (
        scoring(predictor, chromosome, out, stride=50, context=context)()[1] for context in (None, CONTEXT)
    )
    truth = is_coding(before[CHROMOSOME], np.arange(0, lengths[CHROMOSOME] - WINDOW + 1, 50))
    return {
        "windows": {"n": len(truth), "coding": float(truth.mean())},
        "alone": accuracy(truth, alone),
        "context": accuracy(truth, shared),
        "both": {"same": float(np.mean((alone > 0.5) == (shared > 0.5)))},
    }


def accuracy(truth: NDArray[np.int64], scores: NDArray[np.float32]) -> dict[str, float]:
    """AUC, and MCC at one half."""
    return {
        "auc": float(roc_auc_score(truth, scores)),
        "mcc": float(matthews_corrcoef(truth, scores > 0.5)),
    }


def one_chromosome(genome: Path, folder: Path) -> Path:
    """A FASTA of one chromosome alone."""
    path = folder / f"{CHROMOSOME}.fa"
    path.write_text(f">{CHROMOSOME}\n{Genome(genome).fetch(CHROMOSOME)}\n")
    return path


def measure(data: Path, rounds: int, *, whole: bool) -> dict[str, Any]:
    """All figures."""
    source = next((data / "yeast_genome").glob("*.fa*"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (out := folder / "out").mkdir()
        genome = folder / "genome.fa"
        with genome.open("w") as file:
            whole_genome = Genome(source, in_memory=True)
            file.writelines(f">{contig}\n{whole_genome.fetch(contig)}\n" for contig in whole_genome.names)
        chromosome = one_chromosome(genome, folder)
        made = predictors(data, folder)
        of_tiny, of_features = made["tiny + features"], made["features"]
        job = partial(scoring, of_tiny, chromosome, out)
        ways = loops(of_tiny, genome) | {
            "stride 50": job(stride=50),
            "stride 300": job(stride=300),
            "stride 50, context": job(stride=50, context=CONTEXT),
            "stride 300, context": job(stride=300, context=CONTEXT),
        }
        seconds, given = timed(ways, rounds)
        looped = given["predict, all windows at once"]
        np.testing.assert_allclose(given["stride 50"][1][:LOOPED], looped, atol=2e-3)
        alone = {
            f"features, stride {stride}, one process": scoring(
                of_features, genome, out, stride=stride, workers=1
            )
            for stride in (300, 50)
        }
        of_features_seconds, features_given = timed(alone, rounds)
        results = {
            "machine": machine(),
            "dtype": str(of_tiny.model.dtype) if of_tiny.model is not None else "",
            "chromosome_bases": int(Genome(chromosome).lengths.sum()),
            "looped_windows": LOOPED,
            "seconds": seconds,
            "features_seconds": of_features_seconds,
            "genome_bases": int(whole_genome.lengths.sum()),
            "correlation_of_context": float(
                np.corrcoef(given["stride 50"][1], given["stride 50, context"][1])[0, 1]
            ),
            "labelled": labelled(data, genome, chromosome, folder),
            "features_windows": {name: len(found[1]) for name, found in features_given.items()},
        }
        if whole:
            full = {
                "stride 50": scoring(of_tiny, genome, out, stride=50, emissions=True),
                "stride 50, context": scoring(
                    of_tiny, genome, out, stride=50, context=CONTEXT, emissions=True
                ),
            }
            reports = {name: way()[0] for name, way in full.items()}
            results["whole"] = {name: report.seconds for name, report in reports.items()}
            results["whole_footprint"] = {
                name: {**asdict(report.footprint), "bases": report.bases} for name, report in reports.items()
            }
        return results


def windows_per_second(results: dict[str, Any], name: str) -> float:
    """Windows of 300 bp on both strands in a second."""
    seconds = results["seconds"][name]
    if name in (LOOP, "predict, all windows at once"):
        return float(results["looped_windows"] / seconds)
    stride = 50 if "stride 50" in name else 300
    return float(((results["chromosome_bases"] - WINDOW) // stride + 1) / seconds)


def whole_windows_per_second(results: dict[str, Any], name: str) -> float:
    """The same over the whole genome, at stride 50."""
    return float(results["features_windows"]["features, stride 50, one process"] / results["whole"][name])


def render(results: dict[str, Any]) -> str:
    """The table: windows and bases a second, and multiples of the loop."""
    loop = windows_per_second(results, LOOP)
    lines = ["| way | windows/s | kbp/s | × the loop |", "|---|---|---|---|"]
    for name, seconds in results["seconds"].items():
        rate = windows_per_second(results, name)
        bases = rate * 50 if "predict" in name else results["chromosome_bases"] / seconds
        where = "" if "predict" in name else f"chromosome {CHROMOSOME}, "
        lines.append(f"| {where}{name} | {rate:,.0f} | {bases / 1e3:,.0f} | {rate / loop:.1f} |")
    for name, seconds in results.get("whole", {}).items():
        rate, bases = whole_windows_per_second(results, name), results["genome_bases"] / seconds
        lines.append(f"| whole genome, {name} | {rate:,.0f} | {bases / 1e3:,.0f} | {rate / loop:.1f} |")
    for name, seconds in results["features_seconds"].items():
        rate = results["features_windows"][name] / seconds
        bases = results["genome_bases"] / seconds
        lines.append(f"| whole genome, {name} | {rate:,.0f} | {bases / 1e3:,.0f} | |")
    cost = results["seconds"]["stride 50, context"] / results["seconds"]["stride 300, context"]
    lines += [
        "",
        f"With a shared context of {CONTEXT:,} bases, stride 50 costs {cost:.2f}× stride 300, and its scores "
        f"correlate with the exact ones at {results['correlation_of_context']:.3f}.",
        "",
        _of_labelled(results["labelled"]),
    ]
    if energy := results.get("whole_footprint"):
        lines += ["", _of_energy(energy)]
    return "\n".join(lines)


def _of_labelled(found: dict[str, dict[str, float]]) -> str:
    """What a shared context does to predictions whose truth is known."""
    windows, alone, shared = found["windows"], found["alone"], found["context"]
    return (
        f"Coding or not, by the annotation: {windows['n']:,} windows of chromosome {CHROMOSOME} ("
        f"{windows['coding']:.0%} coding), a probe trained on {TRAINED:,} windows of the other chromosomes. "
        f"Each window alone: AUC {alone['auc']:.3f}, MCC {alone['mcc']:.3f}; with a shared context of "
        f"{CONTEXT:,} bases: AUC {shared['auc']:.3f}, MCC {shared['mcc']:.3f}; "
        f"{found['both']['same']:.1%} of the windows are called alike."
    )


def _of_energy(found: dict[str, dict[str, Any]]) -> str:
    """Energy and CO2e of the whole genome, for each Mbp."""
    each = [
        f"{one['energy_kwh'] * 1e12 / one['bases']:,.0f} mWh and "
        f"{one['co2e_g'] * 1e9 / one['bases']:,.0f} mg CO2e for each Mbp ({name})"
        for name, one in found.items()
    ]
    one = next(iter(found.values()))
    power = ", ".join(f"{part}: {method}" for part, method in one["method"].items())
    return (
        f"The whole genome took {'; '.join(each)}, at {one['carbon_intensity']:.0f} g CO2e per kWh ({power})."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    data = Path(os.environ.get("FASTGENOME_DATA", HERE.parent / ".." / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--whole", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--render", action="store_true", help="write the table from the stored results")
    options = parser.parse_args()
    if not options.render:
        results = measure(options.data, options.rounds, whole=options.whole)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    write_between(PAGE, BEGIN, END, render(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
