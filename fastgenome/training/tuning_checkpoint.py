"""Checkpoints of a tuning run: folders that are whole or not there, and are never read when damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from fastgenome.atomic import atomic_folder
from fastgenome.errors import CheckpointError

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What a run continues from; `tensors` lie on the CPU, `progress` is anything that JSON holds."""

    step: int
    tensors: Mapping[str, Tensor]
    progress: dict[str, Any]


class _StoredCheckpoint(NamedTuple):
    settings: str
    checkpoint: Checkpoint


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of one run, step-….

    Attributes:
        path: the folder that holds them.
        settings: digest of what must not change between runs.
        keep: how many are kept, the newest.
    """

    path: Path
    settings: str
    keep: int = 2

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and then remove the oldest beyond `keep`."""
        from safetensors.torch import save

        state = save(dict(checkpoint.tensors))
        content = {
            "format": FORMAT,
            "step": checkpoint.step,
            "settings": self.settings,
            "files": {STATE: hashlib.sha256(state).hexdigest()},
            "progress": checkpoint.progress,
        }
        with atomic_folder(self.path / f"step-{checkpoint.step:09d}", marker=MANIFEST) as folder:
            (folder / STATE).write_bytes(state)
            (folder / MANIFEST).write_bytes(_sealed(content))
        for old in self._newest_first()[self.keep :]:
            shutil.rmtree(old)

    def newest(self) -> Checkpoint | None:
        """The newest intact checkpoint, None where none was written; a warning names each damaged one.

        Newer ones, which are damaged, are removed: the steps that they stood for are done again.

        Raises:
            CheckpointError: all are damaged, or it belongs to a run with other data or settings.
        """
        faults: dict[Path, str] = {}
        for folder in self._newest_first():
            try:
                stored = read_checkpoint(folder)
            except CheckpointError as error:
                faults[folder] = str(error)
                warnings.warn(f"{error}; trying the checkpoint before it", stacklevel=2)
                continue
            if stored.settings != self.settings:
                raise CheckpointError(
                    f"{folder} belongs to a run with other data or settings; continue with those, choose "
                    "another folder, or start anew with resume=False (--restart)"
                )
            for damaged in faults:
                shutil.rmtree(damaged)
            return stored.checkpoint
        if faults:
            raise CheckpointError(
                f"no checkpoint in {self.path} is intact; start anew with resume=False (--restart): "
                + "; ".join(faults.values())
            )
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self.path.glob("step-*"), reverse=True)


def read_checkpoint(folder: Path) -> _StoredCheckpoint:
    """Read one checkpoint; CheckpointError unless every byte is there and is what was written."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = _unsealed((folder / MANIFEST).read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']} is not {FORMAT}; use the fastgenome that wrote it")
        state = (folder / STATE).read_bytes()
        if hashlib.sha256(state).hexdigest() != content["files"][STATE]:
            raise ValueError(f"{STATE} is not what was written")
        tensors = load(state)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the checkpoint {folder}: {error}") from None
    return _StoredCheckpoint(content["settings"], Checkpoint(content["step"], tensors, content["progress"]))


def _sealed(content: dict[str, Any]) -> bytes:
    """JSON with, in a line before it, its own sha256."""
    text = json.dumps(content, indent=1).encode()
    return json.dumps({"sha256": hashlib.sha256(text).hexdigest()}).encode() + b"\n" + text


def _unsealed(data: bytes) -> dict[str, Any]:
    """Content of a sealed manifest; ValueError unless every byte is what was written."""
    content: dict[str, Any] = json.loads(data.partition(b"\n")[2])
    if _sealed(content) != data:
        raise ValueError(f"{MANIFEST} is not what was written")
    return content
