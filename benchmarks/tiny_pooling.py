"""Which pooling and layers of tiny suit a linear probe: cross-validated MCC on training sets alone.

    python benchmarks/tiny_pooling.py --data ../shared/data

The default pooling of tiny was chosen by this table; no test set takes part.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from real_tasks import tasks
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import matthews_corrcoef
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import fastgenome as fg

CHOICES = [("mean", (0,)), ("mean", (-1,)), ("mean", (0, -1)), ("mean", (0, 1, -1)), ("mean+max", (0, 1, -1))]
PENALTIES = (1e-3, 1e-2, 1e-1)


def cross_validated_mcc(inputs: np.ndarray, labels: list[str]) -> float:
    """The best of a few penalties, three folds."""
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    scores = []
    for penalty in PENALTIES:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=300, tol=1e-3))
        with threadpool_limits(1, user_api="blas"):
            predicted = cross_val_predict(classifier, inputs, labels, cv=folds)
        scores.append(matthews_corrcoef(labels, predicted))
    return max(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="tiny")
    arguments = parser.parse_args()
    model = fg.load(arguments.model)
    names = [f"{pooling} of {', '.join(map(str, layers))}" for pooling, layers in CHOICES]
    print("| task | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
    totals = np.zeros(len(CHOICES))
    for split in tasks(arguments.data):
        sequences, labels = split.train
        row = np.array(
            [
                cross_validated_mcc(model.embed(sequences, pooling=pooling, layer=layers), labels)
                for pooling, layers in CHOICES
            ]
        )
        totals += row
        print(f"| {split.name} | " + " | ".join(f"{value:.3f}" for value in row) + " |", flush=True)
    print("| mean | " + " | ".join(f"{value / 6:.3f}" for value in totals) + " |")


if __name__ == "__main__":
    main()
