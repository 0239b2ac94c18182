"""Masked-language-model pre-training: hidden bases are predicted from the bases around them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastgenome.atomic import atomic_file
from fastgenome.errors import ArgumentError, InputError
from fastgenome.progress import progress_bar
from fastgenome.training.corpus import Corpus, build_corpus, mask_spans, sample_crops
from fastgenome.training.markov import MarkovModel
from fastgenome.training.masked_language import masked_loss, perplexity
from fastgenome.training.state import digest, load_state, save_state

if TYPE_CHECKING:
    from fastgenome.models.model import Model
    from fastgenome.models.tiny import TinyConfig

STATE_FILE = "training_state.safetensors"
REPORT_FILE = "pretraining.json"
_HELD_OUT_STREAM = 2**31


@dataclass(frozen=True)
class PretrainConfig:
    """How to pre-train.

    Attributes:
        bases: to read in total, over all passes.
        batch_bases: of one optimizer step.
        learning_rate, weight_decay, warmup: AdamW; the rate rises over the share ``warmup`` of the
            steps and then falls along a cosine to a fiftieth.
        mask_rate, mask_span: share of the bases that is hidden, in spans of this many bases.
        shortest, longest: bases of a crop; each step draws one length, log-uniformly.
        held_out: share of the blocks (50 kb, or a whole record) that is only evaluated on.
        evaluate_bases: of the held-out crops behind the final perplexity.
        checkpoint_steps: between two checkpoints.
        seed: of the weights, the split, the crops and the masks.
    """

    bases: int = 90_000_000
    batch_bases: int = 16_384
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    mask_rate: float = 0.15
    mask_span: int = 2
    shortest: int = 64
    longest: int = 3072
    held_out: float = 0.05
    evaluate_bases: int = 1_000_000
    checkpoint_steps: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("bases", "batch_bases", "mask_span", "evaluate_bases", "checkpoint_steps"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not 0 < self.mask_rate < 1 or not 0 <= self.warmup < 1:
            raise ArgumentError(
                f"mask_rate must lie within 0 and 1 and warmup in 0 … 1; got {self.mask_rate}, {self.warmup}"
            )
        if not 16 <= self.shortest <= self.longest:
            raise ArgumentError(f"16 <= shortest <= longest is needed; got {self.shortest}, {self.longest}")

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return math.ceil(self.bases / self.batch_bases)


@dataclass(frozen=True)
class PretrainReport:
    """What a run did.

    Attributes:
        steps, bases, seconds: of the whole run, resumed parts included.
        train_bases, held_out_bases: sizes of the corpus, one strand.
        perplexity: per hidden base of the held-out crops, at the end; 4 is chance.
        markov_perplexity: the same bases under k-mer Markov models of the training bases, by order;
            these see every base on the left, hidden ones too.
        loss: the loss curve, rows of step, bases, seconds, loss (nats), learning_rate, perplexity.
    """

    steps: int
    bases: int
    seconds: float
    train_bases: int
    held_out_bases: int
    perplexity: float
    markov_perplexity: dict[int, float]
    loss: list[dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return asdict(self)

    def summary(self) -> str:
        """One paragraph for people."""
        beside = ", ".join(f"order {k}: {value:.3f}" for k, value in self.markov_perplexity.items())
        return (
            f"{self.steps} steps, {self.bases / 1e6:.1f} Mbp in {self.seconds:.0f} s; "
            f"held-out perplexity {self.perplexity:.3f} per base (Markov models: {beside})"
        )


def pretrain(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    config: PretrainConfig | None = None,
    shape: TinyConfig | None = None,
    resume: bool = True,
    device: str = "auto",
    progress: bool = False,
) -> PretrainReport:
    """Pre-train a small encoder on DNA, both strands, and save it as a model that ``load(out)`` opens.

    Args:
        sources: FASTA, FASTQ, CSV, TSV, Parquet or text files, plain or gzip.
        out: folder of the model, the loss curve (loss.csv) and the report (pretraining.json).
        config: how to train.
        shape: of the network; by default that of "tiny".
        resume: continue an interrupted run in ``out`` exactly; a finished one is returned at once.
        device: "auto", "cpu" or "cuda".
        progress: show a bar with loss, held-out perplexity and throughput.

    Raises:
        InputError: a source is not usable or too short. CheckpointError: ``out`` holds another run.
    """
    from fastgenome.models.device import choose_device
    from fastgenome.models.tiny import TinyConfig, create

    config = config or PretrainConfig()
    shape = shape or TinyConfig()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    train, held_out = build_corpus(_sequences(sources), held_out=config.held_out, seed=config.seed)
    settings = digest(asdict(config), asdict(shape), _corpus_digest(train))
    if resume and (finished := _finished_report(folder, settings)):
        return finished
    torch.manual_seed(config.seed)
    model = create(shape, device=choose_device(device))
    run = _Run(model, train, held_out, config)
    run.train(folder, settings, resume=resume, progress=progress)
    report = run.report()
    model.save(folder)
    with atomic_file(folder / REPORT_FILE) as file:
        file.write((json.dumps({"settings": settings, **asdict(report)}, indent=2) + "\n").encode())
    (folder / STATE_FILE).unlink(missing_ok=True)
    return report


def _sequences(sources: str | Path | Sequence[str | Path]) -> list[str]:
    from fastgenome.sequences import read_sequences

    paths = [sources] if isinstance(sources, (str, Path)) else list(sources)
    if not paths:
        raise InputError("no source to train on; give at least one file")
    return [record.sequence for path in paths for record in read_sequences(path)]


def _corpus_digest(corpus: Corpus) -> str:
    return hashlib.sha256(corpus.bases.tobytes() + corpus.offsets.tobytes()).hexdigest()


def _finished_report(folder: Path, settings: str) -> PretrainReport | None:
    path = folder / REPORT_FILE
    if not path.exists():
        return None
    stored = json.loads(path.read_text())
    if stored.pop("settings", None) != settings:
        return None
    stored["markov_perplexity"] = {int(k): v for k, v in stored["markov_perplexity"].items()}
    return PretrainReport(**stored)


class _Run:
    """One pre-training run: what a step needs, and the loop over steps."""

    def __init__(self, model: Model, train: Corpus, held_out: Corpus, config: PretrainConfig) -> None:
        self.model = model
        self.train_corpus = train
        self.held_out = held_out
        self.config = config
        decayed = [p for p in self.model.network.parameters() if p.dim() > 1]
        plain = [p for p in self.model.network.parameters() if p.dim() <= 1]
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
        self.step = 0
        self.bases = 0
        self.seconds = 0.0
        self.curve: list[dict[str, float]] = []

    def train(self, folder: Path, settings: str, *, resume: bool, progress: bool) -> None:
        """Run the remaining steps, with a checkpoint and a held-out figure every so many."""
        state = folder / STATE_FILE
        if resume and state.exists():
            stored = load_state(state, self.model.network, self.optimizer, settings=settings)
            self.step, self.bases, self.seconds = stored["step"], stored["bases"], stored["seconds"]
            self.curve = stored["curve"]
        self.model.network.train()
        losses: list[float] = []
        with progress_bar("pre-training", self.config.steps, shown=progress, done=self.step) as advance:
            while self.step < self.config.steps:
                started = time.perf_counter()
                losses.append(self._one_step())
                self.seconds += time.perf_counter() - started
                advance(1, self._note(losses[-1]))
                if self.step % self.config.checkpoint_steps == 0 or self.step == self.config.steps:
                    self._record(losses)
                    losses.clear()
                    self._write_curve(folder / "loss.csv")
                    stored = {
                        "step": self.step,
                        "bases": self.bases,
                        "seconds": self.seconds,
                        "curve": self.curve,
                    }
                    save_state(state, self.model.network, self.optimizer, settings=settings, progress=stored)

    def report(self) -> PretrainReport:
        """Final figures on the held-out crops."""
        crops, masks = self._held_out_batch(self.config.evaluate_bases)
        markov = {
            order: _markov_perplexity(MarkovModel(self.train_corpus, order), crops, masks)
            for order in (3, 5, 8, 10)
        }
        return PretrainReport(
            steps=self.step,
            bases=self.bases,
            seconds=self.seconds,
            train_bases=len(self.train_corpus.bases),
            held_out_bases=len(self.held_out.bases),
            perplexity=perplexity(self.model, crops, masks, batch_bases=self.config.batch_bases),
            markov_perplexity=markov,
            loss=self.curve,
        )

    def _note(self, loss: float) -> str:
        perplexity = f"{self.curve[-1]['perplexity']:.3f}" if self.curve else "…"
        rate = self.bases / self.seconds / 1000
        return f"loss {loss:.3f}, held-out perplexity {perplexity}, {rate:.0f} kbp/s"

    def _one_step(self) -> float:
        config = self.config
        # The step's own stream: a resumed run draws what an unbroken one would have drawn.
        rng = np.random.default_rng([config.seed, self.step])
        length = round(math.exp(rng.uniform(math.log(config.shortest), math.log(config.longest))))
        crops = sample_crops(self.train_corpus, rng, bases=config.batch_bases, length=length)
        masks = [mask_spans(len(crop), rng, rate=config.mask_rate, span=config.mask_span) for crop in crops]
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        loss = masked_loss(self.model, crops, masks)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.bases += sum(len(crop) for crop in crops)
        return float(loss.detach())

    def _learning_rate(self) -> float:
        rise = max(1, round(self.config.warmup * self.config.steps))
        if self.step < rise:
            return self.config.learning_rate * (self.step + 1) / rise
        done = (self.step - rise) / max(1, self.config.steps - rise)
        return self.config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))

    def _held_out_batch(self, bases: int) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.bool_]]]:
        """The same crops and masks at every call, longer when more bases are asked for."""
        corpus = self.held_out if len(self.held_out.bases) else self.train_corpus
        rng = np.random.default_rng([self.config.seed, _HELD_OUT_STREAM])
        length = min(512, self.config.longest)
        crops = sample_crops(corpus, rng, bases=bases, length=length)
        masks = [
            mask_spans(len(crop), rng, rate=self.config.mask_rate, span=self.config.mask_span)
            for crop in crops
        ]
        return crops, masks

    def _record(self, losses: list[float]) -> None:
        crops, masks = self._held_out_batch(min(100_000, self.config.evaluate_bases))
        row = {
            "step": self.step,
            "bases": self.bases,
            "seconds": self.seconds,
            "loss": float(np.mean(losses)),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "perplexity": perplexity(self.model, crops, masks, batch_bases=self.config.batch_bases),
        }
        self.curve.append(row)

    def _write_curve(self, path: Path) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(self.curve[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.curve)
        with atomic_file(path) as file:
            file.write(text.getvalue().encode())


def _markov_perplexity(
    markov: MarkovModel, crops: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]
) -> float:
    """Perplexity of the hidden bases under a Markov model that sees every base before them."""
    scores = [markov.log_probability(crop)[mask] for crop, mask in zip(crops, masks, strict=True)]
    return math.exp(-float(np.nanmean(np.concatenate(scores))))
