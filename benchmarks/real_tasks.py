"""Accuracy, time and CO2e of three ways to predict, on six real tasks; prints the README's table.

    python benchmarks/real_tasks.py --data ../shared/data --out benchmarks/results/real_tasks.json

The trivial baseline (4-mer frequencies, z-curve and GC content under logistic regression) stands beside the
embedded model alone and joined with the same features. Each learns on the published training set, or on the
published validation set where there is no other; penalties are chosen by cross-validation inside it, and the
test set is predicted once. Sequences, splits and their known faults: see docs/models/tiny.md.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

import fastgenome as fg
from fastgenome.sequences import read_sequences
from fastgenome.training.labelled import read_labelled
from fastgenome.training.metrics import evaluate

FEATURES = ("zcurve", "gc", "kmer")
METHODS = {"baseline": (None, FEATURES), "tiny": ("tiny", ()), "tiny + features": ("tiny", FEATURES)}


class Split(NamedTuple):
    """Training and test data of a task: (sequences, labels) each."""

    name: str
    train: tuple[list[str], list[str]]
    test: tuple[list[str], list[str]]


def gue(data: Path, name: str, train: str = "dev") -> Split:
    parts = [read_labelled(data / "gue" / name / f"{part}.csv.gz") for part in (train, "test")]
    return Split(name, *((part.sequences, [row[0] for row in part.labels]) for part in parts))


def enhancers(data: Path) -> Split:
    def part(name: str) -> tuple[list[str], list[str]]:
        folder = data / "iEnhancer2L"
        groups = [
            [record.sequence for record in read_sequences(folder / f"{name}_{kind}.fa.gz")]
            for kind in ("nonenhancers", "enhancers")
        ]
        return groups[0] + groups[1], ["0"] * len(groups[0]) + ["1"] * len(groups[1])

    return Split("iEnhancer layer 1", part("train"), part("test"))


def tasks(data: Path) -> Iterator[Split]:
    yield gue(data, "prom_300_tata", "train")
    for name in ("prom_300_notata", "H3", "H4", "reconstructed"):
        yield gue(data, name)
    yield enhancers(data)


def measure(split: Split, model: str | None, features: tuple[str, ...]) -> dict[str, float]:
    """Train, predict the test set, and say how good and how dear it was."""
    with fg.track_emissions() as footprint:
        predictor = fg.finetune(split.train, model=model, features=features)
        outputs = predictor.outputs(split.test[0])
    figures = evaluate(predictor.task, predictor.task.encode(split.test[1]), outputs)
    return {
        "mcc": figures["mcc"],
        "auc": figures["auc"],
        "accuracy": figures["accuracy"],
        "seconds": footprint.seconds,
        "co2e_g": footprint.co2e_g,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    fg.load("tiny").embed(["ACGT" * 50] * 64)
    results: dict[str, dict[str, dict[str, float]]] = {}
    print("MCC · AUC · seconds to train and predict · mg CO2e")
    print("| task (train / test) | " + " | ".join(METHODS) + " |")
    print("|---" * (len(METHODS) + 1) + "|")
    for split in tasks(arguments.data):
        results[split.name] = {method: measure(split, *choice) for method, choice in METHODS.items()}
        cells = [
            f"{r['mcc']:.3f} · {r['auc']:.3f} · {r['seconds']:.1f} · {r['co2e_g'] * 1000:.0f}"
            for r in results[split.name].values()
        ]
        sizes = f"{len(split.train[0]):,} / {len(split.test[0]):,}"
        print(f"| {split.name} ({sizes}) | " + " | ".join(cells) + " |", flush=True)
    if arguments.out:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
        }
        content = {"machine": machine, "torch": torch.__version__, "tasks": results}
        arguments.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
