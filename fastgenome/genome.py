"""A genome on disk or in memory: any stretch of any contig, one by one or many at once."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastgenome import _core
from fastgenome.bgzf import BgzfFile, is_bgzf
from fastgenome.cleaning import check_threads
from fastgenome.errors import ArgumentError, InputError, TruncatedInputError
from fastgenome.genome_index import FastaIndex, FileState, file_state, read_fai, read_index, write_index
from fastgenome.streams import ByteStream, PathLike

__all__ = ["Genome", "PackedLetters", "build_index", "open_genome"]

_TWO_BIT_MAGIC = (b"\x43\x27\x41\x1a", b"\x1a\x41\x27\x43")
_GZIP_MAGIC = b"\x1f\x8b"


class PackedLetters(NamedTuple):
    """Letters of many regions, one behind the other.

    Attributes:
        letters: (total,) uint8, ASCII.
        offsets: (n + 1,) int64; region i is letters[offsets[i] : offsets[i + 1]].
    """

    letters: NDArray[np.uint8]
    offsets: NDArray[np.int64]


class Genome:
    """The contigs of a FASTA (plain or bgzip) or 2bit file; coordinates are 0-based, half-open.

    Letters are cleaned as everywhere (upper case, U to T, IUPAC codes to N), but for what would move a
    coordinate: a gap, "-" or ".", becomes N, and no letter is left out. Other characters are an error.

    FASTA is found through an index beside it: ours (`.fgi`), else that of samtools (`.fai`), else one is made
    and, where the folder allows, kept. One that does not fit the file is an error, and so is a file whose
    lines no index can describe (`in_memory` reads it). The index of samtools lacks contigs without letters,
    and so does the genome then. A plain FASTA file cut off within a contig, before any index was made, cannot
    be told from a whole one.

    Threads may share a genome, and so may processes made by fork; pickled, it is opened again by its path.

    Args:
        path: the file; its first bytes tell the format.
        in_memory: read all of it now, one byte a base. Any FASTA will do then, gzip too; no index is used.
        soft_masked: keep lower case.

    Attributes:
        path: the file.
        lengths: (contigs,) int64, in bases.

    Raises:
        InputError: the file or its index cannot be used; two contigs have one name; there is none.
        TruncatedInputError: the file or its index ends too early.
    """

    def __init__(self, path: PathLike, *, in_memory: bool = False, soft_masked: bool = False) -> None:
        self.path = Path(path)
        self._in_memory = in_memory
        self._soft_masked = soft_masked
        try:
            self._core = self._open()
        except (OSError, ValueError) as error:
            raise _explained(error, self.path) from error
        self.lengths = self._core.lengths
        self.lengths.flags.writeable = False
        if self.lengths.size == 0:
            raise InputError(f"{self.path} holds no contigs")

    def __repr__(self) -> str:
        return f"Genome({str(self.path)!r}: {len(self.lengths)} contigs, {int(self.lengths.sum())} bases)"

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (self.path.absolute(), self._in_memory, self._soft_masked)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The contigs in the order of the file: the first words of their headers."""
        return self._core.names

    def index(self, name: str) -> int:
        """Return the place of a contig in `names`; ArgumentError where there is none of that name."""
        try:
            return self._core.index(name)
        except ValueError as error:
            raise _explained(error, self.path) from error

    def fetch(self, name: str, start: int = 0, end: int | None = None) -> str:
        """Return the letters of contig `name` from `start` to `end` (None: its end), 0-based, half-open.

        Raises:
            ArgumentError: there is no such contig, or the region does not lie within it.
            InputError: the file has changed, is damaged, or holds something else than nucleotides there.
        """
        try:
            return self._core.fetch(name, start, end)
        except (OSError, ValueError) as error:
            raise _explained(error, self.path) from error

    def fetch_many(self, regions: Iterable[Sequence[object]], *, threads: int = 0) -> list[str]:
        """Return the letters of many regions.

        Args:
            regions: tuples that begin with (contig, start, end), 0-based, half-open.
            threads: 0 for as many as the work deserves.

        Returns:
            One string a region, in their order.

        Raises:
            ArgumentError, InputError: see `fetch`.
        """
        try:
            return self._core.fetch_many(regions, check_threads(threads))
        except (OSError, ValueError) as error:
            raise _explained(error, self.path) from error

    def fetch_packed(
        self,
        contigs: ArrayLike,
        starts: ArrayLike,
        ends: ArrayLike,
        *,
        threads: int = 0,
        out: NDArray[np.uint8] | None = None,
    ) -> PackedLetters:
        """Return the letters of many regions without an object for each.

        Args:
            contigs: (n,) indexes in `names`, or one for all.
            starts, ends: (n,) 0-based, half-open.
            threads: 0 for as many as the work deserves.
            out: a one-dimensional buffer for the letters; they are its beginning then. What it holds after an
                error is undefined.

        Raises:
            ArgumentError, InputError: see `fetch`; `out` is too small or of another kind.
        """
        arrays = [np.atleast_1d(_integers(part)) for part in (contigs, starts, ends)]
        places, firsts, lasts = np.broadcast_arrays(*arrays)
        try:
            letters, offsets = self._core.fetch_packed(places, firsts, lasts, check_threads(threads), out)
        except (OSError, ValueError) as error:
            raise _explained(error, self.path) from error
        return PackedLetters(letters[: offsets[-1]], offsets)

    def _open(self) -> _core.Genome:
        with self.path.open("rb") as file:
            head = file.read(18)
        name = os.fsencode(self.path)
        if head[:4] in _TWO_BIT_MAGIC:
            two_bit = _core.Genome.open_two_bit(name, self._soft_masked)
            return two_bit.loaded() if self._in_memory else two_bit
        if self._in_memory:
            return self._load_fasta(head)
        if head.startswith(_GZIP_MAGIC) and not is_bgzf(head):
            raise InputError(
                f"{self.path} is gzip, which can be read only from its start: pass in_memory=True, "
                "or compress it with bgzip"
            )
        source = BgzfFile(self.path) if is_bgzf(head) else name
        return _core.Genome.open_fasta(source, *_find_index(self.path), self._soft_masked)

    def _load_fasta(self, head: bytes) -> _core.Genome:
        if head.startswith(b">"):
            return _core.Genome.load_fasta(os.fsencode(self.path), self._soft_masked)
        parser = _core.SequenceParser("fasta")
        with ByteStream(self.path) as stream:
            for chunk in stream:
                parser.feed(chunk)
        parser.finish()
        return _core.Genome.from_parser(parser, self._soft_masked)


def open_genome(path: PathLike) -> Genome:
    """A genome for random access; one in gzip, which allows none, is read into memory. Raises as Genome."""
    head = b""
    # What cannot be read is for Genome to explain.
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(18)
    return Genome(path, in_memory=head.startswith(_GZIP_MAGIC) and not is_bgzf(head))


def build_index(path: PathLike) -> Path:
    """Make the index of a plain or bgzip FASTA file anew, beside it.

    Returns:
        The index: the path with `.fgi` behind it.

    Raises:
        InputError: the file cannot be read, or its lines are such that no index describes it.
        ArgumentError: the index cannot be written.
    """
    fasta = Path(path)
    try:
        index, state = _scan(fasta)
    except (OSError, ValueError) as error:
        raise _explained(error, fasta) from error
    target = _index_path(fasta, ".fgi")
    write_index(target, index, state)
    return target


def _find_index(fasta: Path) -> FastaIndex:
    """Return the index that stands beside a file, or make one and keep it if the folder allows."""
    ours, fai = _index_path(fasta, ".fgi"), _index_path(fasta, ".fai")
    if ours.exists():
        return read_index(ours, fasta)
    if fai.exists():
        return read_fai(fai, fasta)
    index, state = _scan(fasta)
    # In a read-only folder or on a full disk the index serves all the same.
    with suppress(ArgumentError, OSError):
        write_index(ours, index, state)
    return index


def _scan(fasta: Path) -> tuple[FastaIndex, FileState]:
    """Read a whole file for its index; the state is that of the file before and after."""
    before = file_state(fasta)
    scanner = _core.FastaScanner()
    with ByteStream(fasta) as stream:
        for chunk in stream:
            scanner.feed(chunk)
    index = FastaIndex(*scanner.finish())
    if file_state(fasta) != before:
        raise InputError(f"{fasta} changed while it was read")
    return index, before


def _index_path(fasta: Path, ending: str) -> Path:
    return fasta.with_name(fasta.name + ending)


def _integers(values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise ArgumentError(f"contigs, starts and ends are integers, not {array.dtype}")
    return array.astype(np.int64)


def _explained(error: Exception, path: Path) -> Exception:
    """The error of this package for one of the core or the system."""
    if isinstance(error, (InputError, ArgumentError)):
        return error
    if isinstance(error, _core.BadRegion):
        return ArgumentError(f"{path}: {error}")
    if isinstance(error, _core.TruncatedInput):
        return TruncatedInputError(f"{path}: {error}")
    if isinstance(error, _core.MalformedInput):
        return InputError(f"{path}: {error}")
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is no file {str(path)!r}")
    if isinstance(error, OSError):
        return InputError(f"cannot read {str(path)!r}: {error.strerror or error}")
    return error


def _reopen(path: Path, in_memory: bool, soft_masked: bool) -> Genome:
    return Genome(path, in_memory=in_memory, soft_masked=soft_masked)
