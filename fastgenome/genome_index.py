"""Indexes of FASTA files: ours, bound to the file's content, and the .fai of samtools.

Ours (`genome.fa.fgi`) is text: the state of the file it was made from, a line per contig, and a digest of all
that. The state is the size, the time of the last change and a digest of 1 MiB of the content: sixteen pieces
of 64 KiB from the first to the last byte. Hashing a whole genome would take longer than the work an index
saves; a change that keeps size and time and falls between the pieces is still caught where it moves a line,
because opening checks every header and reading every line end.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgenome.atomic import atomic_file
from fastgenome.errors import InputError, TruncatedInputError

_TITLE = b"fastgenome index 1"
_SAMPLES = 16
_SAMPLE_BYTES = 1 << 16


class FastaIndex(NamedTuple):
    """Where the letters of each contig stand.

    Attributes:
        names: of the contigs, in the order of the file.
        numbers: (n, 4) int64: bases, offset of the first in bytes, bases and bytes of a full line.
    """

    names: list[bytes]
    numbers: NDArray[np.int64]


class FileState(NamedTuple):
    """What an index is bound to: size in bytes, time of the last change in ns, digest of samples."""

    size: int
    modified: int
    digest: str


def file_state(path: Path) -> FileState:
    """Return the state of a file."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.blake2b(digest_size=16)
        last = max(0, status.st_size - _SAMPLE_BYTES)
        for sample in range(_SAMPLES):
            digest.update(os.pread(file.fileno(), _SAMPLE_BYTES, last * sample // (_SAMPLES - 1)))
    return FileState(status.st_size, status.st_mtime_ns, digest.hexdigest())


def write_index(target: Path, index: FastaIndex, state: FileState) -> None:
    """Write our index; it appears under its name when it is complete."""
    lines = [_TITLE, *(str(value).encode() for value in state), str(len(index.names)).encode()]
    for name, row in zip(index.names, index.numbers.tolist(), strict=True):
        lines.append(b"\t".join([name, *(str(number).encode() for number in row)]))
    content = b"\n".join(lines) + b"\n"
    with atomic_file(target) as file:
        file.write(content + _digest(content) + b"\n")


def read_index(source: Path, fasta: Path) -> FastaIndex:
    """Read our index of a FASTA file.

    Raises:
        InputError: the index is damaged or cut short, or the file is not the one it was made from.
    """
    content = source.read_bytes()
    body, end = content[:-33], content[-33:]
    lines = body.split(b"\n")
    if end != _digest(body) + b"\n" or lines[0] != _TITLE:
        raise InputError(f"{source} is damaged, cut short or of another version; {_mend(fasta)}")
    _check_state(source, fasta, lines[1:4])
    # The digest vouches for the form of what follows.
    fields = [line.rsplit(b"\t", 4) for line in lines[5:-1]]
    return _to_index(fields)


def read_fai(source: Path, fasta: Path) -> FastaIndex:
    """Read an index made by samtools, pysam or pyfaidx.

    Raises:
        InputError: it is older than the file or damaged; whether it fits is seen when the file is opened.
        TruncatedInputError: it does not end with a newline.
    """
    if source.stat().st_mtime_ns < fasta.stat().st_mtime_ns:
        raise InputError(f"{source} is older than {fasta}; {_mend(fasta)}")
    content = source.read_bytes()
    if not content.endswith(b"\n"):
        raise TruncatedInputError(f"{source} is cut short: it does not end with a newline; {_mend(fasta)}")
    fields = [line.split(b"\t") for line in content[:-1].split(b"\n")]
    for number, row in enumerate(fields, 1):
        # 18 digits fit into 64 bits.
        if len(row) != 5 or not all(field.isdigit() and len(field) <= 18 for field in row[1:]):
            raise InputError(f"{source}, line {number}: not a name and four numbers; {_mend(fasta)}")
    return _to_index(fields)


def _to_index(fields: list[list[bytes]]) -> FastaIndex:
    """Rows of a name and four numbers, in the order of the file."""
    numbers = np.array([[int(field) for field in row[1:]] for row in fields], np.int64).reshape(-1, 4)
    order = np.argsort(numbers[:, 1], kind="stable")
    return FastaIndex([fields[row][0] for row in order], numbers[order])


def _check_state(source: Path, fasta: Path, written: list[bytes]) -> None:
    """Refuse an index of another state of the file."""
    state = file_state(fasta)
    for what, then, now in zip(("size", "time of the last change", "content"), written, state, strict=True):
        if then != str(now).encode():
            raise InputError(
                f"{source} is stale: the {what} of {fasta} is not what it was when the index was made "
                f"({then.decode()}, now {now}); {_mend(fasta)}"
            )


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).hexdigest().encode()


def _mend(fasta: Path) -> str:
    return f"make it anew: fastgenome.genome.build_index({str(fasta)!r})"
