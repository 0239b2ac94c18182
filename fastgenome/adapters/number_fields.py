"""Numbers of frozen configs: checked, and stored as Python's own, so that equal settings also read alike."""

import math
from collections.abc import Callable
from contextlib import suppress
from numbers import Integral, Real

from fastgenome.errors import ArgumentError

# What a number must fulfil, and how an error says it.
Range = tuple[Callable[[float], bool], str]

POSITIVE: Range = (lambda value: 0 < value < math.inf, "above 0")
NOT_NEGATIVE: Range = (lambda value: 0 <= value < math.inf, "of at least 0")


def is_whole(value: object) -> bool:
    """Whether it is a whole number of Python or NumPy; a bool is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def store_whole(config: object, name: str, *, least: int = 0, bits: int = 63) -> None:
    """Make a config's field an int; ArgumentError unless it is whole, from `least` to 2**bits - 1."""
    value = getattr(config, name)
    if not is_whole(value) or not least <= int(value) < 2**bits:
        raise ArgumentError(f"{name} must be a whole number from {least} to 2**{bits} - 1; got {value!r}")
    object.__setattr__(config, name, int(value))


def store_real(config: object, name: str, expected: Range) -> None:
    """Make a config's field a float; ArgumentError unless it is a real number of that range."""
    value, (within, words) = getattr(config, name), expected
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        # A whole number may lie beyond all floats.
        with suppress(OverflowError):
            number = float(value)
    if math.isnan(number) or not within(number):
        raise ArgumentError(f"{name} must be a number {words}; got {value!r}")
    # -0.0 becomes 0.0.
    object.__setattr__(config, name, number + 0.0)
