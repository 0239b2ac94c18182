"""The model families: which of them a directory belongs to.

Each is a module with `FAMILY`, its name; `recognises(config, directory)`; and `load_directory(directory,
config, …)`, which gives a float32 model on the CPU. `OPTIONS` names the further arguments that it takes.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from fastgenome.errors import ArgumentError, CheckpointError, FastgenomeError
from fastgenome.models.checkpoint import read_config
from fastgenome.models.model import Model
from fastgenome.models.published_config import MAX_LAYERS

# Fields of all families that count layers, or have an entry for each.
_LAYERS = {
    "block_sizes", "decoder_layers", "dilations", "encoder_layers", "layer_types", "layers", "level_dims",
    "n_layer", "n_layers", "num_blocks", "num_decoder_layers", "num_encoder_layers", "num_hidden_groups",
    "num_hidden_layers", "num_inner_mlps", "num_layers", "stacks",
}  # fmt: skip

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
    _check_depth(config)
    given = {name: value for name, value in options.items() if value is not None}
    refused = sorted(given.keys() - set(getattr(family, "OPTIONS", ())))
    if refused:
        raise ArgumentError(
            f"{refused[0]}={given[refused[0]]!r}: models of the family {family.FAMILY} take none"
        )
    try:
        model: Model = family.load_directory(directory, config, **given)
    except FastgenomeError as error:
        # Of a family that takes no arguments it is the config that asks for what is not accepted.
        if isinstance(error, ArgumentError) and not hasattr(family, "OPTIONS"):
            raise CheckpointError(f"{directory / 'config.json'}: {error}") from error
        raise
    # What Python and torch say of sizes that no memory has, and of values of another type.
    except (
        ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise CheckpointError(
            f"{directory / 'config.json'} describes no network that can be made: "
            f"{str(error) or type(error).__name__}"
        ) from error
    model.options = given
    return model


def _check_depth(values: Mapping[str, Any]) -> None:
    """CheckpointError for a config of more than MAX_LAYERS layers, in itself or in an object within it."""
    for field, value in values.items():
        if isinstance(value, Mapping):
            _check_depth(value)
        count = len(value) if isinstance(value, list) else value
        if field == "block_sizes" and isinstance(value, list):
            count = sum(size for size in value if isinstance(size, int))
        if field in _LAYERS and isinstance(count, int) and count > MAX_LAYERS:
            raise CheckpointError(
                f"config.json: {field} asks for more than {MAX_LAYERS} layers, of which no network is made"
            )


def find_family(config: Mapping[str, Any], directory: Path) -> ModuleType | None:
    """The family that a config.json belongs to, if any knows it."""
    modules = (import_module(f"fastgenome.models.{name}") for name in FAMILIES)
    return next((module for module in modules if module.recognises(config, directory)), None)
