"""Measures the C++ core beside its peers and writes the README's table: `python benchmarks/table.py`.

Runs bench_tokenizers.py, bench_features.py and bench_sequences.py (about a quarter of an hour; leave the
machine alone meanwhile), stores the minimum of each benchmark's rounds in results/core.json, and puts the
table between its two marks in the README. `--render` writes the table anew from the stored results.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pages import write_between

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
RESULTS = HERE / "results" / "core.json"
SUITES = ("bench_tokenizers.py", "bench_features.py", "bench_sequences.py")
BEGIN, END = "<!-- core table: written by benchmarks/table.py -->", "<!-- end of core table -->"

Groups = dict[str, dict[str, dict[str, float]]]


def measure() -> dict[str, Any]:
    """Runs the suites; returns groups → side → figures, with the machine and the peers' versions."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmarks.json"
        suites = [str(HERE / suite) for suite in SUITES]
        command = [sys.executable, "-m", "pytest", "--quiet", *suites, f"--benchmark-json={path}"]
        # Threads that wait in a loop would count as CPU time, against their library.
        single = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=os.environ | single)
        report = json.loads(path.read_text())
    info = report["machine_info"]
    groups: Groups = {}
    for benchmark in report["benchmarks"]:
        stats = benchmark["stats"]
        assert stats["rounds"] >= 5, benchmark["name"]
        side = groups.setdefault(benchmark["group"], {})
        side[str(benchmark["params"]["side"])] = {"min_ms": stats["min"] * 1e3, "rounds": stats["rounds"]}
    machine = {"processor": info["cpu"].get("brand_raw"), "cores": info["cpu"]["count"]}
    return {
        "command": "python benchmarks/table.py",
        "machine": machine,
        "python": info["python_version"],
        "peers": info["peers"],
        "genome": info["genome"],
        "groups": groups,
    }


def significant(value: float) -> str:
    """Three significant digits, more where they stand before the point."""
    digits = 2 - math.floor(math.log10(value))
    return f"{value:,.{max(0, digits)}f}"


def cell(name: str, time: float, ours: float) -> str:
    """A side with its time and, unless it is ours too, what multiple of our first one it is."""
    multiple = "" if name.startswith("fastgenome") else f" ({significant(time / ours)}×)"
    return f"{name} {significant(time)} ms{multiple}"


def render(results: dict[str, Any]) -> str:
    """The table: a row for each group, our time, and each peer's with its multiple of ours."""
    lines = ["| what | fastgenome | beside it |", "|---|---|---|"]
    for group, sides in results["groups"].items():
        (first, ours), *others = sides.items()
        cells = [cell(name, peer["min_ms"], ours["min_ms"]) for name, peer in others]
        own = f"{significant(ours['min_ms'])} ms" + ("" if first == "fastgenome" else f", {first}")
        lines.append(f"| {group} | {own} | {'; '.join(cells)} |")
    peers = ", ".join(f"{name} {version}" for name, version in results["peers"].items())
    return "\n".join([*lines, "", f"Peers: {peers}; Python {results['python']}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--render", action="store_true", help="write the table from the stored results")
    if not parser.parse_args().render:
        RESULTS.write_text(json.dumps(measure(), indent=2) + "\n")
    write_between(README, BEGIN, END, render(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
