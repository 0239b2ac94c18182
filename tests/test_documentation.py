"""The README's figures are those of the stored results, and the results show what is claimed of them."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def results(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / name).read_text())
    return content


TASKS = results("real_tasks.json")["tasks"]
GROUPS = results("latency.json")["groups"]


@pytest.mark.parametrize("task", TASKS)
def test_task_table_equals_the_stored_results(task: str) -> None:
    row = next(line for line in README.splitlines() if line.startswith("|") and task in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    figures = [
        f"{r['mcc']:.3f} · {r['auc']:.3f} · {r['seconds']:.1f} · {r['co2e_g'] * 1000:.0f}"
        for r in TASKS[task].values()
    ]
    assert cells == figures


def test_tiny_beats_the_trivial_baseline() -> None:
    baseline, alone, joined = (
        [task[method]["mcc"] for task in TASKS.values()] for method in ("baseline", "tiny", "tiny + features")
    )
    assert len(TASKS) == 6
    assert all(ours > trivial for ours, trivial in zip(joined, baseline, strict=True))
    assert sum(ours > trivial for ours, trivial in zip(alone, baseline, strict=True)) >= 4


@pytest.mark.parametrize(("lengths", "least"), [("105-1995", 2.0), ("500-500", 1.0)])
def test_packed_embedding_beats_padding(lengths: str, least: float) -> None:
    group = GROUPS[f"embed, {lengths} bp, 2 threads"]
    padded, exact, fast = (
        next(b for name, b in group.items() if name.startswith(f"test_embed_{kind}") and name.endswith(end))
        for kind, end in (("padded", "]"), ("packed", "-float32]"), ("packed", "-auto]"))
    )
    assert padded["median_ms"] / exact["median_ms"] >= least
    assert padded["median_ms"] / fast["median_ms"] >= least
    assert fast["bases"] / fast["median_ms"] >= 300
    row = (
        f"| {padded['median_ms']:,.0f} ms | {exact['median_ms']:.0f} ms "
        f"({padded['median_ms'] / exact['median_ms']:.1f}×) | {fast['median_ms']:.0f} ms "
        f"({padded['median_ms'] / fast['median_ms']:.1f}×), {fast['bases'] / fast['median_ms']:.0f} kbp/s |"
    )
    assert row in README


def test_tiny_predicts_unseen_yeast_better_than_markov_models() -> None:
    yeast = results("tiny_pretraining.json")["sources"][0]
    assert yeast["name"] == "yeast_genome"
    assert yeast["perplexity"] < min(yeast["markov_perplexity"].values())
    assert f"| **{yeast['perplexity']:.3f}** |" in (ROOT / "docs" / "models" / "tiny.md").read_text()


@pytest.mark.parametrize(
    ("name", "stored", "page"),
    [
        ("table", "core.json", "README.md"),
        ("models", "models.json", "README.md"),
        ("tuning_tasks", "tuning_tasks.json", "docs/fine_tuning.md"),
        ("tuning_steps_table", "tuning_steps.json", "docs/fine_tuning.md"),
        ("genome_scoring", "genome_scoring.json", "docs/genome_scoring.md"),
        ("variant_scoring", "variant_scoring.json", "docs/variant_scoring.md"),
    ],
)
def test_tables_equal_the_stored_results(
    monkeypatch: pytest.MonkeyPatch, name: str, stored: str, page: str
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module: Any = importlib.import_module(name)
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"{module.BEGIN}\n{module.render(results(stored))}\n{module.END}" in text


# Group of core.json, side of it, and the least multiple of our time that the side must take.
CORE_GOALS = [
    ("overlapping 6-mers, 10,000 × 500 bp", "tokenizers WordLevel", 300),
    ("overlapping 6-mers, 10,000 × 500 bp", "NumPy", 2.5),
    ("overlapping 6-mers into a buffer of uint16, one sequence of 10 Mb", "rolling numba", 4),
    ("overlapping 6-mers into a buffer of int64, one sequence of 10 Mb", "memset", 0.7),
    ("non-overlapping 6-mers, 10,000 × 498 bp", "tokenizers FixedLength", 100),
    ("non-overlapping 6-mers, 500 × 500 bp", "transformers EsmTokenizer", 1000),
    ("characters as uint8, 10,000 × 500 bp", "bytes.translate", 5),
    ("characters, 500 × 500 bp", "PreTrainedTokenizer of characters", 1000),
    ("BPE of dnabert2, 10,000 × 500 bp", "tokenizers", 15),
    ("BPE of dnabert2, one sequence of 10 Mb", "tokenizers", 100),
    ("BPE of dnabert2 beside tokie, 10,000 × 500 bp", "tokie", 4),
    ("BPE of opt, 10,000 × 500 bp", "tokenizers", 15),
    ("BPE of opt, one sequence of 10 Mb", "tokenizers", 100),
    ("BPE of dnabert2 by threads, wall-clock, 10,000 × 500 bp", "1 thread", 1.5),
    ("BPE of dnabert2 by threads, wall-clock, one sequence of 10 Mb", "1 thread", 1.5),
    ("z-curve 189, 10,000 × 500 bp", "ZCurvePy", 15),
    ("z-curve 189, 10,000 × 500 bp", "NumPy", 20),
    ("z-curve 765, 10,000 × 500 bp", "ZCurvePy", 30),
    ("cumulative z-curve, 10,000 × 500 bp", "NumPy", 10),
    ("base counts, 10,000 × 500 bp", "NumPy", 5),
    ("canonical 6-mer frequencies, 10,000 × 500 bp", "pykmertools", 30),
    ("z-curve 189 by threads, wall-clock, 10,000 × 500 bp", "1 thread", 1.5),
    ("6-mer frequencies by threads, wall-clock, 10,000 × 500 bp", "1 thread", 1.5),
    ("whole FASTA, 12 Mb in 16 records: into memory", "pyfastx.Fasta", 2.5),
    ("whole FASTA, 10,000 records of 500 bp: into memory", "pyfastx.Fastx", 2.5),
]


@pytest.mark.parametrize(("group", "side", "least"), CORE_GOALS)
def test_core_is_as_much_faster_as_claimed(group: str, side: str, least: float) -> None:
    sides = results("core.json")["groups"][group]
    ours = next(iter(sides.values()))
    assert sides[side]["min_ms"] / ours["min_ms"] >= least
    assert all(figures["rounds"] >= 5 for figures in sides.values())


def test_windows_in_memory_are_fetched_faster_than_by_pysam() -> None:
    sides = results("core.json")["groups"]["10,000 windows of 1 kb from an indexed FASTA"]
    assert sides["pysam"]["min_ms"] >= 8 * sides["fastgenome, in memory"]["min_ms"]


def test_sliding_by_one_base_costs_little_more_per_base_read() -> None:
    sides = results("core.json")["groups"]["sliding z-curve 189, window 1,000, 2,000,000 bases read"]
    assert sides["stride 1"]["min_ms"] <= 1.5 * sides["stride 1,000"]["min_ms"]


def test_genome_scoring_meets_its_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module: Any = importlib.import_module("genome_scoring")
    stored = results("genome_scoring.json")
    loop = module.windows_per_second(stored, module.LOOP)
    assert module.whole_windows_per_second(stored, "stride 50") / loop >= 3
    assert stored["seconds"]["stride 50, context"] / stored["seconds"]["stride 300, context"] <= 1.3
    assert stored["genome_bases"] / stored["features_seconds"]["features, stride 300, one process"] >= 20e6


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "adalora", "ars", "full"])
def test_tuning_beats_the_frozen_probe(method: str) -> None:
    """On two tasks of three at least; of the reporter both splits count, as one."""
    tasks = results("tuning_tasks.json")["tasks"]
    assert len(tasks) == 4
    better: dict[str, bool] = {}
    for name, of_task in tasks.items():
        figure = "r2" if "reporter" in name else "mcc"
        task = name.partition(",")[0]
        won = of_task[method]["test"][figure] > of_task["probe"]["test"][figure]
        better[task] = better.get(task, True) and won
    assert sum(better.values()) >= 2


def test_tuning_meets_its_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module: Any = importlib.import_module("tuning_steps_table")
    goals = module.goals(results("tuning_steps.json"))
    assert len(goals) > 60
    # What is missed, as the page says: IA3 kept apart.
    assert all(goal.met or goal.what.endswith(": IA3 ÷ base") for goal in goals)
