"""Numbers added to the INFO of BCF records; every other byte of a record stays.

Layout: The Variant Call Format Specification, VCFv4.3 and BCFv2.2, section 6 (samtools/hts-specs).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from fastgenome.errors import TruncatedInputError

_MAGIC_BYTES = 5
# Bytes of the shared part before the id: contig, position, length, quality, counts.
_FIXED = struct.Struct("<iiifHHI")
_INT8, _INT16, _INT32, _FLOAT = 1, 2, 3, 5
_MISSING_FLOAT = bytes.fromhex("0100807f")


class BcfRecord(NamedTuple):
    """A record as it is stored; `position` is 0-based, `contig` a number of the header."""

    contig: int
    position: int
    shared: bytes
    individual: bytes

    def with_numbers(self, numbers: Sequence[tuple[int, Sequence[float | None]]]) -> bytes:
        """The bytes of the record with further INFO, each the header's number of a field and its values."""
        contig, position, length, quality, n_info, n_allele, rest = _FIXED.unpack_from(self.shared)
        fixed = _FIXED.pack(contig, position, length, quality, n_info + len(numbers), n_allele, rest)
        # The quality may be a missing value, whose bits a number does not keep.
        fixed = fixed[:12] + self.shared[12:16] + fixed[16:]
        added = b"".join(_integer(field) + _floats(values) for field, values in numbers)
        shared = fixed + self.shared[_FIXED.size :] + added
        return struct.pack("<II", len(shared), len(self.individual)) + shared + self.individual


def read_bcf(file: BinaryIO, name: str) -> tuple[bytes, bytes, Iterator[BcfRecord]]:
    """The first bytes, the text of the header and the records of BCF, from its decompressed bytes.

    Raises:
        TruncatedInputError: it ends within the header, or while iterating, within a record.
    """
    magic = file.read(_MAGIC_BYTES)
    (size,) = struct.unpack("<I", _exactly(file, 4, name))
    text = _exactly(file, size, name).rstrip(b"\0")
    return magic, text, _records(file, name)


def bcf_header(magic: bytes, text: bytes) -> bytes:
    """The bytes before the records."""
    return magic + struct.pack("<I", len(text) + 1) + text + b"\0"


def _records(file: BinaryIO, name: str) -> Iterator[BcfRecord]:
    while sizes := file.read(8):
        shared_size, individual_size = struct.unpack("<II", sizes + _exactly(file, 8 - len(sizes), name))
        shared = _exactly(file, shared_size, name)
        contig, position = struct.unpack_from("<ii", shared)
        yield BcfRecord(contig, position, shared, _exactly(file, individual_size, name))


def _exactly(file: BinaryIO, size: int, name: str) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise TruncatedInputError(f"{name} is cut short: it ends within a record")
    return content


def _integer(value: int) -> bytes:
    """A typed integer, 0 or more."""
    for kind, letter, bits in ((_INT8, "b", 7), (_INT16, "h", 15)):
        if value < 1 << bits:
            return struct.pack(f"<B{letter}", 0x10 | kind, value)
    return struct.pack("<Bi", 0x10 | _INT32, value)


def _floats(values: Sequence[float | None]) -> bytes:
    """A typed vector of numbers, None for a missing one."""
    size = bytes([len(values) << 4 | _FLOAT]) if len(values) < 15 else b"\xf5" + _integer(len(values))
    return size + b"".join(_MISSING_FLOAT if value is None else struct.pack("<f", value) for value in values)
