"""The README's figures are those of the stored results, and the results show what is claimed of them."""

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
