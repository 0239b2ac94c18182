"""Models by name, hub id or directory."""

from pathlib import Path

import torch

from fastgenome.models.conversion import convert
from fastgenome.models.device import choose_device, choose_dtype
from fastgenome.models.families import load_family
from fastgenome.models.licences import LicenceWarning, show_licence
from fastgenome.models.model import Model
from fastgenome.models.registry import REGISTRY, RegisteredModel
from fastgenome.models.sources import find_model
from fastgenome.models.transformer import cast_products

__all__ = ["REGISTRY", "LicenceWarning", "Model", "RegisteredModel", "convert", "load"]


def load(
    name: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    species: str | None = None,
    prompt: str | None = None,
) -> Model:
    """Load a model by its registered name, from a directory, or by its id in the Hugging Face hub.

    No code of the model is ever executed. A registered name wins over a directory of that name (write
    "./tiny" for the directory), a directory over the id "owner/name" or "owner/name@revision". Files of the
    hub come through its cache; what is cached at a pinned revision loads without a network. `device="auto"`
    is CUDA where available; `dtype="auto"` is bfloat16 where the device computes it natively, else float32.
    `species` is for SpeciesLM and `prompt` for OPT, see `load_tokenizer`. Warns, once for each model, of a
    licence that excludes commercial use (LicenceWarning). Raises ModelError for a name that is unknown or out
    of reach, CheckpointError for files that are missing, damaged or do not fit.
    """
    place = choose_device(device)
    precision = choose_dtype(dtype, place)
    source = find_model(name)
    # Tensors made in inference mode could never be trained.
    with torch.inference_mode(False):
        model = load_family(source.directory, {"species": species, "prompt": prompt})
        model.name = source.name
        if source.entry:
            model.licence = source.entry.licence
        show_licence(model.name, model.licence)
        cast_products(model.network, precision)
        model.network.to(place).eval()
        return model
