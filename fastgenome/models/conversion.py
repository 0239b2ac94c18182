"""From pickled weights to safetensors, once, by a user who trusts where they come from."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fastgenome.atomic import atomic_folder
from fastgenome.errors import ArgumentError
from fastgenome.models.checkpoint import (
    CONFIG,
    WEIGHTS,
    copy_vocabulary,
    is_legacy,
    read_config,
    read_tensors,
    weight_files,
    write_tensors,
)
from fastgenome.models.families import find_family, load_family
from fastgenome.models.sources import find_model


class Conversion(NamedTuple):
    """What `convert` did: the folder that it wrote, the files read, how many tensors, and their bytes.

    `family` is the one under which the result was loaded as a check, None where no family knows it.
    """

    directory: Path
    read: tuple[str, ...]
    tensors: int
    size_bytes: int
    family: str | None


def convert(source: str | Path, out: str | Path) -> Conversion:
    """Write a model whose weights are .bin or .ckpt as a folder with model.safetensors.

    `source` is a directory, or a name as `load` takes it. Of the pickle only tensors are read, by PyTorch's
    restricted unpickler; no code in it is run. Names, types and numbers stay; config.json and the files of
    the vocabulary are copied. `out` takes its name when everything is written and, where a family knows the
    config, has been loaded. Raises CheckpointError for files that are damaged, hold more than tensors or do
    not load, and ArgumentError for safetensors and for an `out` that cannot be written.
    """
    found = find_model(source, legacy=True)
    directory = found.directory
    config = read_config(directory)
    files = tuple(weight_files(directory))
    if not any(map(is_legacy, files)):
        raise ArgumentError(f"{directory} holds safetensors already: load it as it is")
    # A model that stands there, the source itself perhaps, is never replaced.
    if Path(out).is_dir() and any(Path(out).iterdir()):
        raise ArgumentError(f"{str(out)!r} exists and is not empty; choose another folder")
    with atomic_folder(out, marker=CONFIG) as folder:
        shutil.copyfile(directory / CONFIG, folder / CONFIG)
        copy_vocabulary(directory, folder)
        # By its name a release is asked for, and nothing else; other files are the user's to trust.
        tensors = read_tensors(directory, trusted=not (found.entry and found.entry.weights))
        size = _write(tensors, folder / WEIGHTS)
        family = find_family(config, folder)
        if family:
            load_family(folder, {})
    return Conversion(Path(out), files, len(tensors), size, family.FAMILY if family else None)


def _write(tensors: Mapping[str, Tensor], path: Path) -> int:
    """Write tensors as safetensors; the file's size."""
    # safetensors knows neither strides nor two names for the same memory.
    alone = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    write_tensors(path, alone)
    return path.stat().st_size
