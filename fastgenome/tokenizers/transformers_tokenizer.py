"""Any tokenizer of transformers behind the interface of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastgenome import _core
from fastgenome.cleaning import as_batch
from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.tokenizers.tokenizer import Tokenizer
from fastgenome.vocabularies import read_json

# What the special tokens are read off from; no published k-mer or byte pair reaches over all of it.
_PROBES = ("ACGTTGCATTAGGCCA", "TTGACCAGTAACGGTACCTGAATC")

# Files whose fields become arguments of a tokenizer of transformers.
_SETTINGS = {"tokenizer_config.json", "special_tokens_map.json"}
# Which of these are names of files, and which are of no use here.
_NAMES_A_FILE = re.compile(r".*_files?|.*_spm|vocab|merges")
_UNUSED = ("auto_map", "chat_template", "init_inputs", "name_or_path")


class TransformersTokenizer(Tokenizer):
    """The tokenizer that transformers loads from a model's directory, without remote code.

    Ids are those of transformers for the (cleaned) text, never padded or cut off. `threads` is left to the
    tokenizers library. Without cleaning bytes are read as Latin-1.
    """

    def __init__(self, directory: str | Path, config: Any, *, files: Mapping[str, Path]) -> None:
        """Loads it; `config` is the model's, as transformers holds it.

        `files` are those of the vocabulary by their usual names; transformers gets copies of these alone, not
        `directory`, where the model lies. Raises CheckpointError where they are missing, need code of their
        own, name files elsewhere, or do not make a tokenizer of plain DNA.
        """
        backend = _load(Path(directory), config, files)
        encoder = _Encoder(backend)
        prefix, suffix = _special_tokens(encoder, str(directory))
        super().__init__(
            _Encoder,
            {"backend": backend},
            name=str(config.model_type),
            vocabulary=backend.get_vocab(),
            prefix=prefix,
            suffix=suffix,
            max_length=_limit(backend),
        )
        named = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
        ids = {name: getattr(backend, f"{name}_token_id", None) for name in named}
        self.special_token_ids = {name: number for name, number in ids.items() if number is not None}
        unknown = self.special_token_ids.get("unk")
        if all(number == unknown for probe in _PROBES for number in encoder.ids(probe)):
            raise CheckpointError(
                f"the tokenizer in {directory} reads plain DNA as unknown tokens: it expects text that was "
                "prepared before, such as k-mers between spaces, which this model cannot be given"
            )


class _Encoder:
    """Does for `Tokenizer` what an encoder of the C++ core does for the families that it knows."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def ids(self, text: str, *, special_tokens: bool = False) -> list[int]:
        """Ids of one text."""
        return self._texts_ids([text], special_tokens)[0]

    def capacity(self, batch: Sequence[str | bytes], *, prefix: list[int], suffix: list[int]) -> int:
        """A bound on the ids of a batch: tokens of a byte-level tokenizer may stand for a byte each."""
        # A marker may be put before the first word.
        return sum(4 * len(sequence) + 1 + len(prefix) + len(suffix) for sequence in batch)

    def encode(
        self,
        batch: Sequence[str | bytes],
        *,
        prefix: list[int],
        suffix: list[int],
        clean: bool,
        dtype: DTypeLike,
        out: NDArray[Any] | None,
        threads: int,
    ) -> tuple[NDArray[Any], NDArray[np.int64], int]:
        """Ids, offsets (n + 1,), and the index of the first sequence that is no DNA, or -1."""
        texts: Sequence[str | bytes] = as_batch(batch)
        if clean:
            texts, counts = _core.clean(texts)
            invalid = np.flatnonzero(counts[:, 4])
            if invalid.size:
                return np.zeros(0, dtype), np.zeros(1, np.int64), int(invalid[0])
        plain = [text.decode("latin-1") if isinstance(text, bytes) else text for text in texts]
        rows = [[*prefix, *row, *suffix] for row in self._texts_ids(plain, False)]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        size = int(offsets[-1])
        ids = np.fromiter((number for row in rows for number in row), dtype=dtype, count=size)
        if out is None:
            return ids, offsets, -1
        if out.size < size:
            raise ArgumentError(f"out holds {out.size} values, needed are {size}")
        out[:size] = ids
        return out[:size], offsets, -1

    def _texts_ids(self, texts: list[str], special_tokens: bool) -> list[list[int]]:
        if not texts:
            return []
        rows: list[list[int]] = self._backend(
            texts,
            add_special_tokens=special_tokens,
            padding=False,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return rows


def _load(directory: Path, config: Any, files: Mapping[str, Path]) -> Any:
    """The tokenizer of transformers from copies of `files`, so that it sees nothing else of `directory`."""
    from transformers import AutoTokenizer

    with TemporaryDirectory(prefix="fastgenome-") as place:
        for name, path in files.items():
            copyfile(path, Path(place) / name)
        for name in _SETTINGS & files.keys():
            settings = _harmless(read_json(files[name]), directory / name)
            (Path(place) / name).write_text(json.dumps(settings), encoding="utf-8")
        try:
            backend = AutoTokenizer.from_pretrained(
                place, config=config, trust_remote_code=False, local_files_only=True
            )
        except Exception as error:
            # Whatever goes wrong in there, it is these files that cannot be used.
            reason = str(error).replace(place, str(directory)).strip().splitlines()
            raise CheckpointError(
                f"{directory} holds no tokenizer that transformers loads without remote code "
                f"({type(error).__name__}: {reason[0] if reason else ''})"
            ) from error
    backend.name_or_path = str(directory)
    usual = sorted({"tokenizer.json", *backend.vocab_files_names.values()})
    # Without any of them transformers makes one with an empty vocabulary.
    if not files.keys() & set(usual):
        raise CheckpointError(f"{directory} holds no tokenizer: none of {', '.join(usual)}")
    return backend


def _harmless(settings: dict[str, Any], source: Path) -> dict[str, Any]:
    """The settings of a tokenizer without what leads to code or templates.

    Raises CheckpointError for a field, at any depth, that names a file: it would be opened wherever it lies.
    """
    for field, value in _fields(settings):
        if _NAMES_A_FILE.fullmatch(field) and value and not isinstance(value, Mapping):
            raise CheckpointError(
                f"{source} names a file, {field}={value!r}: only those of the model's directory, under their "
                "usual names, are opened"
            )
    return {field: value for field, value in settings.items() if field not in _UNUSED}


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Every field of a JSON value with its value, at any depth."""
    if isinstance(value, Mapping):
        for field, inner in value.items():
            yield field, inner
            yield from _fields(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _fields(inner)


def _special_tokens(encoder: _Encoder, place: str) -> tuple[list[int], list[int]]:
    """Ids before and behind every text; CheckpointError where these depend on the text."""
    found = []
    for probe in _PROBES:
        inner, whole = encoder.ids(probe), encoder.ids(probe, special_tokens=True)
        starts = range(len(whole) - len(inner) + 1)
        start = next((i for i in starts if whole[i : i + len(inner)] == inner), None)
        if not inner or start is None:
            raise CheckpointError(f"the tokenizer in {place} does not put its special tokens around a text")
        found.append((whole[:start], whole[start + len(inner) :]))
    if any(pair != found[0] for pair in found):
        raise CheckpointError(f"the special tokens of the tokenizer in {place} depend on the text")
    return found[0]


def _limit(backend: Any) -> int | None:
    """Most tokens of a text; transformers has a huge number where it knows none."""
    limit = backend.model_max_length
    return int(limit) if isinstance(limit, int | float) and 1 <= limit < 1 << 31 else None
