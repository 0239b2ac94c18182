"""Write the example's sequences: simulated promoters and background DNA, 200 bases each.

    python examples/simulate.py

Background is an order-1 Markov chain with the CpG depletion of vertebrate DNA. A promoter has a CpG-rich
stretch around its start site at position 150, and in half of the cases a TATA box 30 bases before the site.
The data are made up: they show how to use the package and say nothing about its accuracy on real DNA.
"""

import csv
from pathlib import Path

import numpy as np

BASES = "ACGT"
LENGTH, START_SITE = 200, 150
# Rows: the base before; columns: A, C, G, T. CpG is rare in the background and common in CpG islands.
BACKGROUND = np.array(
    [[0.32, 0.18, 0.25, 0.25], [0.33, 0.27, 0.06, 0.34], [0.28, 0.22, 0.26, 0.24], [0.21, 0.21, 0.25, 0.33]]
)
ISLAND = np.array(
    [[0.20, 0.29, 0.34, 0.17], [0.19, 0.34, 0.26, 0.21], [0.18, 0.32, 0.33, 0.17], [0.12, 0.32, 0.35, 0.21]]
)


def simulate(rng: np.random.Generator, promoter: bool) -> str:
    """One sequence."""
    island = slice(START_SITE - int(rng.integers(20, 80)), START_SITE + int(rng.integers(10, 50)))
    inside = np.zeros(LENGTH, dtype=bool)
    inside[island] = promoter
    sequence = [int(rng.integers(4))]
    for position in range(1, LENGTH):
        chain = ISLAND if inside[position] else BACKGROUND
        sequence.append(int(rng.choice(4, p=chain[sequence[-1]])))
    text = "".join(BASES[base] for base in sequence)
    if promoter and rng.random() < 0.5:
        text = text[: START_SITE - 30] + "TATAAA" + text[START_SITE - 24 :]
    return text


def main() -> None:
    rng = np.random.default_rng(7)
    for name, count in (("train", 400), ("test", 200)):
        with (Path(__file__).parent / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "sequence", "label"])
            for number in range(count):
                label = number % 2
                writer.writerow([f"{name}_{number}", simulate(rng, bool(label)), label])


if __name__ == "__main__":
    main()
