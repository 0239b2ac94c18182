"""Settings of fine-tuning as texts: KEY=VALUE into the fields of frozen configs, by the types of those."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from fastgenome.errors import ArgumentError

if TYPE_CHECKING:
    from fastgenome.training.settings import Settings

_TRUTH = {"true": True, "false": False}


def configured(method: str, texts: Iterable[str]) -> Settings:
    """The configs of a method and its training, with settings such as rank=8 or layer=0,-1.

    Raises:
        ArgumentError: the method is unknown, or a text is no setting of it, or one that came before.
    """
    from fastgenome.training.settings import Settings

    settings = Settings.of(method)
    values: dict[str, Any] = {}
    for text in texts:
        name, value = _divided(text, settings, "--set")
        if name in values:
            raise ArgumentError(f"--set {text!r}: {name} is set already")
        values[name] = _value(settings.types()[name], value, name=name)
    return settings.replaced(values)


def grid_of(texts: Iterable[str], settings: Settings) -> dict[str, tuple[Any, ...]]:
    """The values to try of each setting, from texts such as "rank=2,4,8" or "rank=2,4 lr=1e-4,1e-3".

    Within one value "+" joins, as in "targets=query+value,query".
    """
    grid: dict[str, tuple[Any, ...]] = {}
    for text in " ".join(texts).split():
        name, values = _divided(text, settings, "--sweep")
        if name in grid:
            raise ArgumentError(f"--sweep {text!r}: {name} is swept already")
        kind = settings.types()[name]
        grid[name] = tuple(_value(kind, value, name=name, joined="+") for value in values.split(","))
    return grid


def _divided(text: str, settings: Settings, option: str) -> tuple[str, str]:
    """Name of the field and text of its value; ArgumentError for another name."""
    key, equals, value = text.partition("=")
    name = settings.field_name(key)
    if not equals or name is None:
        raise ArgumentError(
            f"{option} {text!r}: expected KEY=VALUE, each of {', '.join(settings.types())} at most once"
        )
    return name, value


def _value(kind: Any, text: str, *, name: str, joined: str = ",") -> Any:
    """A text as a value of a type, or as it is: what it is for then says what it expects.

    `joined` stands between the parts of a tuple.
    """
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if text.lower() == "none" and NoneType in kinds:
        return None
    if kinds == (bool,):
        if text.lower() not in _TRUTH:
            raise ArgumentError(f"{name}: expected true or false, got {text!r}")
        return _TRUTH[text.lower()]
    for one in kinds:
        if one is int and re.fullmatch(r"[+-]?[0-9]+", text):
            return int(text)
        if one is float and _is_number(text):
            return float(text)
        if get_origin(one) is Literal and text in get_args(one):
            return text
        if get_origin(one) in (tuple, Sequence) and not (kinds[0] is int and joined not in text):
            return tuple(_value(get_args(one)[0], part, name=name) for part in text.split(joined))
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
