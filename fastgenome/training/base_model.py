"""The model that a predictor was trained on: described, found again, and copied or loaded to be tuned."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgenome.errors import ArgumentError, CheckpointError, ModelError
from fastgenome.training.predictor_folder import BaseModel, Description, check_files

if TYPE_CHECKING:
    import torch

    from fastgenome.models.model import Model


def describe_model(model: Model) -> BaseModel:
    """What finds the model again; ArgumentError for one whose weights do not come from files."""
    if model.sha256 is None:
        raise ArgumentError(
            f"the base model {model.name!r} was not loaded from files, so that the predictor could not be "
            "loaded again; save the model, load it with fastgenome.load, and train on that"
        )
    dtype = str(model.dtype).removeprefix("torch.")
    digests = (model.sha256, model.config_sha256, model.tokenizer_sha256)
    return BaseModel(model.name, *digests, dtype, dict(model.options))


def stored_model(folder: Path, stored: Description, model: str | Path | Model | None, device: str) -> Model:
    """The model of a stored predictor: its base model, with an adapter merged into it, or the tuned one."""
    from fastgenome.models import load

    assert stored.model is not None
    if stored.tuned is None:
        return _base_model(stored.model, model, device)
    check_files(folder, stored.tuned)
    if stored.tuned.weights == "model":
        return load(folder / "model", device=device, dtype=stored.model.dtype, **stored.model.options)
    base = _base_model(stored.model, model, device)
    if base is model:
        # The caller's own model stays as it is.
        base = copied(base)
    base.load_adapter(folder / "adapter")
    base.merge_adapter()
    return base


def copied(model: Model) -> Model:
    """A model with weights of its own, which can be changed while the first stays as it is.

    Raises:
        ArgumentError: it has adapters.
    """
    if model.adapters.configs:
        raise ArgumentError(
            f"model {model.name!r} has adapters ({', '.join(model.adapters.configs)}); remove them, or load "
            "the model anew"
        )
    twin = copy.copy(model)
    twin.network = copy.deepcopy(model.network)
    twin.adapters = type(model.adapters)()
    return twin


def precision(dtype: str, device: torch.device) -> str:
    """The type of frozen products in training: "auto" is float32 on a CPU."""
    return "float32" if dtype == "auto" and device.type == "cpu" else dtype


def tunable(model: str | Path | Model, *, dtype: str, full: bool) -> Model:
    """A model whose weights may be changed: loaded by name, or a copy of a loaded one.

    With `full` its weights are float32, else its products have `dtype` (see Training), where "auto" leaves a
    loaded model as it is.

    Raises:
        ArgumentError: a loaded model has weights rounded to bfloat16 where float32 is needed, or adapters.
    """
    import torch

    from fastgenome.models import load
    from fastgenome.models.device import choose_device
    from fastgenome.models.transformer import cast_products

    if isinstance(model, (str, Path)):
        return load(model, dtype="float32" if full else precision(dtype, choose_device("auto")))
    if model.dtype != torch.float32 and (full or dtype == "float32"):
        raise ArgumentError(
            f"model {model.name!r} was loaded in {model.dtype}, but is to be tuned in float32: load it with "
            "dtype='float32'"
        )
    twin = copied(model)
    if dtype == "bfloat16" and not full:
        cast_products(twin.network, torch.bfloat16)
    return twin


def _base_model(base: BaseModel, model: str | Path | Model | None, device: str) -> Model:
    from fastgenome.models import load

    if model is None:
        try:
            loaded = load(base.name, device=device, dtype=base.dtype, **base.options)
        except ModelError as error:
            raise CheckpointError(
                f"cannot load the base model; where it has moved, give model=: {error}"
            ) from error
    else:
        options: dict[str, Any] = {"device": device, "dtype": base.dtype, **base.options}
        loaded = load(model, **options) if isinstance(model, (str, Path)) else model
    if loaded.sha256 != base.sha256:
        raise CheckpointError(
            f"the predictor was trained on {base.name!r} with weights of sha256 {base.sha256[:16]}…, "
            f"but {loaded.name!r} has {(loaded.sha256 or 'none')[:16]}…; give the right one as model="
        )
    if loaded.config_sha256 != base.config_sha256:
        raise CheckpointError(
            f"the weights of {loaded.name!r} are those trained on, but its config.json describes another "
            "network; give the right model as model="
        )
    if loaded.tokenizer_sha256 != base.tokenizer_sha256:
        raise CheckpointError(
            f"the weights of {loaded.name!r} are those trained on, but its tokens are not the same (another "
            "vocabulary, species or prompt); give the right model as model="
        )
    return loaded
