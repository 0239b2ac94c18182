"""What the tests of scored variants share: a cheap predictor, a genome, and lines that fit it."""

import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray
from small_variants import Line, random_line, reverse_complement, verdict
from typer.testing import CliRunner, Result

import fastgenome as fg
from fastgenome.cli import app

WINDOW = 24
ONE = fg.RunOptions(workers=1)
FIGURES = ("probability_1_ref", "probability_1_alt", "probability_1_delta")


def make_predictor() -> fg.Predictor:
    """Features alone: cheap, and different on the two strands."""
    draw = random.Random(3)
    sequences = ["".join(draw.choices("ACGT", [1 + i % 2, 3, 1, 2], k=WINDOW)) for i in range(80)]
    return fg.finetune((sequences, [i % 2 for i in range(80)]), model=None, features=("zcurve", "gc", "kmer"))


def make_contigs() -> dict[str, str]:
    draw = random.Random(7)
    return {
        name: "".join(draw.choices("ACGTNacgt", [9, 9, 9, 9, 0.2, 2, 2, 2, 2], k=length))
        for name, length in (("1", 900), ("2", 400), ("tiny", 10))
    }


def some_lines(contigs: dict[str, str], n: int = 200, seed: int = 5) -> list[Line]:
    """Lines of which all with letters for alleles agree with the genome."""
    draw = random.Random(seed)
    lines = []
    while len(lines) < n:
        line = random_line(draw, contigs)
        reasons = {verdict(contigs, line, alt, WINDOW, 0.1) for alt in line.alts}
        # "B" as the first letter of a contig's name would be one of a breakend in htslib's eyes.
        if "ref_mismatch" not in reasons and not {"not_dna"} & reasons and "X" not in line.ref:
            lines.append(line)
    return lines


def true_lines(contigs: dict[str, str], n: int) -> list[Line]:
    return [
        Line(
            "1",
            place,
            f"v{place}",
            contigs["1"][place - 1].upper(),
            ("A" if contigs["1"][place - 1] not in "Aa" else "C",),
        )
        for place in range(1, 900)
        if contigs["1"][place - 1] not in "N"
    ][:n]


def one_score(predictor: fg.Predictor, letters: str, strand: str) -> float:
    strands = {"forward": [letters], "reverse": [reverse_complement(letters)]}
    both = strands["forward"] + strands["reverse"]
    return float(np.mean([predictor.predict_proba([one])[0, 1] for one in strands.get(strand, both)]))


def table_scores(path: Path) -> NDArray[np.float32]:
    table = parquet.read_table(path)
    return np.column_stack([table[name].to_numpy() for name in FIGURES])


def run_variants(predictor: Path, genome: Path, *arguments: object, window: int = WINDOW) -> Result:
    """The command, in this process."""
    given = ("--predictor", predictor, "--genome", genome, "--window", window, "--workers", 1)
    return CliRunner().invoke(app, ["variants", "--no-emissions", *map(str, (*given, *arguments))])
