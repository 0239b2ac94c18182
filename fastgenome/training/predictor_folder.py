"""The files of a saved predictor: predictor.json, the head in safetensors or skops, and tuned weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from fastgenome._version import __version__
from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.training.heads import EstimatorHead, Head, LinearHead
from fastgenome.training.targets import Task

# 2 has tuned weights beside the head; without them 1 is written, which earlier releases read too.
FORMATS = (1, 2)
DESCRIPTION = "predictor.json"
LINEAR = "head.safetensors"
ESTIMATOR = "head.skops"

TunedWeights = Literal["adapter", "model"]


@dataclass(frozen=True)
class BaseModel:
    """The model that a predictor was trained on: name or absolute directory, digests, precision.

    `options` are those that it was loaded with: the species of SpeciesLM, the prompt of OPT.
    """

    name: str
    sha256: str
    config_sha256: str
    tokenizer_sha256: str
    dtype: str
    options: dict[str, str]


@dataclass(frozen=True)
class Tuned:
    """What of the model was tuned: an adapter, in the folder "adapter", or every weight, in "model".

    `files` are the digests of all files beside predictor.json.
    """

    weights: TunedWeights
    files: dict[str, str]


@dataclass(frozen=True)
class Description:
    """What predictor.json holds: `inputs` is what the head sees; without `tuned` the model is frozen."""

    task: Task
    model: BaseModel | None
    pooling: str | None
    layer: int | list[int] | None
    features: tuple[str, ...]
    inputs: int
    hyperparameters: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    tuned: Tuned | None = None


def write_predictor(folder: Path, description: Description, head: Head) -> None:
    """Write head and description into an existing folder, which holds the tuned weights if there are any."""
    if isinstance(head, LinearHead):
        from safetensors.numpy import save

        tensors = {name: np.ascontiguousarray(value) for name, value in head.tensors().items()}
        # save_file would hide the file from other users, whatever the umask.
        (folder / LINEAR).write_bytes(save(tensors))
    else:
        import skops.io

        assert isinstance(head, EstimatorHead)
        skops.io.dump(head.estimator, folder / ESTIMATOR)
    content = {"format": FORMATS[0], "fastgenome": __version__, **asdict(description)}
    if description.tuned is None:
        del content["tuned"]
    else:
        content |= {"format": FORMATS[1], "tuned": {**content["tuned"], "files": _digests(folder)}}
    (folder / DESCRIPTION).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _digests(folder: Path) -> dict[str, str]:
    """sha256 of the files in a folder and its folders, by their path in it, but for predictor.json."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DESCRIPTION)
    names = (path.relative_to(folder).as_posix() for path in paths)
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def check_files(folder: Path, tuned: Tuned) -> None:
    """CheckpointError unless the files of a tuned predictor are those that were written."""
    for name, digest in tuned.files.items():
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise CheckpointError(f"{folder / name} cannot be read: {error.strerror}") from None
        if found != digest:
            raise CheckpointError(f"{folder / name} is not the file that was written; it is damaged")


def read_description(folder: Path) -> Description:
    """Read predictor.json.

    Raises:
        CheckpointError: the file is missing, damaged, or of another format.
    """
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is no readable predictor: {error}") from None
    if not isinstance(content, dict) or content.get("format") not in FORMATS:
        raise CheckpointError(
            f"{path} is not of format {FORMATS[0]} or {FORMATS[-1]}; use a newer fastgenome"
        )
    try:
        base = _take(content, "model", dict, type(None))
        return Description(
            task=_task(_take(content, "task", dict)),
            model=None if base is None else _base_model(base),
            pooling=_take(content, "pooling", str, type(None)),
            layer=_take(content, "layer", int, list, type(None)),
            features=_texts(content, "features"),
            inputs=_take(content, "inputs", int),
            hyperparameters=_take(content, "hyperparameters", dict),
            metrics=_take(content, "metrics", dict),
            tuned=_tuned(content["tuned"]) if "tuned" in content else None,
        )
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _base_model(content: dict[str, Any]) -> BaseModel:
    dtype = _take(content, "dtype", str)
    if dtype not in ("float32", "bfloat16"):
        raise ArgumentError(f"'dtype' is {dtype!r}, expected float32 or bfloat16")
    keys = ("name", "sha256", "config_sha256", "tokenizer_sha256")
    name, weights, config, tokenizer = (_take(content, key, str) for key in keys)
    options = _take(content, "options", dict)
    if not options.keys() <= {"species", "prompt"} or not all(isinstance(v, str) for v in options.values()):
        raise ArgumentError(f"'options' is {options!r}, expected texts for species or prompt")
    return BaseModel(name, weights, config, tokenizer, dtype, options)


def _tuned(content: Any) -> Tuned:
    if not isinstance(content, dict):
        raise ArgumentError(f"'tuned' is {content!r}, expected dict")
    weights, files = _take(content, "weights", str), _take(content, "files", dict)
    if weights not in get_args(TunedWeights):
        raise ArgumentError(f"'weights' is {weights!r}, expected adapter or model")
    inside = all(".." not in Path(name).parts and not Path(name).is_absolute() for name in files)
    if not inside or not any(name.startswith(f"{weights}/") for name in files):
        raise ArgumentError(f"'files' must name the files of the {weights}, got {sorted(files)[:5]}")
    return Tuned(weights, files)


def _task(content: dict[str, Any]) -> Task:
    kind: Any = _take(content, "kind", str)
    return Task(kind, tuple(_take(content, "classes", list)), _texts(content, "label_names"))


def _texts(content: dict[str, Any], key: str) -> tuple[str, ...]:
    values = _take(content, key, list)
    if not all(isinstance(value, str) for value in values):
        raise ArgumentError(f"{key} must hold texts; got {values!r}")
    return tuple(values)


def _take(content: dict[str, Any], key: str, *kinds: type) -> Any:
    """A value of one of the types; ArgumentError for another and for a missing one."""
    if key not in content:
        raise ArgumentError(f"{key!r} is missing")
    if not isinstance(content[key], kinds):
        raise ArgumentError(f"{key!r} is {content[key]!r}, expected {' or '.join(k.__name__ for k in kinds)}")
    return content[key]


def read_head(folder: Path, task: Task, inputs: int, trusted: Sequence[str]) -> Head:
    """Read the head and check that it gives the outputs of the task for as many inputs.

    Raises:
        CheckpointError: its file is missing, damaged, of types that are not trusted, or does not fit.
    """
    if (folder / LINEAR).is_file():
        path, head = folder / LINEAR, _read_linear(folder / LINEAR, task)
    elif (folder / ESTIMATOR).is_file():
        path, head = folder / ESTIMATOR, _read_estimator(folder / ESTIMATOR, task, trusted)
    else:
        raise CheckpointError(f"{folder} has neither {LINEAR} nor {ESTIMATOR}")
    try:
        outputs = head.outputs(np.zeros((1, inputs)))
    except Exception as error:
        # A damaged estimator may fail anywhere.
        raise CheckpointError(f"{path} does not fit {inputs} inputs: {error}") from error
    wanted = (1,) if task.kind == "regression" else (1, len(task.output_names))
    if outputs.shape != wanted or not np.isfinite(outputs).all():
        raise CheckpointError(f"{path} does not give the {len(task.output_names)} outputs of the task")
    return head


def _read_linear(path: Path, task: Task) -> Head:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
        return LinearHead(task.kind, **{name: tensors[name] for name in ("mean", "scale", "weight", "bias")})
    except KeyError as error:
        raise CheckpointError(f"{path} lacks {error}") from None
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _read_estimator(path: Path, task: Task, trusted: Sequence[str]) -> Head:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return EstimatorHead(task.kind, skops.io.load(path, trusted=list(trusted)))
    except UntrustedTypesFoundException as error:
        raise CheckpointError(
            f"{path} holds types that are not trusted; name them as trusted= "
            f"(--trust on the command line) where you know the file: {error}"
        ) from None
    except Exception as error:
        # A damaged file may fail anywhere inside skops, zipfile or scikit-learn.
        raise CheckpointError(f"cannot read {path}: {error}") from error
