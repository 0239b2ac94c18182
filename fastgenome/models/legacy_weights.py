"""Weights in PyTorch's own format, .bin and .ckpt: a pickle, of which only tensors are read.

The bytes that are hashed are those that are read: the file is opened once. PyTorch's restricted unpickler
makes tensors and plain containers and refuses everything else; a full unpickling happens nowhere.
"""

import hashlib
import os
import pickle
from collections.abc import Collection, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastgenome.errors import CheckpointError

# How torch.save begins a file: an archive, or before PyTorch 1.6 a pickled number.
_ARCHIVE = b"PK\x03\x04"
_BEFORE_ARCHIVES = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read_legacy(path: Path, *, pinned: Collection[str] | None) -> dict[str, Tensor]:
    """The tensors of a file that torch.save wrote, by name, with the strides that they were saved with.

    Of a Lightning checkpoint only the entry "state_dict" counts. Files whose SHA-256 is not among `pinned`
    are not read; None stands for a user who trusts this file. Raises CheckpointError for such a file, for one
    that holds anything but tensors under names, and for a damaged one.
    """
    try:
        with path.open("rb") as file:
            before = _stamp(file)
            if pinned is not None:
                _check_pinned(path, file, pinned)
            content = _read(path, file)
            if _stamp(file) != before:
                raise CheckpointError(f"{path} was changed while it was read")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return _state_dict(path, content, size=before[0])


def _check_pinned(path: Path, file: BufferedReader, pinned: Collection[str]) -> None:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest not in pinned:
        raise CheckpointError(
            f"{path} is a pickle, and its sha256 {digest} is not that of a release known here. If you trust "
            f"where it comes from, convert it once, with `fastgenome convert {path.parent} -o OUT`, and load "
            "OUT"
        )


def _read(path: Path, file: BufferedReader) -> Any:
    file.seek(0)
    start = file.read(len(_BEFORE_ARCHIVES))
    file.seek(0)
    archive = start.startswith(_ARCHIVE)
    if not archive and start != _BEFORE_ARCHIVES:
        raise CheckpointError(f"{path} is not a file that torch.save wrote, or it is damaged")
    # A name for the open file itself, which no other file can take; only names can be mapped.
    opened = f"/proc/self/fd/{file.fileno()}"
    mapped = archive and os.path.exists(opened)
    try:
        return torch.load(
            opened if mapped else file, map_location="cpu", weights_only=True, mmap=mapped or None
        )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, and nothing else of a pickle is ever made: {_first_line(error)}"
        ) from error
    # What a damaged file does to the reader is not documented, and it is of many kinds.
    except Exception as error:
        raise CheckpointError(f"{path} is damaged: {_first_line(error)}") from error


def _state_dict(path: Path, content: Any, *, size: int) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds {type(content).__name__}, expected tensors under names")
    tensors = {}
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path}: {name!r} is {type(tensor).__name__}, expected a tensor")
        # A tensor of strides 0 may stand for far more numbers than the file has.
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CheckpointError(f"{path}: {name!r} is no plain tensor")
        if tensor.numel() * tensor.element_size() > size:
            raise CheckpointError(f"{path}: {name!r} has more numbers than the file")
        tensors[name] = tensor.detach()
    return tensors


def _stamp(file: BufferedReader) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
