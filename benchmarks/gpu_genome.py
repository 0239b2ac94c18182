"""Scoring of a genome on a GPU, for gpu.py: bases a second of tiny and of shapes with random weights."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import DATA, SHAPES, make_checkpoint

import fastgenome as fg
from fastgenome.models.model import Model

WINDOW, STRIDE, CONTEXT = 300, 50, 2400
HUMAN_BASES = 3.1e9


def measure_genome(device: torch.device) -> dict[str, Any]:
    """Bases a second of each model, exact and with a shared context, both strands, to Parquet and bigWig.

    `hours_of_3.1_Gb` is what a genome of the size of the human would take at that rate.
    """
    small = device.type == "cpu"
    draw = np.random.default_rng(0)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model_name in ("tiny", "NT-v2-50M", "DNABERT-2"):
            bases = 3_000 if small else 4_000_000 if model_name == "tiny" else 1_000_000
            genome = folder / f"{model_name}.fa"
            genome.write_text(f">chr\n{''.join(draw.choice(list('ACGT'), bases))}\n")
            model = _load(model_name, folder / model_name, device)
            if model is None:
                results[model_name] = "its vocabulary is not at hand"
                continue
            predictor = _probe(model, draw)
            for way, context in (("windows", None), ("context", CONTEXT)):
                outs = [folder / f"{model_name}.{way}{ending}" for ending in (".parquet", ".bw")]
                report = fg.score_genome(
                    predictor, genome, out=outs, window=WINDOW, stride=STRIDE, context=context
                )
                rate = bases / report.seconds
                results[f"{model_name}, {way}"] = {
                    "kbp_s": rate / 1e3, "hours_of_3.1_Gb": HUMAN_BASES / rate / 3600,
                }  # fmt: skip
    return {"genome": results}


def _load(name: str, folder: Path, device: torch.device) -> Model | None:
    """tiny, or a published shape with random weights; None where its vocabulary is missing."""
    if name == "tiny":
        return fg.load("tiny", device=str(device))
    shape = SHAPES[name]
    if shape.vocabulary and not (DATA / "tokenizers" / shape.vocabulary).exists():
        return None
    folder.mkdir()
    config = shape.config if device.type == "cuda" else shape.config | {"num_hidden_layers": 1}
    make_checkpoint(shape._replace(config=config), shape.peer(config).weights, folder)
    return fg.load(folder, device=str(device))


def _probe(model: Model, draw: np.random.Generator) -> fg.Predictor:
    """A probe that knows nothing: rates do not depend on what it learned."""
    sequences = ["".join(draw.choice(list("ACGT"), WINDOW)) for _ in range(32)]
    return fg.finetune((sequences, [place % 2 for place in range(32)]), model=model, method="probe")
