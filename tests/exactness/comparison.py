"""Comparison of a path with the reference, and the smallest text on which they differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from families import Family
from packed import Rows
from paths import Path
from references import cleaned

from fastgenome.errors import InputError

Items = TypeVar("Items", bound=Sequence)


@dataclass
class Mismatch:
    """A batch of texts, as small as it was found, on which a path is wrong."""

    path: str
    clean: bool
    texts: list[str]
    expected: list[int]
    got: list[int] | str

    def __str__(self) -> str:
        texts = repr(self.texts)
        shown = texts if len(texts) < 2000 else f"{texts[:2000]} … ({len(texts)} characters)"
        return (
            f"path: {self.path}, clean={self.clean}\n    texts:    {shown}\n"
            f"    expected: {self.expected[:40]}\n    got:      {self.got[:40]}"
        )


def expected_ids(family: Family, texts: Sequence[str], clean: bool, special_tokens: bool = True) -> Rows:
    """What the reference gives; with `clean`, the texts must be DNA."""
    rows = family.reference(cleaned(texts)[0] if clean else texts)
    return rows.surrounded(family.prefix, family.suffix) if special_tokens else rows


def compare(family: Family, path: Path, texts: Sequence[str], clean: bool, expected: Rows) -> Mismatch | None:
    """None where the path gives the expected ids, else a small example of its fault."""
    if is_equal(family, path, texts, clean, expected):
        return None

    def fails(some: Sequence[str]) -> bool:
        rows = expected_ids(family, some, clean, path.special_tokens)
        return not is_equal(family, path, some, clean, rows)

    small = shrink(list(texts), fails)
    for place in range(len(small)):
        small[place] = shrink(small[place], lambda text, i=place: fails([*small[:i], text, *small[i + 1 :]]))
    rows = expected_ids(family, small, clean, path.special_tokens)
    return Mismatch(path.name, clean, small, rows.values.tolist(), _run_or_error(family, path, small, clean))


def is_equal(family: Family, path: Path, texts: Sequence[str], clean: bool, expected: Rows) -> bool:
    """Whether ids and offsets are those expected; an exception is a difference too."""
    try:
        ids, offsets = path.run(texts, clean)
    except Exception:
        return False
    return np.array_equal(offsets, expected.offsets) and np.array_equal(ids, expected.values)


def refuses(family: Family, path: Path, texts: Sequence[str], index: int) -> bool:
    """Whether a path refuses a batch because of the text at `index`, the first that is not DNA."""
    try:
        path.run(texts, True)
    except InputError as error:
        return str(error).startswith(f"sequences[{index}] ")
    return False


def shrink(items: Items, fails: Callable[[Items], bool], seconds: float = 60.0) -> Items:
    """The smallest part found of `items` that still fails, by leaving out ever smaller stretches.

    Their sizes are powers of two: a fault often depends on a place within a block of such a size.
    """
    deadline = time.monotonic() + seconds
    step = 1 << max(0, len(items).bit_length() - 2)
    while True:
        place = 0
        is_smaller = False
        while place < len(items) and time.monotonic() < deadline:
            candidate = items[:place] + items[place + step :]
            if fails(candidate):
                items = candidate
                is_smaller = True
            else:
                place += step
        if step == 1 and (not is_smaller or time.monotonic() >= deadline):
            return items
        step = max(1, step // 2)


def _run_or_error(family: Family, path: Path, texts: Sequence[str], clean: bool) -> list[int] | str:
    try:
        ids: list[int] = path.run(texts, clean).ids.tolist()
    except Exception as error:
        return repr(error)
    return ids
