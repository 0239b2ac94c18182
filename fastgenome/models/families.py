"""The model families: which of them a directory belongs to.

Each is a module with `FAMILY`, its name; `recognises(config, directory)`; and `load_directory(directory,
config, …)`, which gives a float32 model on the CPU. `OPTIONS` names the further arguments that it takes.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.models.checkpoint import read_config
from fastgenome.models.model import Model

# In the order in which they are asked.
FAMILIES = (
    "tiny",
    "convnova",
    "unet",
    "dnabert2",
    "dnabert",
    "specieslm",
    "nucleotide_transformer",
    "opt",
    "hyenadna",
    "caduceus",
    "transformers_adapter",
)


def load_family(directory: Path, options: Mapping[str, Any]) -> Model:
    """The model in `directory`; `options` go to its family, those that are None do not count.

    Raises CheckpointError where no family knows the config.json, ArgumentError for an option that the family
    does not take.
    """
    config = read_config(directory)
    family = find_family(config, directory)
    if family is None:
        raise CheckpointError(
            f"{directory / 'config.json'} is of no known family (family {config.get('family')!r}, model_type "
            f"{config.get('model_type')!r}); known are {', '.join(FAMILIES)}"
        )
    given = {name: value for name, value in options.items() if value is not None}
    refused = sorted(given.keys() - set(getattr(family, "OPTIONS", ())))
    if refused:
        raise ArgumentError(
            f"{refused[0]}={given[refused[0]]!r}: models of the family {family.FAMILY} take none"
        )
    try:
        model: Model = family.load_directory(directory, config, **given)
    # What torch says of sizes that no memory has.
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{directory / 'config.json'} describes no network that can be made: {error}"
        ) from error
    model.options = given
    return model


def find_family(config: Mapping[str, Any], directory: Path) -> ModuleType | None:
    """The family that a config.json belongs to, if any knows it."""
    modules = (import_module(f"fastgenome.models.{name}") for name in FAMILIES)
    return next((module for module in modules if module.recognises(config, directory)), None)
