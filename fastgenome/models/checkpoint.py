"""Reading and writing a model's directory: config.json and weights, nothing executable.

Only files directly inside the directory are opened, by names without any path in them. A link is followed
only to a file of the directory itself, or from a snapshot of the hub's cache to its blobs. Every tensor must
be wanted and every wanted tensor present, with its shape. Bits that were flipped among the numbers of a file
are seen only where its digest is known.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastgenome.atomic import atomic_file, atomic_folder, sync_folder
from fastgenome.errors import CheckpointError
from fastgenome.models.legacy_weights import read_legacy
from fastgenome.models.registry import pinned_digests

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
# The first of these that is there gives the weights; an index names the files that hold them.
_CANDIDATES = (
    WEIGHTS,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "weights.ckpt",
)
# The vocabulary of a tokenizer and what is said of it.
VOCABULARY = (
    "added_tokens.json",
    "bpe.codes",
    "merges.txt",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.bpe",
    "vocab.json",
    "vocab.txt",
)
# Files that are read from a model's directory, and no others.
_SUFFIXES = (".json", ".txt", ".model", ".bpe", ".codes", ".safetensors", ".bin", ".ckpt")
_LISTED = 10
# Bytes that are hashed in less time than anyone notices.
_SMALL = 64 << 20


def read_config(directory: str | Path) -> dict[str, Any]:
    """The JSON object in config.json; CheckpointError if it is missing, damaged or not an object."""
    return read_json(Path(directory), CONFIG)


def read_tensors(directory: str | Path, *, trusted: bool = False) -> dict[str, Tensor]:
    """All tensors of the directory's weights by name, from safetensors, else .bin or .ckpt, one or several.

    Numbers of safetensors are mapped, not copied. A .bin or .ckpt is read only where its digest is pinned in
    the registry, or where the user has `trusted` it. Raises CheckpointError for any other, for a missing,
    truncated or damaged file, for an index that names a file outside the directory, and for shards that do
    not hold exactly what the index says.
    """
    directory = Path(directory)
    pinned = None if trusted else pinned_digests()
    tensors: dict[str, Tensor] = {}
    for file, expected in weight_files(directory).items():
        path = directory / file
        found = read_legacy(path, pinned=pinned) if is_legacy(file) else _read_safetensors(path)
        if expected is not None and found.keys() != expected:
            raise CheckpointError(describe_difference(f"{path} against its index", expected, set(found)))
        tensors |= found
    return tensors


def is_legacy(file: str) -> bool:
    """Whether a file of weights is a pickle."""
    return file.endswith((".bin", ".ckpt"))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as shard:
            return {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error


def check_links(directory: Path) -> None:
    """CheckpointError for a file to be read that is a link out of the directory, or no file at all.

    The hub's cache, whose snapshots are made of links into the blobs beside them, is as it should be.
    """
    for path in directory.resolve().iterdir():
        if path.name.endswith(_SUFFIXES) and not path.is_dir():
            _check_link(path)


def _check_link(path: Path) -> None:
    """See `check_links`; the folder of `path` is without links."""
    home, target = path.parent, path.resolve()
    if path.is_symlink() and target.parent != home and not _is_blob(home, target):
        raise CheckpointError(
            f"{path} is a link to {target}: nothing outside of a model's directory is opened; "
            "put the file itself there"
        )
    if not path.is_file():
        raise CheckpointError(f"{path} is not a regular file")


def _is_blob(home: Path, target: Path) -> bool:
    """Whether `home` is a snapshot, REPOSITORY/snapshots/COMMIT, and `target` a blob that it may link to.

    Blobs lie in the repository's folder, or, where several have the same, in folders by their first digits.
    """
    if home.parent.name != "snapshots":
        return False
    repository, cache = home.parents[1:3]
    return target.parent == repository / "blobs" or target.parent.parent == cache / "blobs"


def check_digests(directory: Path, digests: Mapping[str, str], *, large: bool) -> None:
    """CheckpointError for a file whose SHA-256 is not the one given.

    Files of more than 64 MiB are hashed only if `large`; pickles are not, because whoever reads them does it.
    """
    for file, expected in digests.items():
        path = directory / file
        try:
            if is_legacy(file) or (not large and path.stat().st_size > _SMALL):
                continue
            found = file_digest(path)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        if found != expected:
            raise CheckpointError(
                f"{path} has sha256 {found}, expected {expected}: it is damaged or of another release; "
                "delete it and fetch it again"
            )


def file_digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class WeightFiles:
    """The weight files of a directory as they were when it was loaded."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._stamps = self._look()

    def _look(self) -> dict[str, tuple[int, int]]:
        found = {}
        for file in sorted(weight_files(self.directory)):
            status = (self.directory / file).stat()
            found[file] = (status.st_size, status.st_mtime_ns)
        return found

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the weights' file; of shards, that of their digests, in the order of their names.

        Raises CheckpointError for files that are gone or were changed since they were loaded.
        """
        try:
            if self._look() != self._stamps:
                raise CheckpointError(f"the weights in {self.directory} have changed since they were loaded")
            digests = [file_digest(self.directory / file) for file in self._stamps]
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
    vocabulary: str | Path | None = None,
) -> None:
    """Write config.json, model.safetensors and the files of `vocabulary` (see `copy_vocabulary`).

    Floating tensors are stored as `dtype`. All is first written to a hidden folder inside `directory` and
    synced; a failure until then leaves what stood there. Then config.json goes first and comes last, so that
    whatever stops the renaming between them, the directory does not load as a mixture of two models.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    hidden = directory / f".{secrets.token_hex(4)}.new"
    with atomic_folder(hidden, marker=CONFIG) as folder:
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_tensors(folder / WEIGHTS, tensors, dtype=dtype)
        if vocabulary is not None:
            copy_vocabulary(vocabulary, folder)
    (directory / CONFIG).unlink(missing_ok=True)
    sync_folder(directory)
    if vocabulary is not None:
        for name in VOCABULARY:
            if not (hidden / name).exists():
                (directory / name).unlink(missing_ok=True)
    # The config's name is the last.
    for path in sorted(hidden.iterdir(), key=lambda path: path.name == CONFIG):
        os.replace(path, directory / path.name)
    hidden.rmdir()
    sync_folder(directory)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors to a new file of safetensors, floating ones as `dtype` where it is given."""
    from safetensors.torch import save_file

    plain = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in tensors.items()
    }
    path.touch()
    mode = path.stat().st_mode
    save_file(plain, path, metadata={"format": "pt", **(metadata or {})})
    # save_file makes files that nobody else can read, whatever the umask.
    path.chmod(mode)


def copy_vocabulary(source: str | Path, target: str | Path) -> None:
    """Make the vocabulary of the folder `target` that of `source`, a folder or a tokenizer.json alone.

    Files of another vocabulary in `target` are replaced or removed. Raises CheckpointError where `source` is
    gone, or has a link to a place that is not opened.
    """
    target = Path(target)
    files = vocabulary_files(source)
    if Path(source).is_dir() and target.exists() and os.path.samefile(source, target):
        return
    for name in VOCABULARY:
        if name in files:
            with atomic_file(target / name) as file:
                file.write(files[name].read_bytes())
        else:
            (target / name).unlink(missing_ok=True)


def vocabulary_files(source: str | Path) -> dict[str, Path]:
    """The files of a tokenizer by their usual names, in a folder, or `source` itself as its tokenizer.json.

    Raises CheckpointError as `check_links` does, and where `source` is gone.
    """
    source = Path(source).resolve()
    if source.is_file():
        return {"tokenizer.json": source}
    if not source.is_dir():
        raise CheckpointError(f"{source}, where the vocabulary came from, is gone")
    # A link that leads nowhere is no file, but a fault all the same.
    files = {name: source / name for name in VOCABULARY if os.path.lexists(source / name)}
    for path in files.values():
        _check_link(path)
    return files


def read_json(directory: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file; CheckpointError if it is missing, damaged or not an object."""
    try:
        content = json.loads((directory / name).read_text(encoding="utf-8"))
    # Nesting without end is a RecursionError.
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{directory / name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{directory / name} must hold a JSON object, got {type(content).__name__}")
    return content


def weight_files(directory: Path) -> dict[str, set[str] | None]:
    """The files of the weights, each with the tensors that an index promises in it (None: no index).

    Raises CheckpointError where there are none, or where an index names anything but plain files.
    """
    first = next((name for name in _CANDIDATES if (directory / name).exists()), None)
    if first is None:
        raise CheckpointError(f"{directory} holds no weights: neither {' nor '.join(_CANDIDATES)}")
    if not first.endswith(".json"):
        return {first: None}
    suffix = ".bin" if first.endswith(".bin.index.json") else ".safetensors"
    weight_map = read_json(directory, first).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{directory / first} has no weight_map")
    files: dict[str, set[str] | None] = {}
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not _is_plain_name(file, suffix):
            raise CheckpointError(
                f"{directory / first} names {file!r} for {tensor!r}: only plain names of {suffix} files "
                "inside the model's directory are opened"
            )
        promised = files.setdefault(file, set())
        assert promised is not None
        promised.add(tensor)
    return files


def _is_plain_name(file: str, suffix: str) -> bool:
    return file.endswith(suffix) and not file.startswith(".") and not set(file) & set("/\\:\0")


def describe_difference(what: str, expected: set[str], found: set[str]) -> str:
    missing, unexpected = sorted(expected - found), sorted(found - expected)
    parts = [f"missing {listed(missing)}"] if missing else []
    parts += [f"unexpected {listed(unexpected)}"] if unexpected else []
    return f"{what}: " + "; ".join(parts)


def listed(names: list[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
