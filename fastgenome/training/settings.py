"""A method and its training as one set of named settings, for the command line and for sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np

from fastgenome.training.methods import Full, chosen_method
from fastgenome.training.probe import Probe
from fastgenome.training.tuning_config import Training

if TYPE_CHECKING:
    from fastgenome.adapters import AdapterConfig

_SHORT = {"lr": "learning_rate"}


@dataclass(frozen=True)
class Settings:
    """Configs of a method and of its training; the probe has none of the second.

    A name that both have, such as the seed, stands for both.
    """

    method: Probe | Full | AdapterConfig
    training: Training | None

    @classmethod
    def of(cls, method: str | Probe | Full | AdapterConfig, training: Training | None = None) -> Settings:
        """Settings of a method, by default its own; ArgumentError for an unknown one."""
        config = chosen_method(method)
        return cls(config, training if isinstance(config, Probe) else training or Training())

    def types(self) -> dict[str, Any]:
        """The type of every setting that a text can give, by name; an estimator cannot be written."""
        parts = [part for part in (self.method, self.training) if part is not None]
        hints = [(part, get_type_hints(type(part))) for part in parts]
        return {f.name: types[f.name] for part, types in hints for f in fields(part) if f.name != "head"}  # type: ignore[arg-type]

    def field_name(self, name: str) -> str | None:
        """The full name of a setting, None for one that is not there."""
        full = _SHORT.get(name, name)
        return full if full in self.types() else None

    def replaced(self, values: Mapping[str, Any]) -> Settings:
        """The same with other values, which the configs check."""
        return Settings(_with(self.method, values), self.training and _with(self.training, values))


def _with(config: Any, values: Mapping[str, Any]) -> Any:
    own = {field.name for field in fields(config)}
    # The configs refuse NumPy's bools.
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    return replace(config, **{name: value for name, value in plain.items() if name in own})
