"""Whether the numbers of a loaded model are those of the published one."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastgenome.errors import ModelError
from fastgenome.models.model import Model
from fastgenome.models.registry import registered
from fastgenome.models.sources import find_model
from fastgenome.tokenizers import Tokens

# Of each input: what the reference was given, the first and last values of its embedding, and its norm and
# mean, with the tolerances within which an independent implementation was held to be equal.
_FIGURES = Path(__file__).with_name("published_figures.json")


class Comparison(NamedTuple):
    """One sequence: how far our float32 embedding is from the published one, and the bounds for it.

    `cosine`, `max_abs` and `mean_abs` are over the values that were published, the first and the last ones of
    `width`. `norm` and `mean` are differences of the whole embedding's Euclidean norm and mean. `bounds` has
    the least cosine and the largest differences under the same names.
    """

    sequence: str
    ids_equal: bool
    width_equal: bool
    cosine: float
    max_abs: float
    mean_abs: float
    norm: float
    mean: float
    bounds: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether the ids are equal and every difference lies within its bound."""
        within = (
            getattr(self, name) <= self.bounds[name] for name in ("max_abs", "mean_abs", "norm", "mean")
        )
        return self.ids_equal and self.width_equal and self.cosine >= self.bounds["cosine"] and all(within)


def verifiable() -> list[str]:
    """The names of the models whose figures are known."""
    return sorted(_published())


def verify(name: str, *, directory: str | Path | None = None) -> list[Comparison]:
    """Compare a model's embeddings with the published figures, in float32 on the CPU.

    `directory` holds the weights, where they are not those that `name` loads: converted ones, for example.
    Without it, pinned digests are compared first, those of large files, too. Raises ModelError for a name
    without published figures, and what `load` raises.
    """
    from fastgenome.models import load

    entry = registered(name)
    known = _published()
    if entry is None or entry.name not in known:
        raise ModelError(
            f"no figures are published here for {name!r}; they are for {', '.join(verifiable())}"
        )
    if directory is None:
        find_model(entry.name, large=True)
    model = load(entry.name if directory is None else Path(directory), device="cpu", dtype="float32")
    return [_compare(model, figures) for figures in known[entry.name]]


def _compare(model: Model, figures: dict[str, Any]) -> Comparison:
    special = figures["special_tokens"]
    ids = np.array(figures["ids"], dtype=np.int32)
    ours = model.tokenizer([figures["sequence"]], special_tokens=special).ids
    # The published ids, so that a fault of the tokenizer and one of the network are told apart.
    with torch.inference_mode():
        states = model.hidden_states(Tokens(ids, np.array([0, len(ids)])), layers=figures["layer"])
    assert isinstance(states, torch.Tensor)
    rows = states.double().numpy()
    embedding = rows[0] if figures["pooling"] == "cls" else rows.mean(axis=0)
    width, first, last = figures["width"], figures["first"], figures["last"]
    theirs = np.array([*first, *last])
    found = np.concatenate([embedding[: len(first)], embedding[-len(last) :]])
    gaps = np.abs(found - theirs) if len(found) == len(theirs) else np.array([math.inf])
    return Comparison(
        sequence=figures["sequence"],
        ids_equal=np.array_equal(ours, ids),
        width_equal=len(embedding) == width,
        cosine=_cosine(found, theirs),
        max_abs=float(gaps.max()),
        mean_abs=float(gaps.mean()),
        norm=abs(float(np.linalg.norm(embedding)) - figures["norm"]),
        mean=abs(float(embedding.mean()) - figures["mean"]),
        bounds=_bounds(width, figures["tolerance"]),
    )


def _bounds(width: int, tolerance: dict[str, float]) -> dict[str, float]:
    """The tolerances, and what they imply: no norm or mean differs by more than all its values together."""
    return {
        **tolerance,
        "norm": tolerance["max_abs"] * math.sqrt(width),
        "mean": tolerance["mean_abs"],
    }


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if len(one) != len(other):
        return math.nan
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def _published() -> dict[str, list[dict[str, Any]]]:
    content: dict[str, list[dict[str, Any]]] = json.loads(_FIGURES.read_text(encoding="utf-8"))
    return content
