"""What bfloat16 products cost in accuracy, by family, on a real task: `python benchmarks/precision.py`.

Enhancers against other human DNA of 200 bp (iEnhancer-2L, layer 1): logistic regression on frozen embeddings
in float32 and in bfloat16, each trained and tested in its own precision. `tiny` has trained weights; the
other families have random ones in the shape of a published model, which says how much rounding an embedding
meets, not how good it is. The results go to results/precision.json and to docs/models/published.md.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bench_caduceus
import bench_hyena
import numpy as np
import torch
from models import DATA, HERE, SHAPES, cosine, make_checkpoint
from pages import write_between
from real_tasks import enhancers
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastgenome as fg
from fastgenome.models.model import Model
from fastgenome.models.transformer import cast_products

RESULTS = HERE / "results" / "precision.json"
PAGE = HERE.parent / "docs" / "models" / "published.md"
BEGIN, END = "<!-- precision table: written by benchmarks/precision.py -->", "<!-- end of precision table -->"
DTYPES = ("float32", "bfloat16")

# Sequences and their classes.
Labelled = tuple[list[str], list[int]]


@contextmanager
def loaded(name: str) -> Iterator[tuple[Model, Model]]:
    """The model in float32 and in bfloat16."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.models.LicenceWarning)
        directory = Path(folder)
        if name == "Caduceus PH, 4 layers of 256":
            models = [bench_caduceus.make_model(False) for _ in DTYPES]
            cast_products(models[1].network, torch.bfloat16)
            yield models[0], models[1]
            return
        if name in SHAPES:
            torch.manual_seed(0)
            make_checkpoint(SHAPES[name], SHAPES[name].peer(SHAPES[name].config).weights, directory)
        elif name != "tiny":
            bench_hyena.write_checkpoint(directory, *bench_hyena.SIZES["small-32k"])
        source = "tiny" if name == "tiny" else directory
        exact, rounded = (fg.load(source, device="cpu", dtype=dtype) for dtype in DTYPES)
        yield exact, rounded


def choose(part: tuple[list[str], list[str]], count: int) -> Labelled:
    """So many sequences drawn at random, with their labels."""
    order = np.random.default_rng(0).permutation(len(part[0]))[:count]
    return [part[0][i].upper() for i in order], [int(part[1][i]) for i in order]


def measure(
    name: str, train: tuple[list[str], list[int]], test: tuple[list[str], list[int]]
) -> dict[str, Any]:
    """Smallest cosine between the embeddings of a test sequence, and both areas under the ROC curve."""
    scores, tested = [], []
    with loaded(name) as models:
        for model in models:
            classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000, C=0.01))
            classifier.fit(model.embed(train[0]), train[1])
            tested.append(model.embed(test[0]))
            scores.append(classifier.predict_proba(tested[-1])[:, 1])
    exact, rounded = scores
    return {
        "smallest_cosine": cosine(*tested),
        "auc_float32": float(roc_auc_score(test[1], exact)),
        "auc_bfloat16": float(roc_auc_score(test[1], rounded)),
        "changed_predictions": float(np.mean((exact > 0.5) != (rounded > 0.5))),
        "test_sequences": len(test[0]),
    }


def render(results: dict[str, Any]) -> str:
    lines = [
        "| model | smallest cosine | AUC float32 | AUC bfloat16 | predictions changed |",
        "|---|---|---|---|---|",
    ]
    for name, found in results["models"].items():
        lines.append(
            f"| {name} | {found['smallest_cosine']:.6f} | {found['auc_float32']:.4f} | "
            f"{found['auc_bfloat16']:.4f} | {found['changed_predictions']:.1%} of {found['test_sequences']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sequences", type=int, default=300, help="for training, and as many for the test")
    count = parser.parse_args().sequences
    split = enhancers(DATA)
    train, test = choose(split.train, count), choose(split.test, count)
    names = ["tiny", *SHAPES, "HyenaDNA small-32k", "Caduceus PH, 4 layers of 256"]
    models = {}
    for name in names:
        models[name] = measure(name, train, test)
        print(name, models[name], flush=True)
    results = {"command": "python benchmarks/precision.py", "torch": torch.__version__, "models": models}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    write_between(PAGE, BEGIN, END, render(results))


if __name__ == "__main__":
    main()
