"""The state of a training run on disk: one safetensors file, replaced as a whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastgenome.atomic import atomic_file
from fastgenome.errors import CheckpointError


def digest(*parts: object) -> str:
    """sha256 of the parts' JSON: names the settings that a run was started with."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def save_state(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    settings: str,
    progress: dict[str, Any],
) -> None:
    """Write weights, AdamW moments and progress; the old file stays until the new one is complete.

    Args:
        path: file to replace.
        network: whose parameters are stored.
        optimizer: AdamW over exactly these parameters.
        settings: digest of what must not change between runs.
        progress: anything that JSON holds.
    """
    from safetensors.torch import save

    tensors = {f"weight.{name}": value.detach().cpu() for name, value in network.named_parameters()}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value).detach().cpu()
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as file:
        file.write(save(tensors, metadata={"settings": settings, "progress": json.dumps(progress)}))


def load_state(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, *, settings: str
) -> dict[str, Any]:
    """Read what save_state wrote into network and optimizer and return the progress.

    Raises:
        CheckpointError: the file is damaged, was written under other settings, or does not fit.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read the training state {path}: {error}") from None
    if metadata.get("settings") != settings:
        raise CheckpointError(
            f"{path} belongs to a run with other data or settings; "
            "continue with those, choose another folder, or pass resume=False (--no-resume)"
        )
    parameters = dict(network.named_parameters())
    stored = {name.removeprefix("weight.") for name in tensors if name.startswith("weight.")}
    if stored != set(parameters):
        raise CheckpointError(f"{path} holds other parameters: {sorted(stored ^ set(parameters))[:5]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"weight.{name}"])
            moments = {
                key: tensors[f"optimizer.{key}.{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimizer.{key}.{name}" in tensors
            }
            if moments:
                optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device)
                    for key, value in moments.items()
                }
    progress: dict[str, Any] = json.loads(metadata["progress"])
    return progress
