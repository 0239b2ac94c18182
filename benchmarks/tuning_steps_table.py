"""The table of the tuning benchmark, and what is demanded of its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parent.parent / "docs" / "fine_tuning.md"
BEGIN, END = "<!-- step table: written by benchmarks/tuning_steps.py -->", "<!-- end of step table -->"

# Method, dropout and precision, and the least multiple of our step that PEFT's fastest setting must take.
STEP_GOALS = {
    ("LoRA", 0.0, "float32"): 1.0,
    ("LoRA", 0.0, "bfloat16"): 1.0,
    ("LoRA", 0.1, "float32"): 1.0,
    ("LoRA", 0.1, "bfloat16"): 1.0,
    ("DoRA", 0.0, "float32"): 1.1,
    ("DoRA", 0.0, "bfloat16"): 1.1,
    ("DoRA", 0.1, "float32"): 1.9,
    ("DoRA", 0.1, "bfloat16"): 1.9,
    ("AdaLoRA", 0.0, "float32"): 1.0,
    ("AdaLoRA", 0.0, "bfloat16"): 1.0,
    ("AdaLoRA", 0.1, "float32"): 1.0,
    ("AdaLoRA", 0.1, "bfloat16"): 1.3,
}
# The most that prediction may take, as a multiple of the network's without an adapter.
PREDICTION_GOALS = {"LoRA merged": 1.02, "IA3 merged": 1.02, "IA3": 1.02, "mixed": 1.3}
# The least multiples of mixed prediction that PEFT's takes, and of the probe's epoch that LoRA's takes.
MIXED_PEER_GOAL = 1.0
PROBE_GOAL = 10.0


class Goal(NamedTuple):
    """A figure and what is demanded of it."""

    what: str
    figure: float
    bound: float
    at_most: bool

    @property
    def met(self) -> bool:
        return self.figure <= self.bound if self.at_most else self.figure >= self.bound


def goals(results: dict[str, Any]) -> list[Goal]:
    """Every demand on the stored figures."""
    found = []
    for name, case in results["steps"].items():
        seconds = case["seconds"]
        ours = seconds["fastgenome"]
        least = STEP_GOALS[case["method"], case["dropout"], case["dtype"]]
        found.append(Goal(f"{name}: peft ÷ ours", _fastest_peer(seconds) / ours, least, False))
        if probe := seconds.get("probe on cached embeddings"):
            found.append(Goal(f"{name}: step ÷ probe's", ours / probe, PROBE_GOAL, False))
    for name, case in results["prediction"].items():
        seconds = case["seconds"]
        for side, most in PREDICTION_GOALS.items():
            found.append(Goal(f"{name}: {side} ÷ base", seconds[side] / seconds["base"], most, True))
        ratio = _fastest_peer(seconds) / seconds["mixed"]
        found.append(Goal(f"{name}: mixed, peft ÷ ours", ratio, MIXED_PEER_GOAL, False))
    return found


def judged(results: dict[str, Any]) -> list[str]:
    """One line for each demand: whether it is met."""
    return [
        f"{'pass' if goal.met else 'FAIL'}  {goal.figure:8.3f} {'≤' if goal.at_most else '≥'} "
        f"{goal.bound:<5} {goal.what}"
        for goal in goals(results)
    ]


def _fastest_peer(seconds: dict[str, float]) -> float:
    return min(time for name, time in seconds.items() if "peft" in name)


def render(results: dict[str, Any]) -> str:
    """Steps: our seconds and PEFT's as multiples; prediction: multiples of the network without adapter."""
    lines = [
        "| model, batch | precision | method | dropout | fastgenome | peft | peft, best settings |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in results["steps"].values():
        seconds = case["seconds"]
        ours = seconds["fastgenome"]
        peers = [seconds.get(name) for name in ("peft", "peft, best settings")]
        cells = ["" if time is None else f"{time:.2f} s ({time / ours:.2f}×)" for time in peers]
        lines.append(
            f"| {_batch(case)} | {case['dtype']} | {case['method']} | {case['dropout']:g} | {ours:.2f} s | "
            + " | ".join(cells) + " |"
        )  # fmt: skip
    lines += [
        "",
        "| prediction, as a multiple of the network alone | precision | LoRA merged | IA3 merged | IA3 | "
        "8 LoRA mixed | 8 LoRA mixed, peft | peft, best settings |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in results["prediction"].values():
        seconds = case["seconds"]
        sides = (*PREDICTION_GOALS, "mixed, peft", "mixed, peft, best settings")
        cells = [f"{seconds[side] / seconds['base']:.2f}×" if side in seconds else "" for side in sides]
        lines.append(f"| {_batch(case)} | {case['dtype']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _notes(results)])


def _batch(case: dict[str, Any]) -> str:
    count = f"{case['sequences']} sequences, {case['tokens']:,} tokens, fill {case['fill']:.2f}"
    return f"{case['model']}: {count}"


def _notes(results: dict[str, Any]) -> str:
    """What a probe's epoch costs beside LoRA's, and the versions."""
    ratios = [
        case["seconds"]["fastgenome"] / case["seconds"]["probe on cached embeddings"]
        for case in results["steps"].values()
        if "probe on cached embeddings" in case["seconds"]
    ]
    probe = f"An epoch of LoRA takes at least {min(ratios):,.0f} epochs of a head on cached embeddings. "
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (probe if ratios else "") + f"{versions}."
