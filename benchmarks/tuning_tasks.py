"""Every method of fine-tuning on real tasks with `tiny`: `python benchmarks/tuning_tasks.py`.

What each learns, what it trains, how fast, in how much memory and at what cost. A method's learning rate
and weights are chosen on the validation data, by AUC (of 150 sequences MCC is too coarse) or R², among two
rates; the test set is predicted once, by the better run. Each method and task runs in a process of its own,
which alone its peak memory counts. The trivial baseline (4-mer frequencies, z-curve and GC content under a
linear head) stands beside them. Results go to results/tuning_tasks.json after each process; what is there
already, with as many epochs, is not run again (`--fresh` does). The table goes to docs/fine_tuning.md.
Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pages import write_between

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "fine_tuning.md"
RESULTS = HERE / "results" / "tuning_tasks.json"
DATA = Path(os.environ.get("FASTGENOME_DATA", HERE.parents[1] / "shared" / "data"))
BEGIN, END = "<!-- task table: written by benchmarks/tuning_tasks.py -->", "<!-- end of task table -->"

FEATURES = ("zcurve", "gc", "kmer")
# Highest learning rates to choose from; none where nothing is tuned.
RATES: dict[str, tuple[float, ...]] = {
    "baseline": (),
    "probe": (),
    "lora": (1e-3, 4e-3),
    "dora": (1e-3, 4e-3),
    "ia3": (1e-3, 5e-3),
    "adalora": (1e-3, 4e-3),
    "ars": (1e-3, 4e-3),
    "full": (1e-4, 4e-4),
}
TASKS = ("prom_300_tata", "H3", "3' reporter, random split", "3' reporter, grouped split")
_FIGURES = {"binary": ("mcc", "auc"), "regression": ("r2", "pearson", "spearman")}


def run_once(task: Any, method: str, rate: float | None, epochs: int) -> tuple[Any, dict[str, Any]]:
    """A predictor, and how it did on the validation data, with its cost."""
    import fastgenome as fg
    from fastgenome.training.tuning_config import Training

    how: dict[str, Any] = {"model": "tiny", "method": method}
    if method == "baseline":
        how = {"model": None, "features": FEATURES}
    if rate is not None:
        how["training"] = Training(epochs=epochs, learning_rate=rate, criterion=criterion(task))
    with tempfile.TemporaryDirectory() as folder, fg.track_emissions() as footprint:
        out = {"out": folder + "/run"} if rate is not None else {}
        predictor = fg.finetune(task.train, validation=task.validation, **how, **out)
        seconds = json.loads(Path(folder, "run/metrics.json").read_text())["seconds"] if out else None
    return predictor, {
        "learning_rate": rate,
        "validation": predictor.metrics["validation"],
        "validation_loss": predictor.hyperparameters.get("validation_loss"),
        "seconds_per_epoch": None if seconds is None else seconds / epochs,
        "seconds": footprint.seconds,
        "co2e_g": footprint.co2e_g,
    }


def criterion(task: Any) -> Any:
    """What decides on the validation data."""
    return "r2" if isinstance(task.train[1][0], float) else "auc"


def run_method(name: str, method: str, epochs: int) -> dict[str, Any]:
    """The figures of one method on one task; the test set is predicted by the run that did best."""
    from tuning_data import TASKS as READERS

    from fastgenome.training.metrics import evaluate
    from fastgenome.training.tuning_selection import standing

    task = READERS[name](DATA)
    best: Any = None
    runs = []
    for rate in RATES[method] or (None,):
        predictor, run = run_once(task, method, rate, epochs)
        reached = standing(run["validation"] | {"loss": run["validation_loss"] or 0.0}, criterion(task))
        runs.append(run)
        if best is None or reached > best[0]:
            best = reached, predictor, run
    _, predictor, run = best
    targets = predictor.task.encode(task.test[1])
    figures = evaluate(predictor.task, targets, predictor.outputs(task.test[0]))
    head = predictor.head.weight.size + predictor.head.bias.size
    return {
        "test": {figure: figures[figure] for figure in _FIGURES[predictor.task.kind]},
        "trained_parameters": predictor.hyperparameters.get("trained_parameters", head),
        "peak_memory_mb": peak_memory(),
        "chosen": run,
        "epochs": epochs if RATES[method] else None,
        "runs": runs,
        "sizes": [len(part[0]) for part in task[:3]],
        "validated_on": task.validated_on,
    }


def peak_memory() -> float:
    """Highest resident memory of this process in megabytes (10⁶ bytes).

    Not getrusage's: that also counts what the parent held before this program began.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def run_apart(name: str, method: str, epochs: int) -> dict[str, Any]:
    """`run_method` in a new process."""
    command = [sys.executable, __file__, "--tasks", name, "--methods", method, "--epochs", str(epochs)]
    done = subprocess.run([*command, "--here"], check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(tasks: list[str], methods: list[str], epochs: int, results: dict[str, Any], out: Path) -> None:
    """Run what is not there yet; results are written after each."""
    for name in tasks:
        of_task = results["tasks"].setdefault(name, {})
        for method in methods:
            if method in of_task and of_task[method]["epochs"] in (None, epochs):
                print(f"{name}, {method}: there already")
                continue
            of_task[method] = run_apart(name, method, epochs)
            print(f"{name}, {method}: {json.dumps(of_task[method]['test'])}", flush=True)
            out.write_text(json.dumps(results, indent=2) + "\n")


def empty() -> dict[str, Any]:
    import torch

    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }
    return {"command": "python benchmarks/tuning_tasks.py", "machine": machine, "torch": torch.__version__,
            "tasks": {}}  # fmt: skip


def render(results: dict[str, Any]) -> str:
    """A row for each task and method."""
    lines = [
        "| task (training / validation / test) | method | test set | trained parameters | learning rate | "
        "s per epoch | peak memory | g CO2e |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, of_task in results["tasks"].items():
        for method in (method for method in RATES if method in of_task):
            found = of_task[method]
            sizes = " / ".join(f"{size:,}" for size in found["sizes"])
            test = ", ".join(f"{_SPELLED[figure]} {value:.3f}" for figure, value in found["test"].items())
            chosen = found["chosen"]
            tuned = chosen["learning_rate"] is not None
            cells = [
                f"{name} ({sizes})",
                method,
                test,
                f"{found['trained_parameters']:,}",
                f"{chosen['learning_rate']:g}" if tuned else "",
                f"{chosen['seconds_per_epoch']:.1f}" if tuned else f"({chosen['seconds']:.1f} in all)",
                f"{found['peak_memory_mb']:.0f} MB",
                f"{chosen['co2e_g']:.3f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _notes(results)])


_SPELLED = {"mcc": "MCC", "auc": "AUC", "r2": "R²", "pearson": "Pearson", "spearman": "Spearman"}


def _notes(results: dict[str, Any]) -> str:
    """Where validation data come from, how long was trained, and the known faults of the data."""
    found = [of_task for of_task in results["tasks"].values() if of_task]
    epochs = sorted({run["epochs"] for of_task in found for run in of_task.values() if run["epochs"]})
    sources = "; ".join(
        f"{name}: {next(iter(of_task.values()))['validated_on']}"
        for name, of_task in results["tasks"].items()
        if of_task
    )
    return (
        f"{' or '.join(map(str, epochs)) or 'No'} epochs, {results['machine']['threads']} threads, torch "
        f"{results['torch']}. Learning rates and weights are chosen on validation data ({sources}). g CO2e "
        "are the chosen run's, choosing took about twice as much; peak memory is the process's. "
        "prom_300_tata holds 79 duplicates and 15 conflicting labels, and neighbouring windows of H3 overlap "
        "across its sets; in the random split near-copies of reporter sequences are trained on."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--methods", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--fresh", action="store_true", help="run again what has results already")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="file of results; another one leaves the page"
    )
    parser.add_argument("--render", action="store_true", help="write the table from the stored results")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(run_method(options.tasks[0], options.methods[0], options.epochs)))
        return
    if not options.render:
        results = json.loads(options.out.read_text()) if options.out.is_file() else empty()
        if options.fresh:
            for name in options.tasks:
                kept = results["tasks"].get(name, {}).items()
                results["tasks"][name] = {m: found for m, found in kept if m not in options.methods}
        measure(options.tasks, options.methods, options.epochs, results, options.out)
    table = render(json.loads(options.out.read_text()))
    if options.out == RESULTS:
        write_between(PAGE, BEGIN, END, table)
    else:
        print(table)


if __name__ == "__main__":
    main()
