"""The peer of the tuning benchmarks: PEFT on a network of transformers, over padded batches with a mask."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import peft
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fastgenome.adapters.adalora import AdaLoRA
from fastgenome.adapters.dora import DoRA
from fastgenome.adapters.lora import LoRA
from fastgenome.tokenizers import Tokenizer, Tokens

# Where saved adapters begin their names, and where the network lies in a Classifier.
_SAVED, _HERE = "base_model.model.", "base_model.model.network."


class PeerSettings(NamedTuple):
    """How PEFT is used: `autocast`, its default, keeps adapters float32 beside bfloat16 weights; `parts`
    divides a batch, sorted by length, into so many padded ones, whose gradients add up."""

    autocast: bool
    parts: int


def peer_settings(dtype: str, kind: str) -> dict[str, PeerSettings]:
    """PEFT in its defaults, and in what is faster where that differs."""
    defaults = PeerSettings(autocast=True, parts=1)
    best = PeerSettings(autocast=dtype != "bfloat16", parts=4 if kind == "mixed" else 1)
    return {"peft": defaults} | ({"peft, best settings": best} if best != defaults else {})


class PaddedPart(NamedTuple):
    """Some sequences of a batch, padded; `pooled` (n, length) has 1 at the tokens whose mean is taken."""

    places: NDArray[np.int64]  # (n,) in the batch
    ids: Tensor  # (n, length)
    mask: Tensor  # (n, length)
    pooled: Tensor
    labels: Tensor  # (n,)
    share: float  # of the batch


def padded_parts(tokens: Tokens, labels: Tensor, tokenizer: Tokenizer, parts: int) -> list[PaddedPart]:
    """A batch as one padded part in the given order, or as several in the order of the lengths."""
    lengths = tokens.lengths
    order = np.arange(len(lengths)) if parts == 1 else np.argsort(lengths, kind="stable")
    rows = [torch.from_numpy(row).long() for row in np.split(tokens.ids, tokens.offsets[1:-1])]
    padding = tokenizer.special_token_ids.get("pad", 0)
    found = []
    for places in np.array_split(order, parts):
        ids = nn.utils.rnn.pad_sequence([rows[i] for i in places], batch_first=True, padding_value=padding)
        position = torch.arange(ids.shape[1])
        ends = torch.from_numpy(lengths[places])[:, None]
        pooled = (position >= tokenizer.prefix_length) & (position < ends - tokenizer.suffix_length)
        share = len(places) / len(order)
        found.append(PaddedPart(places, ids, (position < ends).long(), pooled.float(), labels[places], share))
    return found


class Classifier(nn.Module):
    """A network of transformers, the mean of its last hidden states over real tokens, and a linear head.

    Its output has a `loss`, to which PEFT's AdaLoRA adds its regulariser.
    """

    def __init__(self, network: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, part: PaddedPart) -> SimpleNamespace:
        states = self.network(input_ids=part.ids, attention_mask=part.mask).last_hidden_state.float()
        weight = part.pooled[..., None]
        pooled = (states * weight).sum(1) / weight.sum(1)
        return SimpleNamespace(pooled=pooled, loss=F.cross_entropy(self.head(pooled), part.labels))


def peft_config(config: LoRA | AdaLoRA, modules: Mapping[str, str], total_steps: int) -> peft.PeftConfig:
    """PEFT's settings for ours; `modules` has the end of the published names of each role's modules."""
    common = {
        "target_modules": rf"network\..*({'|'.join(modules[role] for role in config.targets)})",
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
    }
    if isinstance(config, AdaLoRA):
        return peft.AdaLoraConfig(
            init_r=config.initial_rank,
            target_r=config.target_rank,
            tinit=config.allocation_warmup,
            tfinal=config.allocation_final,
            deltaT=config.allocation_interval,
            beta1=config.beta1,
            beta2=config.beta2,
            orth_reg_weight=config.orthogonality,
            total_step=total_steps,
            **common,
        )
    return peft.LoraConfig(r=config.rank, use_dora=isinstance(config, DoRA), **common)


def with_peft(
    network: nn.Module,
    head: nn.Linear,
    config: peft.PeftConfig,
    adapters: Sequence[Mapping[str, Tensor]],
    *,
    dtype: torch.dtype,
    autocast: bool,
) -> peft.PeftModel:
    """A copy of network and head with adapters "0", "1", … whose tensors were saved by fastgenome."""
    base = Classifier(copy.deepcopy(network).to(dtype), copy.deepcopy(head))
    model = peft.get_peft_model(base, config, adapter_name="0", autocast_adapter_dtype=autocast)
    for number, tensors in enumerate(adapters):
        if number:
            model.add_adapter(str(number), config, autocast_adapter_dtype=autocast)
        state = {re.sub("^" + re.escape(_SAVED), _HERE, name): tensor for name, tensor in tensors.items()}
        result = peft.set_peft_model_state_dict(model, state, adapter_name=str(number))
        assert state
        assert not result.unexpected_keys, result.unexpected_keys
    return model


def peer_step(model: peft.PeftModel, parts: Sequence[PaddedPart], rate: float) -> Callable[[], float]:
    """An optimizer step over adapter and head, which returns the loss before it."""
    model.train()
    model.base_model.model.head.requires_grad_(True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    numbers = count(1)
    allocates = isinstance(model.base_model, peft.AdaLoraModel)

    def step() -> float:
        total = 0.0
        for part in parts:
            loss = model.base_model(part).loss * part.share
            loss.backward()
            total += float(loss.detach())
        optimizer.step()
        if allocates:
            model.base_model.update_and_allocate(next(numbers))
        optimizer.zero_grad()
        return total

    return step


def peer_embedding(
    model: peft.PeftModel, parts: Sequence[PaddedPart], names: Sequence[str]
) -> Callable[[], NDArray[np.float32]]:
    """Embeddings of a batch where sequence i has the adapter names[i]."""
    model.eval()

    def embed() -> NDArray[np.float32]:
        with torch.inference_mode():
            pooled = [
                model(part, adapter_names=[names[i] for i in part.places]).pooled.numpy() for part in parts
            ]
        order = np.argsort(np.concatenate([part.places for part in parts]))
        embeddings: NDArray[np.float32] = np.concatenate(pooled)[order]
        return embeddings

    return embed
