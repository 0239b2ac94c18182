"""Real tasks for tuning: training, validation and test data, of which the last is for no choice."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fastgenome.training.labelled import read_labelled
from fastgenome.training.tuning_batches import held_out_split

# Sequences that share so many bases in a row are taken for near-copies.
SHARED = 30
HELD_OUT = 0.1

Labelled = tuple[list[str], list[str] | list[float]]


class TuningTask(NamedTuple):
    """A task with its three sets; `validated_on` says where the validation data come from."""

    train: Labelled
    validation: Labelled
    test: Labelled
    validated_on: str


def _gue(data: Path, name: str, part: str) -> tuple[list[str], list[str]]:
    content = read_labelled(data / "gue" / name / f"{part}.csv.gz")
    return content.sequences, [str(row[0]) for row in content.labels]


def tata(data: Path) -> TuningTask:
    """Human promoters with a TATA box, in GUE's own three sets."""
    return TuningTask(*(_gue(data, "prom_300_tata", part) for part in ("train", "dev", "test")), "dev")


def h3(data: Path) -> TuningTask:
    """Yeast histone mark H3, whose training set GUE's copy lacks: trained on most of dev."""
    sequences, labels = _gue(data, "H3", "dev")
    classes = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    kept, held = held_out_split(sequences, classes, share=HELD_OUT, seed=0)
    parts = [([sequences[i] for i in part], [labels[i] for i in part]) for part in (kept, held)]
    return TuningTask(*parts, _gue(data, "H3", "test"), f"{HELD_OUT:.0%} of dev")


def reporter(data: Path, *, grouped: bool) -> TuningTask:
    """Expression by yeast 3' sequences (Shalem et al. 2015), divided 80 : 10 : 10.

    Grouped, sequences that share 30 bases in a row, or are linked by such, stay on one side.
    """
    with gzip.open(data / "yeast_3utr_reporter" / "shalem_15.tsv.gz", "rt") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    sequences, values = [row[0] for row in rows], [float(row[1]) for row in rows]
    groups = linked_groups(sequences, SHARED) if grouped else np.arange(len(rows))
    parts = [
        ([sequences[i] for i in part], [values[i] for i in part])
        for part in divide(groups, shares=(HELD_OUT, HELD_OUT), seed=0)
    ]
    how = "sequences that share a 30-mer on one side" if grouped else "random"
    return TuningTask(*parts, f"{HELD_OUT:.0%}, {how}")


TASKS: dict[str, Callable[[Path], TuningTask]] = {
    "prom_300_tata": tata,
    "H3": h3,
    "3' reporter, random split": lambda data: reporter(data, grouped=False),
    "3' reporter, grouped split": lambda data: reporter(data, grouped=True),
}


def linked_groups(sequences: Sequence[str], length: int) -> NDArray[np.int64]:
    """The group of each sequence, (n,): sequences that share `length` bases in a row are in the same."""
    first: dict[str, int] = {}
    links = [
        (index, first.setdefault(sequence[start : start + length], index))
        for index, sequence in enumerate(sequences)
        for start in range(len(sequence) - length + 1)
    ]
    ends = np.array(links, dtype=np.int64).reshape(-1, 2).T
    graph = coo_matrix((np.ones(ends.shape[1]), ends), shape=(len(sequences), len(sequences)))
    groups: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return groups


def divide(
    groups: NDArray[np.int64], *, shares: tuple[float, float], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Indices of training, validation and test sequences in rising order; no group is in two of them.

    Groups come in random order and go where there is room: test, validation, training. `shares` are the
    most of all sequences that validation and test get.
    """
    names, sizes = np.unique(groups, return_counts=True)
    room = [int(share * len(groups)) for share in shares[::-1]]
    side = np.zeros(len(names), dtype=np.int64)
    for place in np.random.default_rng(seed).permutation(len(names)):
        for number, free in enumerate(room):
            if sizes[place] <= free:
                room[number] -= int(sizes[place])
                side[place] = 2 - number
                break
    of_sequence = side[np.searchsorted(names, groups)]
    train, validation, test = (np.flatnonzero(of_sequence == number) for number in range(3))
    return train, validation, test
