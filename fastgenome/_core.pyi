"""Types of the C++ core. Batches come in as str or bytes; arrays go out packed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

# --- tokenizers ---

def instruction_set() -> str: ...
def limit_instruction_set(name: str) -> str: ...
def clean(sequences: Iterable[str | bytes]) -> tuple[list[str], NDArray[np.int64]]: ...

class _Encoder:
    def encode(
        self,
        sequences: Iterable[str | bytes],
        *,
        prefix: Sequence[int],
        suffix: Sequence[int],
        clean: bool,
        dtype: np.dtype[Any] = ...,
        out: NDArray[Any] | None = None,
        threads: int = 0,
    ) -> tuple[NDArray[Any], NDArray[np.int64], int]: ...
    def capacity(
        self, sequences: Iterable[str | bytes], *, prefix: Sequence[int], suffix: Sequence[int]
    ) -> int: ...

class SlidingKmers(_Encoder):
    def __init__(self, k: int, stride: int, letters: str, ids: NDArray[np.int32], unknown: int) -> None: ...

class BlockKmers(_Encoder):
    def __init__(
        self,
        k: int,
        letters: str,
        ids: NDArray[np.int32],
        unknown: int,
        characters: NDArray[np.int32],
        literals: Mapping[bytes, int],
    ) -> None: ...

class Characters(_Encoder):
    def __init__(self, ids: NDArray[np.int32], literals: Mapping[bytes, int]) -> None: ...

class Bpe(_Encoder):
    def __init__(
        self,
        bytes: NDArray[np.int32],
        merges: NDArray[np.int32],
        unknown: int,
        literals: Mapping[bytes, int],
    ) -> None: ...
    @property
    def uses_table(self) -> bool: ...
    @property
    def is_made(self) -> bool: ...
    def encode_split(self, sequence: str | bytes, parts: int) -> tuple[NDArray[np.int32], int]: ...

# --- features: indices of refused sequences and windows are -1 where there is none ---

class _Rows:
    @property
    def width(self) -> int: ...
    def fill(
        self,
        sequences: Iterable[str | bytes],
        out: NDArray[np.float64] | NDArray[np.float32],
        *,
        unknown: str,
        threads: int = 0,
        wide: bool = False,
    ) -> tuple[int, int]: ...
    def fill_windows(
        self,
        sequence: str | bytes,
        out: NDArray[np.float64] | NDArray[np.float32],
        *,
        window: int,
        stride: int,
        unknown: str,
        threads: int = 0,
    ) -> int: ...
    def sum_windows(self, sequence: str | bytes, counter: int, *, window: int, stride: int) -> int: ...

class KmerRows(_Rows):
    def __init__(self, k: int, columns: NDArray[np.uint16], width: int, frequencies: bool) -> None: ...

class ZCurveRows(_Rows):
    def __init__(self, blocks: Sequence[tuple[int, int]], norm: str) -> None: ...

def base_counts(
    sequences: Iterable[str | bytes], out: NDArray[np.int64], threads: int = 0
) -> tuple[NDArray[np.int64], int]: ...
def curve_offsets(
    sequences: Iterable[str | bytes], shorter: int = 0, threads: int = 0
) -> tuple[NDArray[np.int64], int]: ...
def zcurve_curves(
    sequences: Iterable[str | bytes],
    offsets: NDArray[np.int64],
    out: NDArray[np.int32],
    threads: int = 0,
) -> None: ...
def step_curves(
    sequences: Iterable[str | bytes],
    offsets: NDArray[np.int64],
    steps: Sequence[int],
    out: NDArray[np.int32],
    threads: int = 0,
) -> None: ...
def cpg_curves(
    sequences: Iterable[str | bytes],
    offsets: NDArray[np.int64],
    out: NDArray[np.int32],
    threads: int = 0,
) -> None: ...
def subtract_trends(
    values: NDArray[np.int32], offsets: NDArray[np.int64], trend: str, out: NDArray[np.float64]
) -> NDArray[np.float64]: ...

# --- sequences ---

class MalformedInput(ValueError): ...
class TruncatedInput(MalformedInput): ...

class SequenceParser:
    def __init__(self, format: str) -> None: ...
    def feed(self, data: bytes) -> None: ...
    def finish(self) -> None: ...
    def take(
        self, bases: int, records: int, rest: bool = False
    ) -> tuple[list[str], list[str], NDArray[np.int64], dict[int, tuple[str, str]]] | None: ...

_Record = TypeVar("_Record", bound=tuple[object, ...])

def make_records(type: type[_Record], ids: list[str], sequences: list[str]) -> list[_Record]: ...

# --- genomes: coordinates are 0-based, half-open ---

class BadRegion(ValueError): ...

class FastaScanner:
    def __init__(self) -> None: ...
    def feed(self, data: bytes) -> None: ...
    def finish(self) -> tuple[list[bytes], NDArray[np.int64]]: ...

class Genome:
    @staticmethod
    def open_fasta(
        source: object, names: Sequence[bytes], numbers: NDArray[np.int64], keep_case: bool
    ) -> Genome: ...
    @staticmethod
    def open_two_bit(path: bytes, keep_case: bool) -> Genome: ...
    @staticmethod
    def load_fasta(path: bytes, keep_case: bool) -> Genome: ...
    @staticmethod
    def from_parser(parser: SequenceParser, keep_case: bool) -> Genome: ...
    def loaded(self) -> Genome: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def lengths(self) -> NDArray[np.int64]: ...
    def index(self, name: str) -> int: ...
    def fetch(self, name: str, start: int, end: int | None) -> str: ...
    def fetch_many(self, regions: Iterable[Sequence[object]], threads: int = 0) -> list[str]: ...
    def fetch_packed(
        self,
        contigs: NDArray[np.int64],
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        threads: int = 0,
        out: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]: ...
