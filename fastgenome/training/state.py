"""Weights and AdamW moments of a training run as named tensors, and as one file replaced as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastgenome.atomic import atomic_file
from fastgenome.errors import CheckpointError


def digest(*parts: object) -> str:
    """sha256 of the parts' JSON: names the settings that a run was started with."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def whole(tensor: Tensor) -> Tensor:
    """The tensor, put together where each process holds a share of it; then every process has to ask."""
    divided: Any = tensor
    return divided.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def divided_like(tensor: Tensor, values: Tensor) -> Tensor:
    """`values` on the device of `tensor`, of which each process takes its share where that is divided."""
    divided: Any = tensor
    values = values.to(tensor.device)
    if not hasattr(tensor, "full_tensor"):
        return values
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(values, divided.device_mesh, divided.placements, src_data_rank=None)


def training_tensors(
    parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Weights and moments under the names weight.… and optimizer.{key}.…, contiguous on the CPU."""
    tensors = {f"weight.{name}": parameter.detach() for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value).detach()
    return {name: whole(tensor).cpu().contiguous() for name, tensor in tensors.items()}


@torch.no_grad()
def restore_training(
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    *,
    source: str | Path,
) -> None:
    """Put what training_tensors gave back; CheckpointError, which names `source`, where it does not fit."""
    stored = {
        name.removeprefix("weight."): tensor for name, tensor in tensors.items() if name.startswith("weight.")
    }
    if stored.keys() != parameters.keys():
        raise CheckpointError(
            f"{source} holds other parameters: {sorted(stored.keys() ^ parameters.keys())[:5]}"
        )
    for name, parameter in parameters.items():
        if stored[name].shape != parameter.shape:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(stored[name].shape)}, expected {tuple(parameter.shape)}"
            )
        parameter.copy_(divided_like(parameter, stored[name]))
        moments = {
            key: tensors[f"optimizer.{key}.{name}"]
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"optimizer.{key}.{name}" in tensors
        }
        if moments:
            optimizer.state[parameter] = {
                key: value if key == "step" else divided_like(parameter, value)
                for key, value in moments.items()
            }


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

    tensors = training_tensors(dict(network.named_parameters()), optimizer)
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
    restore_training(dict(network.named_parameters()), optimizer, tensors, source=path)
    progress: dict[str, Any] = json.loads(metadata["progress"])
    return progress
