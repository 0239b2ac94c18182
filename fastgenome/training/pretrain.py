"""Masked-language-model pre-training: hidden bases are predicted from the bases around them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from fastgenome.atomic import atomic_file, check_output_folder
from fastgenome.errors import CheckpointError, InputError
from fastgenome.training.corpus import DividedCorpus, build_corpus
from fastgenome.training.pretrain_config import WEIGHT_TYPES, PretrainConfig
from fastgenome.training.pretrain_report import PretrainReport
from fastgenome.training.pretrain_run import STATE_FILE, PretrainRun
from fastgenome.training.state import digest

if TYPE_CHECKING:
    from fastgenome.models.tiny import TinyConfig
    from fastgenome.records import ReadReport

__all__ = ["PretrainConfig", "PretrainReport", "pretrain"]

REPORT_FILE = "pretraining.json"


def pretrain(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    config: PretrainConfig | None = None,
    shape: TinyConfig | None = None,
    resume: bool = True,
    device: str = "auto",
    track_energy: bool = False,
    progress: bool = False,
) -> PretrainReport:
    """Pre-train a small encoder on DNA, both strands, and save it as a model that ``load(out)`` opens.

    Args:
        sources: FASTA, FASTQ, CSV, TSV, Parquet or text files, plain or gzip.
        out: folder of the model, the loss curve (loss.csv) and the report (pretraining.json).
        config: how to train.
        shape: of the network; by default that of "tiny".
        resume: continue an interrupted run in ``out`` exactly; a finished one is returned at once. False
            starts anew over what ``out`` holds.
        device: "auto", "cpu" or "cuda".
        track_energy: measure the energy of the steps, see track_emissions.
        progress: show a bar with loss, held-out perplexity and throughput.

    Raises:
        InputError: a source is not usable or too short. CheckpointError: ``out`` holds another run.
        ArgumentError: ``out`` cannot be written to, or the training diverged.
    """
    from fastgenome.models.device import choose_device
    from fastgenome.models.tiny import TinyConfig, create

    config = config or PretrainConfig()
    shape = shape or TinyConfig()
    folder = check_output_folder(out)
    names = [str(source) for source in ([sources] if isinstance(sources, (str, Path)) else sources)]
    corpus, readings = _read_corpus(names, config)
    settings = digest(asdict(config), asdict(shape), _corpus_digest(corpus))
    if resume and (finished := _finished_report(folder, settings)):
        return finished
    torch.manual_seed(config.seed)
    model = create(shape, device=choose_device(device))
    folder.mkdir(parents=True, exist_ok=True)
    run = PretrainRun(model, corpus, config, track_energy=track_energy)
    run.train(folder, settings, resume=resume, progress=progress)
    _round_weights(model.network, WEIGHT_TYPES[config.weights_dtype])
    report = run.report(names, readings)
    model.save(folder, dtype=WEIGHT_TYPES[config.weights_dtype])
    with atomic_file(folder / REPORT_FILE) as file:
        stored = {"settings": settings, **report.to_dict()}
        file.write((json.dumps(stored, indent=2, allow_nan=False) + "\n").encode())
    (folder / STATE_FILE).unlink(missing_ok=True)
    return report


def _read_corpus(names: list[str], config: PretrainConfig) -> tuple[DividedCorpus, list[ReadReport]]:
    from fastgenome.sequences import read_sequences

    if not names:
        raise InputError("no source to train on; give at least one file")
    readers = [read_sequences(name) for name in names]
    sequences = ((record.sequence for record in reader) for reader in readers)
    corpus = build_corpus(sequences, held_out=config.held_out, seed=config.seed)
    return corpus, [reader.report for reader in readers]


def _corpus_digest(corpus: DividedCorpus) -> str:
    parts = (corpus.train, *(share.held_out for share in corpus.sources))
    sha256 = hashlib.sha256(json.dumps([share.train_bases for share in corpus.sources]).encode())
    for part in parts:
        sha256.update(part.offsets.tobytes())
        sha256.update(part.bases.tobytes())
    return sha256.hexdigest()


def _finished_report(folder: Path, settings: str) -> PretrainReport | None:
    """The report of this very run if it has ended; CheckpointError where another run has."""
    path = folder / REPORT_FILE
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text())
        if stored.pop("settings") == settings:
            return PretrainReport.from_dict(stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read the report of a finished run {path}: {error!r}") from error
    if (folder / STATE_FILE).exists():
        # A run begun with resume=False over the finished one; its state tells whether it is ours.
        return None
    raise CheckpointError(
        f"{folder} holds a finished run with other data or settings; "
        "choose another folder, or replace it with resume=False (--no-resume)"
    )


@torch.no_grad()
def _round_weights(network: nn.Module, dtype: torch.dtype) -> None:
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(dtype))
