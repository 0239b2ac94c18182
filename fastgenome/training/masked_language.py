"""The masked-language objective: hidden bases are predicted from those around them (Devlin et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fastgenome.models.device import native_bfloat16
from fastgenome.training.corpus import Bases, base_codes

if TYPE_CHECKING:
    from fastgenome.models.model import Model

Mask = NDArray[np.bool_]


def masked_loss(model: Model, crops: Sequence[Bases], masks: Sequence[Mask]) -> Tensor:
    """Mean cross-entropy of the hidden bases, nats.

    A hidden base is written as N, so that the network meets hidden bases and unknown ones alike.

    Args:
        model: one token per base; its head gives four logits for each base of a row.
        crops: ASCII bases.
        masks: which bases of each crop are hidden.
    """
    hidden = [np.where(mask, np.uint8(ord("N")), crop) for crop, mask in zip(crops, masks, strict=True)]
    tokens = model.tokenizer([bases.tobytes() for bases in hidden], special_tokens=False, clean=False)
    ids = torch.from_numpy(tokens.ids).to(model.device)
    with _autocast(model.device):
        hidden_states = model.encoder(ids, torch.from_numpy(tokens.offsets))
        logits = model.head(hidden_states.states[0])  # (rows, stride * 4)
    bases, owned = _bases_of_rows(hidden_states.offsets.numpy(), tokens.offsets, model.encoder.stride)
    codes = np.where(np.concatenate(masks), base_codes(np.concatenate(crops)), -1)
    targets = torch.from_numpy(np.where(owned, codes[bases], -1).astype(np.int64)).to(logits.device)
    return F.cross_entropy(logits.reshape(-1, 4).float(), targets.reshape(-1), ignore_index=-1)


@torch.no_grad()
def perplexity(model: Model, crops: Sequence[Bases], masks: Sequence[Mask], *, batch_bases: int) -> float:
    """exp of the mean cross-entropy per hidden base, 1 (certain) to 4 (chance) and beyond."""
    training = model.network.training
    model.network.eval()
    total, hidden, start, size = 0.0, 0, 0, 0
    for end, crop in enumerate(crops, start=1):
        size += len(crop)
        if size >= batch_bases or end == len(crops):
            count = sum(int(mask.sum()) for mask in masks[start:end])
            total += float(masked_loss(model, crops[start:end], masks[start:end])) * count
            hidden, start, size = hidden + count, end, 0
    model.network.train(training)
    return math.exp(total / hidden)


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
