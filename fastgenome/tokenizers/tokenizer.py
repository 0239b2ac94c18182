"""The tokenizer that all families share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastgenome.cleaning import as_batch, check_threads, describe_invalid
from fastgenome.errors import ArgumentError, InputError
from fastgenome.vocabularies import special_token_ids

_ID_TYPES = {np.dtype(name): name for name in ("uint8", "uint16", "int32", "int64")}


class Tokens(NamedTuple):
    """Token ids of many sequences, one behind the other.

    Sequence i has the ids `ids[offsets[i]:offsets[i + 1]]`.
    """

    ids: NDArray[Any]  # (total,), int32 unless asked otherwise
    offsets: NDArray[np.int64]  # (n + 1,)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each sequence, special tokens included: (n,)."""
        return np.diff(self.offsets)


class Tokenizer:
    """Turns sequences into token ids; made by `load_tokenizer`, or as a `KmerTokenizer`.

    Attributes:
        name: the family, such as "dnabert-6".
        vocabulary: token → id.
        vocabulary_size: highest id + 1, special tokens included.
        special_token_ids: ids under the names pad, unk, cls, sep, mask, bos, eos, as far as they exist.
        max_length: most tokens, special ones included, that the published models accept, or None.
        bases_per_token: bases from the beginning of one token to that of the next, or None where it varies.
    """

    def __init__(
        self,
        encoder: Callable[..., Any],
        arguments: Mapping[str, Any],
        *,
        name: str,
        vocabulary: Mapping[str, int],
        prefix: Iterable[int] = (),
        suffix: Iterable[int] = (),
        max_length: int | None = None,
        bases_per_token: int | None = None,
    ) -> None:
        """`encoder(**arguments)` makes the encoder of the C++ core; prefix and suffix are token ids."""
        self.name = name
        self.vocabulary = dict(vocabulary)
        self.vocabulary_size = max(self.vocabulary.values()) + 1
        self.special_token_ids = special_token_ids(self.vocabulary)
        self.max_length = max_length
        self.bases_per_token = bases_per_token
        self._prefix = list(prefix)
        self._suffix = list(suffix)
        self._recipe = (encoder, dict(arguments))
        self._encoder = encoder(**arguments)

    @property
    def prefix(self) -> tuple[int, ...]:
        """Ids of the special tokens before each sequence."""
        return tuple(self._prefix)

    @property
    def suffix(self) -> tuple[int, ...]:
        """Ids of the special tokens after each sequence."""
        return tuple(self._suffix)

    @property
    def prefix_length(self) -> int:
        """Number of special tokens before each sequence."""
        return len(self._prefix)

    @property
    def suffix_length(self) -> int:
        """Number of special tokens after each sequence."""
        return len(self._suffix)

    def __call__(
        self,
        sequences: Iterable[str | bytes],
        *,
        special_tokens: bool = True,
        clean: bool = True,
        dtype: DTypeLike | None = None,
        out: NDArray[Any] | None = None,
        threads: int = 0,
    ) -> Tokens:
        """Encodes sequences.

        Args:
            sequences: DNA, one str each, or bytes, which are read as Latin-1 (by OPT as UTF-8).
            special_tokens: whether to put the prefix and suffix of the family around each sequence.
            clean: whether to clean sequences first, see the module; without it characters outside of the
                vocabulary become the unknown token.
            dtype: of the ids: uint8 or uint16 (where the vocabulary fits), int32 (the default) or int64.
            out: array (size,) for the ids, of at least `capacity` entries; its dtype is that of the ids.
            threads: most threads to use; 0 for as many as the work deserves, at most FASTGENOME_THREADS of
                the environment where that is set.

        Returns:
            Tokens in the order of `sequences`; with `out`, their ids are the beginning of it.

        Raises:
            InputError: with `clean`, a sequence holds a character that is no nucleotide code.
            ArgumentError: `sequences` is one str, or `dtype` or `out` cannot take the ids.
        """
        batch = as_batch(sequences)
        wanted = self._id_type(dtype, out)
        return self._encode(batch, special_tokens, clean, wanted, out, check_threads(threads))

    def capacity(self, sequences: Iterable[str | bytes], *, special_tokens: bool = True) -> int:
        """Entries that `out` must have for these sequences: a bound on their ids, known without encoding."""
        prefix, suffix = (self._prefix, self._suffix) if special_tokens else ([], [])
        size: int = self._encoder.capacity(as_batch(sequences), prefix=prefix, suffix=suffix)
        return size

    def _encode(
        self,
        batch: tuple[str | bytes, ...],
        special_tokens: bool,
        clean: bool,
        dtype: np.dtype[Any],
        out: NDArray[Any] | None,
        threads: int,
    ) -> Tokens:
        prefix, suffix = (self._prefix, self._suffix) if special_tokens else ([], [])
        try:
            ids, offsets, invalid = self._encoder.encode(
                batch, prefix=prefix, suffix=suffix, clean=clean, dtype=dtype, out=out, threads=threads
            )
        except ValueError as error:
            raise ArgumentError(str(error)) from None
        if invalid >= 0:
            raise InputError(describe_invalid(batch[invalid], invalid))
        return Tokens(ids, offsets)

    def _id_type(self, dtype: DTypeLike | None, out: NDArray[Any] | None) -> np.dtype[Any]:
        """The type of the ids; ArgumentError where the arguments disagree or it is too narrow."""
        if out is not None:
            if not isinstance(out, np.ndarray):
                raise ArgumentError(f"out is {type(out).__name__}, expected a NumPy array")
            if out.ndim != 1 or not (out.flags.c_contiguous and out.flags.aligned and out.flags.writeable):
                raise ArgumentError("out must be one-dimensional, contiguous, aligned and writable")
        wanted = (
            np.dtype(dtype) if dtype is not None else out.dtype if out is not None else np.dtype(np.int32)
        )
        if wanted not in _ID_TYPES:
            raise ArgumentError(f"dtype={wanted.name}: expected one of {', '.join(_ID_TYPES.values())}")
        if out is not None and out.dtype != wanted:
            raise ArgumentError(f"dtype={wanted.name}, but out is of {out.dtype.name}")
        if np.iinfo(wanted).max < self.vocabulary_size - 1:
            raise ArgumentError(
                f"dtype={wanted.name} holds no ids above {np.iinfo(wanted).max}; "
                f"those of {self.name} go to {self.vocabulary_size - 1}"
            )
        return wanted

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, vocabulary_size={self.vocabulary_size})"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_encoder"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        encoder, arguments = self._recipe
        self._encoder = encoder(**arguments)
