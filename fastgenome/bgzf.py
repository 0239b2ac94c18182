"""Blocked gzip (BGZF), read at any place and written: each block is a whole gzip member of up to 64 KiB."""

import bisect
import io
import os
import zlib
from functools import lru_cache
from typing import IO

from fastgenome.errors import InputError, TruncatedInputError

_HEADER_BYTES = 18
_EMPTY_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
# Of 64 KiB each; windows that follow one another lie in the same block.
_KEPT_BLOCKS = 256
# Less than 64 KiB, so that bytes that cannot be compressed fit into a block too.
_BLOCK_BYTES = 0xFF00


def is_bgzf(head: bytes) -> bool:
    """Tell by its first 18 bytes whether a file is BGZF."""
    return head[:4] == b"\x1f\x8b\x08\x04" and head[12:16] == b"BC\x02\x00"


class BgzfFile:
    """The decompressed bytes of a BGZF file; threads and children made by fork may share it.

    The headers of all blocks are read at the opening (about 4 ms per 100 MB), so that neither an index of
    blocks is needed nor a file without its end goes unseen. zlib checks the sum of each block that is read.

    Attributes:
        size: decompressed bytes.

    Raises:
        InputError: the file cannot be opened or is not BGZF; while reading: it is damaged or has changed.
        TruncatedInputError: it does not end with the empty block that marks the end.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = str(path)
        try:
            self._file = io.FileIO(os.fspath(path))
        except OSError as error:
            raise InputError(f"cannot open {self._path!r}: {error.strerror}") from error
        self._state = self._stat()
        self._offsets, self._starts = self._walk()
        self.size = self._starts[-1]
        self._block = lru_cache(_KEPT_BLOCKS)(self._read_block)

    def read(self, offset: int, size: int) -> bytes:
        """Return decompressed bytes from `offset` on; fewer than `size` only at the end."""
        if self._stat() != self._state:
            raise InputError(f"{self._path} has changed since it was opened; open it again")
        parts = []
        end = min(offset + size, self.size)
        while offset < end:
            index = bisect.bisect_right(self._starts, offset) - 1
            first = self._starts[index]
            part = self._block(index)[offset - first : end - first]
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _stat(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _walk(self) -> tuple[list[int], list[int]]:
        """Return where each block begins in the file and in the decompressed bytes, and both ends."""
        descriptor = self._file.fileno()
        size = self._state[0]
        offsets, starts = [0], [0]
        header = os.pread(descriptor, _HEADER_BYTES, 0)
        while offsets[-1] < size:
            if len(header) < _HEADER_BYTES:
                raise self._cut_short()
            if not is_bgzf(header):
                raise InputError(
                    f"{self._path} is not BGZF at byte {offsets[-1]}; compress it with bgzip, not gzip"
                )
            offset = offsets[-1] + int.from_bytes(header[16:18], "little") + 1
            if not offsets[-1] + _HEADER_BYTES + 4 <= offset <= size:
                raise self._cut_short()
            # The last four bytes of a block, its decompressed size, and the header behind it.
            tail = os.pread(descriptor, 4 + _HEADER_BYTES, offset - 4)
            if len(tail) < 4:
                raise self._cut_short()
            offsets.append(offset)
            starts.append(starts[-1] + int.from_bytes(tail[:4], "little"))
            header = tail[4:]
        if os.pread(descriptor, len(_EMPTY_BLOCK), max(0, size - len(_EMPTY_BLOCK))) != _EMPTY_BLOCK:
            raise self._cut_short()
        return offsets, starts

    def _cut_short(self) -> TruncatedInputError:
        return TruncatedInputError(
            f"{self._path} is cut short: the last block of BGZF is missing; "
            "if nothing else is, compress it again"
        )

    def _read_block(self, index: int) -> bytes:
        offset, end = self._offsets[index : index + 2]
        stored = os.pread(self._file.fileno(), end - offset, offset)
        try:
            block = zlib.decompress(stored, wbits=31)
        except zlib.error as error:
            raise InputError(f"{self._path} holds a damaged block at byte {offset}: {error}") from error
        if len(block) != self._starts[index + 1] - self._starts[index]:
            raise InputError(f"{self._path} holds a damaged block at byte {offset}: its size is another")
        return block


class BgzfWriter:
    """Bytes written as BGZF to an open file, which stays open; the same bytes give the same file.

    Args:
        file: what the blocks go to.
        level: of compression, 0 to 9.
    """

    def __init__(self, file: IO[bytes], *, level: int = 6) -> None:
        self._file = file
        self._level = level
        self._pending = bytearray()

    def write(self, data: bytes) -> None:
        """Append bytes; they reach the file in whole blocks."""
        self._pending += data
        if len(self._pending) >= _BLOCK_BYTES:
            whole = len(self._pending) // _BLOCK_BYTES * _BLOCK_BYTES
            for first in range(0, whole, _BLOCK_BYTES):
                self._write_block(self._pending[first : first + _BLOCK_BYTES])
            del self._pending[:whole]

    def close(self) -> None:
        """Write what is left and the empty block that marks the end."""
        if self._pending:
            self._write_block(self._pending)
            self._pending.clear()
        self._file.write(_EMPTY_BLOCK)

    def _write_block(self, data: bytearray) -> None:
        deflate = zlib.compressobj(self._level, wbits=-15)
        body = deflate.compress(data) + deflate.flush()
        size = _HEADER_BYTES + len(body) + 8
        self._file.write(_EMPTY_BLOCK[:16] + (size - 1).to_bytes(2, "little") + body)
        self._file.write(zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little"))
