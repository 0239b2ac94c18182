"""Every way in which fastgenome can compute the ids of a batch of texts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from families import Family
from numpy.typing import NDArray
from references import cleaned

from fastgenome import _core
from fastgenome.tokenizers import Tokenizer, Tokens

Texts = Sequence[str | bytes]
Run = Callable[[Texts, bool], Tokens]

#: One thread; two; more than the machine has, so that texts fall into many small parts.
THREADS = (1, 2, 7)
#: For a text that is cut.
CUTTING_THREADS = (2, 3)
#: Letters of a piece, so that a text of ordinary length is cut as well.
PIECE = 300
ID_WIDTHS = ("uint16", "int32", "int64")


class Path(NamedTuple):
    """A way to the ids.

    Attributes:
        name: for the reader.
        run: `run(texts, clean)` gives Tokens.
        special_tokens: whether special tokens stand around each text.
        most_texts: a slow way, to be tried on so many texts of a batch.
        cleans_only: a way that is right for cleaned text alone.
    """

    name: str
    run: Run
    special_tokens: bool = True
    most_texts: int | None = None
    cleans_only: bool = False


def instruction_sets() -> list[str]:
    """Those that this processor has; the best is in use again afterwards."""
    names = ("baseline", "avx2", "avx512")
    found = [name for name in names if _core.limit_instruction_set(name) == name]
    _core.limit_instruction_set(found[-1])
    return found


def paths(family: Family) -> Iterator[Path]:
    """All ways of one tokenizer: instruction sets × threads, widths of ids, buffers, single texts, bytes."""
    tokenize = family.tokenize
    best = instruction_sets()[-1]
    for name in instruction_sets():
        yield Path(f"{name}, call", _limited(name, lambda texts, clean: tokenize(texts, clean=clean)))
        if family.has_prompt:
            continue
        for threads in THREADS:
            run = _limited(
                name, lambda texts, clean, threads=threads: _encode(tokenize, texts, clean, threads)
            )
            yield Path(f"{name}, {threads} threads", run, cleans_only=tokenize.name == "opt")
    if not family.has_prompt:
        run = lambda texts, clean: tokenize(texts, clean=clean, special_tokens=False)  # noqa: E731
        yield Path(f"{best}, without special tokens", run, special_tokens=False)
    yield Path(
        f"{best}, one text at a time", lambda texts, clean: _one_by_one(tokenize, texts, clean), True, 200
    )
    yield Path(f"{best}, bytes", lambda texts, clean: tokenize(_as_bytes(texts), clean=clean))
    if not family.has_prompt and hasattr(tokenize._encoder, "encode_split"):
        run = lambda texts, _: _in_pieces(tokenize, texts)  # noqa: E731
        yield Path(f"{best}, in pieces", run, special_tokens=False, most_texts=300, cleans_only=True)
    yield from _widths(tokenize, best)


def cut_paths(family: Family) -> Iterator[Path]:
    """The ways for a text so long that threads share it."""
    tokenize = family.tokenize
    for name in instruction_sets():
        if family.has_prompt:
            yield Path(
                f"{name}, call, long text", _limited(name, lambda texts, clean: tokenize(texts, clean=clean))
            )
            continue
        for threads in CUTTING_THREADS:
            run = _limited(
                name, lambda texts, clean, threads=threads: _encode(tokenize, texts, clean, threads)
            )
            yield Path(f"{name}, cut for {threads} threads", run, cleans_only=tokenize.name == "opt")


def _widths(tokenize: Tokenizer, best: str) -> Iterator[Path]:
    accepted = inspect.signature(type(tokenize).__call__).parameters
    if "dtype" not in accepted:
        return
    for width in ID_WIDTHS:

        def run(texts: Texts, clean: bool, width: str = width) -> Tokens:
            tokens = tokenize(texts, clean=clean, dtype=width)
            assert tokens.ids.dtype == width
            return tokens

        def into_buffer(texts: Texts, clean: bool, width: str = width) -> Tokens:
            buffer = np.full(tokenize.capacity(texts), 7, width)
            return tokenize(texts, clean=clean, out=buffer)

        if tokenize.vocabulary_size <= np.iinfo(width).max + 1:
            yield Path(f"{best}, {width}", run)
            if "out" in accepted:
                yield Path(f"{best}, {width} into a buffer", into_buffer)


def _limited(name: str, run: Run) -> Run:
    """`run` with no better instruction set than `name`."""

    def limited(texts: Texts, clean: bool) -> Tokens:
        before = _core.instruction_set()
        _core.limit_instruction_set(name)
        try:
            return run(texts, clean)
        finally:
            _core.limit_instruction_set(before)

    return limited


def _encode(tokenize: Tokenizer, texts: Texts, clean: bool, threads: int) -> Tokens:
    ids, offsets, _ = tokenize._encoder.encode(
        texts, prefix=tokenize._prefix, suffix=tokenize._suffix, clean=clean, threads=threads
    )
    return Tokens(ids, offsets)


def _in_pieces(tokenize: Tokenizer, texts: Texts) -> Tokens:
    """Each text cleaned, and cut into pieces that are encoded apart."""
    clean_texts = cleaned([str(text) for text in texts])[0]
    parts = [tokenize._encoder.encode_split(text, len(text) // PIECE + 2)[0] for text in clean_texts]
    return _joined(parts)


def _one_by_one(tokenize: Tokenizer, texts: Texts, clean: bool) -> Tokens:
    return _joined([tokenize([text], clean=clean).ids for text in texts])


def _joined(parts: Sequence[NDArray[np.int32]]) -> Tokens:
    lengths: list[int] = [part.size for part in parts]
    ids: NDArray[np.int32] = np.concatenate([*parts, np.empty(0, np.int32)])
    return Tokens(ids, np.cumsum([0, *lengths]))


def _as_bytes(texts: Texts) -> Texts:
    """The texts as bytes where they are ASCII, which all tokenizers read alike."""
    return [text.encode() if isinstance(text, str) and text.isascii() else text for text in texts]
