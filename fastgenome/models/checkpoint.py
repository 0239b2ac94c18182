"""Reading and writing a model's directory: config.json and safetensors, nothing executable.

Only files directly inside the directory are opened, by names without any path in them (a link that lies in
the directory is followed: hub caches are made of links). Every tensor must be wanted and every wanted tensor
present, with its shape.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastgenome.atomic import atomic_file
from fastgenome.errors import CheckpointError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
_LISTED = 10


def read_config(directory: str | Path) -> dict[str, Any]:
    """The JSON object in config.json; CheckpointError if it is missing, damaged or not an object."""
    return _read_json(Path(directory), CONFIG)


def read_tensors(directory: str | Path) -> dict[str, Tensor]:
    """All tensors of model.safetensors, or of the shards that its index names, by name.

    Raises CheckpointError for a missing, truncated or damaged file, for an index that names a file outside
    the directory, and for shards that do not hold exactly what the index says.
    """
    from safetensors import SafetensorError, safe_open

    directory = Path(directory)
    tensors: dict[str, Tensor] = {}
    for file, expected in _weight_files(directory).items():
        try:
            with safe_open(str(directory / file), framework="pt") as shard:
                names = set(shard.keys())
                if expected is not None and names != expected:
                    raise CheckpointError(
                        describe_difference(f"{directory / file} against {INDEX}", expected, names)
                    )
                tensors |= {name: shard.get_tensor(name) for name in names}
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{directory / file} cannot be read as safetensors: {error}") from error
    return tensors


class WeightFiles:
    """The weight files of a directory as they were when it was loaded."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._stamps = self._look()

    def _look(self) -> dict[str, tuple[int, int]]:
        found = {}
        for file in sorted(_weight_files(self.directory)):
            status = (self.directory / file).stat()
            found[file] = (status.st_size, status.st_mtime_ns)
        return found

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of model.safetensors; of shards, that of their digests, in the order of their names.

        Raises CheckpointError for files that are gone or were changed since they were loaded.
        """
        try:
            if self._look() != self._stamps:
                raise CheckpointError(f"the weights in {self.directory} have changed since they were loaded")
            digests = []
            for file in self._stamps:
                with (self.directory / file).open("rb") as stream:
                    digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
        except OSError as error:
            raise CheckpointError(f"the weights in {self.directory} cannot be read again: {error}") from error
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def assign_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Make `tensors` the float32 parameters and the buffers of `module` (which may be on the meta device).

    Raises CheckpointError that lists missing and unexpected names, or wrong shapes and types.
    """
    wanted = module.state_dict()
    if wanted.keys() != tensors.keys():
        raise CheckpointError(
            describe_difference("the checkpoint against the model", set(wanted), set(tensors))
        )
    faults = []
    for name, target in wanted.items():
        found = tensors[name]
        if found.shape != target.shape:
            faults.append(f"{name}: shape {tuple(found.shape)} instead of {tuple(target.shape)}")
        elif found.is_floating_point() != target.is_floating_point():
            faults.append(f"{name}: type {found.dtype} instead of {target.dtype}")
    if faults:
        raise CheckpointError("the checkpoint does not fit the model: " + listed(faults))
    fitted = {name: tensors[name].to(target.dtype) for name, target in wanted.items()}
    module.load_state_dict(fitted, assign=True)


def save_checkpoint(
    directory: str | Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write config.json and model.safetensors, each to a temporary name first, synced and then renamed.

    Floating tensors are stored as `dtype`. The weights come last: a directory with weights is complete.
    """
    from safetensors.torch import save

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    plain = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in tensors.items()
    }
    (directory / WEIGHTS).unlink(missing_ok=True)
    with atomic_file(directory / CONFIG) as file:
        file.write((json.dumps(config, indent=2) + "\n").encode())
    with atomic_file(directory / WEIGHTS) as file:
        file.write(save(plain, metadata={"format": "pt"}))


def _read_json(directory: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((directory / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory / name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{directory / name} must hold a JSON object, got {type(content).__name__}")
    return content


def _weight_files(directory: Path) -> dict[str, set[str] | None]:
    """File names in the directory, each with the tensors that an index promises in it (None: no index)."""
    if (directory / WEIGHTS).exists():
        return {WEIGHTS: None}
    if not (directory / INDEX).exists():
        raise CheckpointError(f"{directory} holds neither {WEIGHTS} nor {INDEX}")
    weight_map = _read_json(directory, INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{directory / INDEX} has no weight_map")
    files: dict[str, set[str] | None] = {}
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not _is_plain_name(file):
            raise CheckpointError(
                f"{directory / INDEX} names {file!r} for {tensor!r}: only plain names of .safetensors files "
                "inside the model's directory are opened"
            )
        promised = files.setdefault(file, set())
        assert promised is not None
        promised.add(tensor)
    return files


def _is_plain_name(file: str) -> bool:
    return file.endswith(".safetensors") and not file.startswith(".") and not set(file) & set("/\\:\0")


def describe_difference(what: str, expected: set[str], found: set[str]) -> str:
    missing, unexpected = sorted(expected - found), sorted(found - expected)
    parts = [f"missing {listed(missing)}"] if missing else []
    parts += [f"unexpected {listed(unexpected)}"] if unexpected else []
    return f"{what}: " + "; ".join(parts)


def listed(names: list[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
