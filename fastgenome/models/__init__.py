"""Models by name or directory."""

from pathlib import Path

import torch

from fastgenome.errors import CheckpointError, ModelError
from fastgenome.models.device import choose_device, choose_dtype
from fastgenome.models.families import load_family
from fastgenome.models.model import Model
from fastgenome.models.registry import REGISTRY, RegisteredModel
from fastgenome.models.transformer import cast_products

__all__ = ["REGISTRY", "Model", "RegisteredModel", "load"]


def load(
    name: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    species: str | None = None,
    prompt: str | None = None,
) -> Model:
    """Load a model by its registered name or from a directory; no code of the model is ever executed.

    A registered name wins over a directory of that name (write "./tiny" for the directory). `device="auto"`
    is CUDA where available; `dtype="auto"` is bfloat16 where the device computes it natively, else float32.
    `species` is for SpeciesLM and `prompt` for OPT, see `load_tokenizer`.
    Raises ModelError for an unknown name, CheckpointError for files that are missing, damaged or do not fit.
    """
    place = choose_device(device)
    precision = choose_dtype(dtype, place)
    entry = REGISTRY.get(name) if isinstance(name, str) else None
    directory = entry.directory if entry and entry.directory else Path(name)
    if not directory.is_dir():
        known = ", ".join(sorted(REGISTRY))
        raise ModelError(f"no model {str(name)!r}: neither a registered name ({known}) nor a directory")
    # Tensors made in inference mode could never be trained.
    with torch.inference_mode(False):
        model = load_family(directory, {"species": species, "prompt": prompt})
        if entry and entry.sha256 and model.sha256 != entry.sha256:
            raise CheckpointError(
                f"the weights of {name!r} have sha256 {model.sha256}, expected {entry.sha256}: "
                "the files are damaged or of another release; install them again"
            )
        # A relative directory would be another one wherever the name is used again.
        model.name = entry.name if entry else str(directory.resolve())
        cast_products(model.network, precision)
        model.network.to(place).eval()
        return model
