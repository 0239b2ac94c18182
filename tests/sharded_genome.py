"""What the tests of jobs share: a genome of 12 shards, a predictor, and how it is scored."""

import random
from pathlib import Path
from typing import Any

import pytest

import fastgenome as fg
from fastgenome.scoring import window_plan

WINDOW, STRIDE = 60, 20


def make_predictor(folder: Path, model: str | None = None) -> Path:
    draw = random.Random(3)
    sequences = ["".join(draw.choices("ACGT" if i % 2 else "AACCGT", k=80)) for i in range(60)]
    predictor = fg.finetune(
        (sequences, [i % 2 for i in range(60)]), model=model, method="probe", features=("gc", "kmer")
    )
    predictor.save(folder)
    return folder


def make_place(folder: Path) -> Path:
    """A genome of 9 contigs, and a predictor, in a folder."""
    draw = random.Random(5)
    with (folder / "genome.fa").open("w") as file:
        for contig in range(9):
            file.write(f">c{contig}\n" + "".join(draw.choices("ACGTN", [9, 9, 9, 9, 1], k=2500)) + "\n")
    make_predictor(folder / "predictor")
    return folder


def score(place: Path, out: Path | list[Path], **options: Any) -> Any:
    run = fg.RunOptions(**{"workers": 1, **options})
    return fg.score_genome(
        place / "predictor", place / "genome.fa", out=out, window=WINDOW, stride=STRIDE, run=run
    )


def undisturbed_bytes(place: Path) -> bytes:
    """What a run that nothing disturbs writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_plan, "_SHARD_WINDOWS", 100)
        score(place, place / "undisturbed.parquet")
    return (place / "undisturbed.parquet").read_bytes()


def stored_shards(out: Path) -> list[str]:
    return [path.name for path in out.with_name(out.name + ".shards").glob("shard-*.json")]
