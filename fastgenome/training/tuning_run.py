"""One tuning run: the loop over optimizer steps, with evaluations and checkpoints between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastgenome.batching import take_sequences
from fastgenome.errors import DivergedError
from fastgenome.memory import freed_memory_kept
from fastgenome.packed_weights import no_copies
from fastgenome.progress import progress_bar
from fastgenome.tokenizers import Tokens
from fastgenome.training.distributed import Processes
from fastgenome.training.metrics import evaluate
from fastgenome.training.optimizer import make_optimizer, rate_at
from fastgenome.training.shared_parts import SharedParts
from fastgenome.training.state import restore_training, training_tensors
from fastgenome.training.trained_parts import TrainedParts, masks_of, recomputed_layers, trained_parameters
from fastgenome.training.tuning_batches import TuningData, epoch_batches, shares_of_batch
from fastgenome.training.tuning_checkpoint import Checkpoint, CheckpointFolder
from fastgenome.training.tuning_log import StepTotals, peak_memory
from fastgenome.training.tuning_loss import TunedHead, example_losses, example_weights, target_tensor
from fastgenome.training.tuning_selection import Selection

if TYPE_CHECKING:
    from fastgenome.adapters.rank_allocation import RankAllocator
    from fastgenome.prediction import Predictor
    from fastgenome.training.tuning_config import Training

# Optimizer steps behind each row of the log.
_LOG_STEPS = 10


class TuningRun:
    """What a step of tuning needs, and the loop over steps.

    Everything random in a step comes from a stream of its own, which seed, step and process name: a resumed
    run does what an unbroken one would have done.
    """

    def __init__(
        self,
        predictor: Predictor,
        head: TunedHead,
        train: TuningData,
        validation: TuningData,
        *,
        training: Training,
        learning_rate: float,
        autocast: bool = False,
        allocates: Callable[[int], RankAllocator | None] = lambda total_steps: None,
        processes: Processes | None = None,
    ) -> None:
        """What of the predictor's model requires a gradient is trained, and `head`.

        `allocates` makes of the number of all steps what allocates ranks, if anything does. Of several
        `processes` each makes a run like this one.
        """
        assert predictor.model is not None
        self.predictor, self.model, self.task = predictor, predictor.model, predictor.task
        self.processes = processes or Processes()
        self.shared = SharedParts(
            TrainedParts(self.model.network, head.to(self.model.device)), self.processes
        )
        self._take_parts(self.shared.parts)
        self.data, self.validation = train, validation
        self.training, self.learning_rate, self.autocast = training, learning_rate, autocast
        self.targets = target_tensor(self.task, train.targets, head.unit)
        self.weights = torch.from_numpy(example_weights(self.task, train.targets, training.class_weights))
        self.optimizer = make_optimizer(
            self.parameters.values(), learning_rate=learning_rate, weight_decay=training.weight_decay
        )
        self.selection = Selection(self.task, training.criterion)
        self.steps_per_epoch = math.ceil(len(train.bases) / training.batch_size)
        self.steps = training.epochs * self.steps_per_epoch
        self.allocator = allocates(self.steps)
        self.step = 0
        self.seconds = 0.0
        self.log: list[dict[str, float]] = []
        self._totals = StepTotals()
        self._order: tuple[int, list[NDArray[np.int64]]] = (-1, [])

    def _take_parts(self, parts: TrainedParts) -> None:
        self.model.network, self.head = parts.network, parts.head
        self.parameters = trained_parameters(parts)

    def train(self, checkpoints: CheckpointFolder | None, *, progress: bool) -> None:
        """Run the remaining steps; the best weights are left in place."""
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        bar = progress_bar("tuning", self.steps, shown=progress, done=self.step)
        layers = recomputed_layers(self.model.network, wanted=self.training.gradient_checkpointing)
        with (
            bar as advance,
            layers,
            torch.random.fork_rng(devices),
            freed_memory_kept(),
            no_copies(self.processes.sharded),
        ):
            if self.processes.sharded:
                # Shards that are first put together in inference mode could not be trained.
                with torch.no_grad():
                    self.shared(partial(self._scores, self._shortest()))
            if not self.selection.evaluations:
                # The start counts too: where tuning at fixed rank gains nothing, the probe stays.
                self._evaluate()
            while self.step < self.steps and not self._out_of_patience():
                self._one_step()
                if self._is_due(self.training.evaluate_every):
                    self._evaluate()
                if checkpoints is not None and self._is_due(self.training.checkpoint_every):
                    self._save(checkpoints)
                advance(1, self._note())
        self._take_best()

    def _save(self, checkpoints: CheckpointFolder) -> None:
        checkpoint = self.checkpoint()
        self.processes.by_first(lambda: checkpoints.save(checkpoint))

    def _out_of_patience(self) -> bool:
        return self.training.patience is not None and self.selection.since_best >= self.training.patience

    def _is_due(self, every: int | None) -> bool:
        return self.step % (every or self.steps_per_epoch) == 0 or self.step == self.steps

    def _one_step(self) -> None:
        """One optimizer step over one batch, whose gradient is added up from its parts."""
        started = time.perf_counter()
        stream = [self.training.seed, self.step, 1, self.processes.rank]
        torch.manual_seed(int(np.random.default_rng(stream).integers(2**62)))
        batch = self._batch()
        loss = torch.zeros((), device=self.model.device)
        count = self.processes.count
        parts = shares_of_batch(self.data.rows, batch, self.training.batch_tokens, count)[self.processes.rank]
        for number, part in enumerate(parts, start=1):
            with self.shared.accumulating(number < len(parts)):
                part_loss = self._loss(part, len(batch))
                # DDP and FSDP average gradients; the sum is wanted.
                (part_loss * count).backward()  # type: ignore[no-untyped-call]
            loss += part_loss.detach()
        if self.allocator is not None:
            # Before clipping: importance is measured on the gradients as they are.
            self.allocator.add_orthogonality_gradient()
            self.allocator.after_backward(self.step + 1)
        nn.utils.clip_grad_norm_(self.parameters.values(), self.training.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(
                self.step, self.steps, highest=self.learning_rate, warmup=self.training.warmup
            )
        self.optimizer.step()
        if self.allocator is not None:
            self.allocator.after_step(self.step + 1)
        self.optimizer.zero_grad()
        self.step += 1
        seconds = time.perf_counter() - started
        self._totals.add(loss, sequences=len(batch), bases=int(self.data.bases[batch].sum()), seconds=seconds)
        if self.step % _LOG_STEPS == 0 or self.step == self.steps:
            self._record()

    def _batch(self) -> NDArray[np.int64]:
        epoch, place = divmod(self.step, self.steps_per_epoch)
        if self._order[0] != epoch:
            size, seed = self.training.batch_size, self.training.seed
            self._order = epoch, epoch_batches(self.data.rows, batch_size=size, seed=seed, epoch=epoch)
        return self._order[1][place]

    def _loss(self, part: NDArray[np.int64], batch_size: int) -> Tensor:
        """What a part of a batch adds to the batch's mean loss."""
        if not len(part):
            # Other processes have a part, and exchange what they compute of it.
            return self.shared(partial(self._scores, self._shortest())).sum() * 0
        scores = self.shared(partial(self._scores, part))
        targets, weights = self.targets[part].to(scores.device), self.weights[part].to(scores.device)
        losses = example_losses(self.task, scores, targets) * weights
        return losses.sum() / (batch_size * losses[0].numel())

    def _shortest(self) -> NDArray[np.int64]:
        return np.argsort(self.data.rows)[:1]

    def _scores(self, part: NDArray[np.int64]) -> Tensor:
        """Scores (n, outputs) of some of the training data, with gradients."""
        tokens = Tokens(*take_sequences(self.data.tokens.ids, self.data.tokens.offsets, part))
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            pooled = self.model.pooled(tokens, pooling=self.predictor.pooling, layer=self.predictor.layer)
        features = torch.from_numpy(self.data.features[part]).to(device)
        scores: Tensor = self.head(torch.cat([pooled.float(), features], 1))
        return scores

    def _evaluate(self) -> None:
        """Add the figures of the validation data to the selection."""
        self._record()
        row = self.shared.agreed(self._validated)
        # Ranks above the budget that was asked for are no result.
        eligible = self.allocator is None or self.step >= self.allocator.schedule.end
        self.selection.add(row, self._trained(), eligible=eligible)

    def _validated(self) -> dict[str, float]:
        """The figures of the validation data as the weights are now."""
        held = self.validation
        for parameter in self.head.parameters():
            self._check_finite(float(parameter.detach().abs().max()), "a weight of the head")
        self.predictor.head = self.head.to_linear_head()
        inputs = self.predictor.joined(held.tokens, held.features)
        self._check_finite(float(np.abs(inputs).max()), "an embedding")
        with torch.no_grad():
            scores = self.head(torch.from_numpy(inputs).to(self.model.device)).cpu()
        losses = example_losses(self.task, scores, target_tensor(self.task, held.targets, self.head.unit))
        self._check_finite(float(losses.mean()), "the validation loss")
        figures = evaluate(self.task, held.targets, self.predictor.head.outputs(inputs))
        row = {"step": self.step, "epoch": self.step / self.steps_per_epoch, "loss": float(losses.mean())}
        return row | figures

    def _trained(self) -> dict[str, Tensor]:
        """What the steps change, by name: parameters, and the masks of singular values."""
        return {**self.parameters, **masks_of(self.model.network)}

    @torch.no_grad()
    def _take_best(self) -> None:
        device = self.model.device
        self._take_parts(self.shared.whole.to(device))
        for name, tensor in self._trained().items():
            tensor.copy_(self.selection.best[name])
        self.predictor.head = self.head.to_linear_head()

    def _record(self) -> None:
        """Add a row to the log, over the steps since the last one."""
        if not self._totals.losses:
            return
        loss = float(self.processes.total(torch.stack(self._totals.losses)).mean())
        self._check_finite(loss, "the loss")
        row = {"step": self.step, "epoch": self.step / self.steps_per_epoch, "loss": loss}
        rates = self._totals.rates() | {"memory_mb": peak_memory(self.model.device)}
        self.log.append({**row, "learning_rate": self.optimizer.param_groups[0]["lr"], **rates})
        self.seconds += self._totals.seconds
        self._totals = StepTotals()

    def _check_finite(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            raise DivergedError(
                f"training diverged before step {self.step}: {what} is {value}; use a lower learning_rate"
            )

    def _note(self) -> str:
        if not self.log:
            return ""
        row, figure = self.log[-1], self.selection.evaluations[-1].get(self.selection.criterion, math.nan)
        return (
            f"loss {row['loss']:.3f}, validation {self.selection.criterion} {figure:.3f}, "
            f"{row['bases_per_second'] / 1000:.0f} kbp/s, {row['memory_mb']:.0f} MB"
        )

    def checkpoint(self) -> Checkpoint:
        """All that the next steps depend on."""
        self._record()
        tensors = training_tensors(self.parameters, self.optimizer)
        tensors |= {f"best.{name}": tensor for name, tensor in self.selection.best.items()}
        tensors |= {f"mask.{name}": mask.cpu() for name, mask in masks_of(self.model.network).items()}
        tensors |= {f"head.{name}": buffer.cpu() for name, buffer in self.head.named_buffers()}
        if self.allocator is not None:
            state = self.allocator.state_dict()
            tensors |= {f"ranks.{name}": tensor.cpu().contiguous() for name, tensor in state.items()}
        progress = {"seconds": self.seconds, "log": self.log, "selection": self.selection.state()}
        return Checkpoint(self.step, tensors, progress)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint of a run with the same settings."""
        restore_training(self.parameters, self.optimizer, checkpoint.tensors, source="the checkpoint")
        masks = masks_of(self.model.network)
        with torch.no_grad():
            for name, mask in masks.items():
                mask.copy_(checkpoint.tensors[f"mask.{name}"])
        if self.allocator is not None:
            self.allocator.load_state_dict(_under("ranks.", checkpoint.tensors))
        self.step = checkpoint.step
        self.seconds, self.log = checkpoint.progress["seconds"], checkpoint.progress["log"]
        self.selection.restore(checkpoint.progress["selection"], _under("best.", checkpoint.tensors))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
