"""One pre-training run: its steps, checkpoints, loss curve and final figures."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fastgenome.emissions import Footprint, track_emissions
from fastgenome.progress import Advance, progress_bar
from fastgenome.training.corpus import Bases, Corpus, DividedCorpus, Mask, hide_bases, sample_crops
from fastgenome.training.held_out import (
    ORDERS,
    HiddenBases,
    nats_per_base,
    perplexities,
    pooled,
    sample_hidden_bases,
)
from fastgenome.training.markov import MarkovModel
from fastgenome.training.masked_language import check_converging, masked_loss, masked_nats
from fastgenome.training.optimizer import make_optimizer
from fastgenome.training.pretrain_report import PretrainReport, SourceReport
from fastgenome.training.run_log import write_rows
from fastgenome.training.state import load_state, save_state

if TYPE_CHECKING:
    from fastgenome.models.model import Model
    from fastgenome.records import ReadReport
    from fastgenome.training.pretrain_config import PretrainConfig

STATE_FILE = "training_state.safetensors"
CURVE_FILE = "loss.csv"
# Bases of the held-out crops behind each perplexity of the loss curve.
_CURVE_BASES = 100_000
# What the training state holds beside weights and moments.
_PROGRESS = ("step", "bases", "seconds", "energy_kwh", "co2e_g", "curve")


class PretrainRun:
    """One pre-training run: what a step needs, and the loop over steps."""

    def __init__(
        self, model: Model, corpus: DividedCorpus, config: PretrainConfig, *, track_energy: bool
    ) -> None:
        self.model = model
        self.corpus = corpus
        self.config = config
        self.track_energy = track_energy
        self.optimizer = make_optimizer(
            model.network.parameters(),
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.98),
        )
        self.step = 0
        self.bases = 0
        self.seconds = 0.0
        # Of all steps so far; None when some of them were not measured.
        self.energy_kwh: float | None = 0.0
        self.co2e_g: float | None = 0.0
        self.curve: list[dict[str, float | None]] = []

    def train(self, folder: Path, settings: str, *, resume: bool, progress: bool) -> None:
        """Run the remaining steps, with a checkpoint and a held-out figure every so many."""
        state = folder / STATE_FILE
        if resume and state.exists():
            stored = load_state(state, self.model.network, self.optimizer, settings=settings)
            for name in _PROGRESS:
                setattr(self, name, stored[name])
        self.model.network.train()
        with progress_bar("pre-training", self.config.steps, shown=progress, done=self.step) as advance:
            while self.step < self.config.steps:
                with self._footprint() as footprint:
                    losses = self._steps_to_checkpoint(advance)
                self._add_energy(footprint)
                self._record(losses)
                write_rows(folder / CURVE_FILE, self.curve)
                stored = {name: getattr(self, name) for name in _PROGRESS}
                save_state(state, self.model.network, self.optimizer, settings=settings, progress=stored)

    def report(self, names: Sequence[str], readings: Sequence[ReadReport]) -> PretrainReport:
        """Final figures on the held-out crops, of each source and of all."""
        scored = any(len(share.held_out.bases) for share in self.corpus.sources)
        markov = [MarkovModel(self.corpus.train, order) for order in ORDERS] if scored else []
        nats = [self._held_out_nats(share.held_out, markov) for share in self.corpus.sources]
        sources = tuple(
            SourceReport(
                name,
                reading.to_dict(),
                share.blocks_too_short,
                share.train_bases,
                len(share.held_out.bases),
                share.repeated_bases,
                *perplexities(row),
            )
            for name, reading, share, row in zip(names, readings, self.corpus.sources, nats, strict=True)
        )
        network, baselines = perplexities(pooled(nats, [source.held_out_bases for source in sources]))
        return PretrainReport(
            steps=self.step,
            bases=self.bases,
            seconds=self.seconds,
            energy_kwh=self.energy_kwh,
            co2e_g=self.co2e_g,
            train_bases=len(self.corpus.train.bases),
            held_out_bases=len(self.corpus.held_out.bases),
            perplexity=network,
            markov_perplexity=baselines,
            sources=sources,
            loss=self.curve,
        )

    def _held_out_nats(self, corpus: Corpus, markov: Sequence[MarkovModel]) -> NDArray[np.float64] | None:
        sample = self._hidden_bases(corpus, min(self.config.evaluate_bases, len(corpus.bases)))
        if not sample.n_scored:
            return None
        return nats_per_base(self.model, markov, sample, batch_bases=self.config.batch_bases)

    def _hidden_bases(self, corpus: Corpus, bases: int) -> HiddenBases:
        config = self.config
        return sample_hidden_bases(
            corpus,
            bases=bases,
            length=min(512, config.longest),
            rate=config.mask_rate,
            span=config.mask_span,
            seed=config.seed,
        )

    def _footprint(self) -> AbstractContextManager[Footprint | None]:
        return track_emissions() if self.track_energy else nullcontext()

    def _add_energy(self, footprint: Footprint | None) -> None:
        if footprint is None or not footprint.measured or self.energy_kwh is None or self.co2e_g is None:
            self.energy_kwh = self.co2e_g = None
        else:
            self.energy_kwh += footprint.energy_kwh
            self.co2e_g += footprint.co2e_g

    def _steps_to_checkpoint(self, advance: Advance) -> list[float]:
        losses: list[float] = []
        while not losses or (self.step % self.config.checkpoint_steps and self.step < self.config.steps):
            started = time.perf_counter()
            losses.append(self._one_step())
            self.seconds += time.perf_counter() - started
            advance(1, self._note(losses[-1]))
        return losses

    def _note(self, loss: float) -> str:
        perplexity = self.curve[-1]["perplexity"] if self.curve else None
        held_out = "" if perplexity is None else f", held-out perplexity {perplexity:.3f}"
        return f"loss {loss:.3f}{held_out}, {self.bases / self.seconds / 1000:.0f} kbp/s"

    def _one_step(self) -> float:
        config = self.config
        # The step's own stream: a resumed run draws what an unbroken one would have drawn.
        rng = np.random.default_rng([config.seed, self.step])
        length = round(math.exp(rng.uniform(math.log(config.shortest), math.log(config.longest))))
        crops, masks = self._draw_batch(rng, length)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        loss = masked_loss(self.model, crops, masks)
        nats = check_converging(float(loss.detach()))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.bases += sum(len(crop) for crop in crops)
        return nats

    def _draw_batch(self, rng: np.random.Generator, length: int) -> tuple[list[Bases], list[Mask]]:
        """Crops and what to hide of them, drawn again while only unknown bases were hit: no loss is empty."""
        config = self.config
        while True:
            crops = sample_crops(self.corpus.train, rng, bases=config.batch_bases, length=length)
            masks = hide_bases(crops, rng, rate=config.mask_rate, span=config.mask_span)
            if any(mask.any() for mask in masks):
                return crops, masks

    def _learning_rate(self) -> float:
        rise = max(1, round(self.config.warmup * self.config.steps))
        if self.step < rise:
            return self.config.learning_rate * (self.step + 1) / rise
        done = (self.step - rise) / max(1, self.config.steps - rise)
        return self.config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))

    def _record(self, losses: list[float]) -> None:
        sample = self._hidden_bases(self.corpus.held_out, min(_CURVE_BASES, self.config.evaluate_bases))
        perplexity = None
        if sample.n_scored:
            perplexity = math.exp(masked_nats(self.model, sample, batch_bases=self.config.batch_bases))
        row = {
            "step": self.step,
            "bases": self.bases,
            "seconds": self.seconds,
            "loss": float(np.mean(losses)),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "perplexity": perplexity,
        }
        self.curve.append(row)
