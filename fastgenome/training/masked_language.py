"""The masked-language objective: hidden bases are predicted from those around them (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fastgenome.errors import ArgumentError, InputError
from fastgenome.models.device import native_bfloat16
from fastgenome.training.corpus import Bases, Mask, base_codes

if TYPE_CHECKING:
    from fastgenome.models.model import Model
    from fastgenome.training.held_out import HiddenBases

# Nats per base beyond which exp would say nothing; a network that learns stays below 2.
_DIVERGED = 50.0


def masked_loss(model: Model, crops: Sequence[Bases], masks: Sequence[Mask]) -> Tensor:
    """Mean cross-entropy of the hidden bases, nats.

    A hidden base is written as N, so that the network meets hidden bases and unknown ones alike.

    Args:
        model: one token per base; its head gives four logits for each base of a row.
        crops: ASCII bases.
        masks: which bases of each crop are hidden; at least one of them must be A, C, G or T.
    """
    return _cross_entropy(model, crops, masks, masks, "mean")


@torch.no_grad()
def masked_nats(model: Model, sample: HiddenBases, *, batch_bases: int) -> float:
    """Mean cross-entropy of the scored bases of a sample in evaluation mode, nats; its exp is the perplexity.

    Raises:
        InputError: no base is scored. ArgumentError: the model has diverged.
    """
    if not sample.n_scored:
        raise InputError("no known base with enough known bases before it to score")
    training = model.network.training
    model.network.eval()
    total, start, size = 0.0, 0, 0
    for end, crop in enumerate(sample.crops, start=1):
        size += len(crop)
        if size >= batch_bases or end == len(sample.crops):
            batch = slice(start, end)
            crops, hidden, scored = sample.crops[batch], sample.hidden[batch], sample.scored[batch]
            total += float(_cross_entropy(model, crops, hidden, scored, "sum"))
            start, size = end, 0
    model.network.train(training)
    return check_converging(total / sample.n_scored)


def check_converging(nats: float) -> float:
    """The mean loss itself; ArgumentError where it is not a number or far beyond any that is learnt from."""
    if not nats < _DIVERGED:
        raise ArgumentError(
            f"training diverged: the loss is {nats:.3g} nats per base (chance is 1.386); "
            "use a lower learning_rate"
        )
    return nats


def _cross_entropy(
    model: Model, crops: Sequence[Bases], masks: Sequence[Mask], scored: Sequence[Mask], reduction: str
) -> Tensor:
    """Mean or sum over the known scored bases, with the bases under the masks hidden."""
    hidden = [np.where(mask, np.uint8(ord("N")), crop) for crop, mask in zip(crops, masks, strict=True)]
    tokens = model.tokenizer([bases.tobytes() for bases in hidden], special_tokens=False, clean=False)
    ids = torch.from_numpy(tokens.ids).to(model.device)
    with _autocast(model.device):
        hidden_states = model.encoder(ids, torch.from_numpy(tokens.offsets))
        logits = model.head(hidden_states.states[0])  # (rows, stride * 4)
    bases, owned = _bases_of_rows(hidden_states.offsets.numpy(), tokens.offsets, model.encoder.stride)
    codes = np.where(np.concatenate(scored), base_codes(np.concatenate(crops)), -1)
    targets = torch.from_numpy(np.where(owned, codes[bases], -1).astype(np.int64)).to(logits.device)
    flat = logits.reshape(-1, 4).float()
    return F.cross_entropy(flat, targets.reshape(-1), ignore_index=-1, reduction=reduction)


def _bases_of_rows(
    row_offsets: NDArray[np.int64], base_offsets: NDArray[np.int64], stride: int
) -> tuple[NDArray[np.int64], Mask]:
    """Which bases each row predicts, (rows, stride) indices into the batch and whether they exist."""
    counts = np.diff(row_offsets)
    row = np.arange(row_offsets[-1]) - np.repeat(row_offsets[:-1], counts)
    bases = (np.repeat(base_offsets[:-1], counts) + row * stride)[:, None] + np.arange(stride)
    owned = bases < np.repeat(base_offsets[1:], counts)[:, None]
    return np.where(owned, bases, 0), owned


def _autocast(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 products where the device computes them natively; weights and moments stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if native_bfloat16(device) else nullcontext()
