"""What the tests of scored genomes share: files, predictors, and where windows begin."""

import random
from pathlib import Path

import pyarrow.parquet as parquet
from genome_files import wrapped

import fastgenome as fg
from fastgenome.scoring.window_plan import WindowOptions

HERE = fg.RunOptions(workers=1)
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def letters(seed: int, length: int, alphabet: str = "ACGT") -> str:
    return "".join(random.Random(seed).choices(alphabet, k=length))


def write_fasta(path: Path, contigs: dict[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{wrapped(text, 60)}" for name, text in contigs.items()))
    return path


def make_contigs() -> dict[str, str]:
    """Two contigs with unknown bases and lower case, and one that is short."""
    return {
        "chrA": letters(1, 700) + "N" * 90 + letters(2, 333),
        "short": letters(3, 40),
        "chrB": letters(4, 505).lower(),
    }


def trained(model: str | None, features: tuple[str, ...], classes: int = 2) -> fg.Predictor:
    sequences = [letters(seed, 80, "ACGT" if seed % 2 else "AACCGT") for seed in range(60)]
    labels = [seed % classes for seed in range(60)]
    return fg.finetune((sequences, labels), model=model, method="probe", features=features)


def defined_windows(length: int, options: WindowOptions) -> list[int]:
    """Starts of the windows of a contig, one by one."""
    starts = []
    for start in range(0, length, options.stride):
        if start + options.window <= length or (
            options.edge == "pad" and (not starts or starts[-1] + options.window < length)
        ):
            starts.append(start)
    return starts


def read_scores(path: Path, column: str = "probability_1") -> dict[tuple[str, int, int], float]:
    table = parquet.read_table(path).to_pydict()
    keys = zip(table["contig"], table["start"], table["end"], strict=True)
    return dict(zip(keys, table[column], strict=True))
