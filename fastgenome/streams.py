"""Bytes of a file, standard input or open file, gunzipped where they are gzip."""

import io
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO, TypeAlias, runtime_checkable

from fastgenome.errors import InputError, TruncatedInputError

PathLike: TypeAlias = str | os.PathLike[str]

# Large enough that Python's cost per chunk vanishes, small enough that many gzip members in one chunk (BGZF
# has one per 64 kB) do not make the copies of the undecoded rest costly.
_READ_BYTES = 1 << 18
# A chunk of gzip may hold a thousand times its size: hand it out in pieces.
_INFLATED_BYTES = 1 << 22
_HEAD_BYTES = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"
_FOREIGN_MAGIC = {
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
    b"\x28\xb5\x2f\xfd": "zstandard-compressed",
    b"PK\x03\x04": "a zip archive",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


@runtime_checkable
class ReadableBytes(Protocol):
    """An open binary file."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        ...


class FastaParser(Protocol):
    """What bytes are given to, or reads them itself."""

    def feed(self, data: bytes, /) -> None:
        """Take a piece."""
        ...

    def feed_from(self, descriptor: int, size: int, /) -> int:
        """Read a piece of at most `size` bytes; return its size, 0 at the end."""
        ...


class ByteStream:
    """The decompressed bytes of a source, in chunks; gzip is known by its first bytes, all members are read.

    Use it as a context manager; a file that the caller opened, and standard input, stay open.

    Attributes:
        name: what error messages call the source.
        bytes_read, bytes_total: bytes taken from the source as it is stored; the total is None where unknown.
        compressed: whether the source is gzip.
        head: the first decompressed bytes, at least 64 KiB unless the source is shorter; not consumed.

    Raises:
        InputError: the source cannot be opened, or is compressed or encoded in a way that is not read.
        TruncatedInputError: gzip data end too early (raised while iterating).
    """

    def __init__(self, source: PathLike | ReadableBytes) -> None:
        self.bytes_read = 0
        self.bytes_total: int | None = None
        self.path: Path | None = None
        self._owned: BinaryIO | None = None
        self._file: ReadableBytes
        if isinstance(source, ReadableBytes):
            self.name = str(getattr(source, "name", "the open file"))
            self._file = source
        elif source == "-":
            self.name = "standard input"
            self._file = sys.stdin.buffer
        else:
            self.path = Path(source)
            self.name = str(source)
            self._file = self._owned = _open(self.path)
            self.bytes_total = os.fstat(self._owned.fileno()).st_size
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        """Look at the first bytes and decide how the rest is read."""
        first = self._read()
        while 0 < len(first) < 18 and (more := self._read()):  # 18 bytes: the header of a BGZF member
            first += more
        self.compressed = first.startswith(_GZIP_MAGIC)
        self._chunks = self._inflated(first) if self.compressed else self._plain(first)
        pending: list[bytes] = []
        size = 0
        while size < _HEAD_BYTES and (chunk := next(self._chunks, b"")):
            pending.append(chunk)
            size += len(chunk)
        self._pending = iter(pending)
        self.head = b"".join(pending)[:_HEAD_BYTES]
        for magic, what in _FOREIGN_MAGIC.items():
            if self.head.startswith(magic):
                raise InputError(f"{self.name} is {what}; only plain and gzip-compressed text is read")

    def __enter__(self) -> "ByteStream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pending
        yield from self._chunks

    def feed(self, parser: "FastaParser") -> Iterator[None]:
        """Give all bytes to a parser, and the turn to the caller after each piece.

        A plain file is read by the parser itself, which spares a copy of every byte.
        """
        for chunk in self._pending:
            parser.feed(chunk)
            yield
        if self._owned is not None and not self.compressed:
            while size := self._feed_piece(parser, self._owned.fileno()):
                self.bytes_read += size
                yield
        for chunk in self._chunks:
            parser.feed(chunk)
            yield

    def _feed_piece(self, parser: "FastaParser", descriptor: int) -> int:
        try:
            return parser.feed_from(descriptor, _READ_BYTES)
        except OSError as error:
            raise InputError(f"cannot read {self.name}: {error.strerror or error}") from error

    def text(self) -> TextIO:
        """Return the stream as UTF-8 text without its byte order mark; line ends are kept.

        Bytes that are not UTF-8 become \\xNN, so that no record is lost over a name.
        """
        return io.TextIOWrapper(self.binary(), encoding="utf-8-sig", errors="backslashreplace", newline="")

    def binary(self) -> io.BufferedReader:
        """Return the stream as a binary file to read."""
        return io.BufferedReader(_ChunkFile(iter(self)), _READ_BYTES)

    def close(self) -> None:
        """Close the file if this stream opened it."""
        if self._owned is not None:
            self._owned.close()

    def _read(self) -> bytes:
        """Read stored bytes and count them."""
        try:
            data = self._file.read(_READ_BYTES)
        except OSError as error:
            raise InputError(f"cannot read {self.name}: {error.strerror or error}") from error
        if isinstance(data, str):
            raise InputError(f"{self.name} is open as text; open it in binary mode ('rb')")
        self.bytes_read += len(data)
        return data

    def _plain(self, data: bytes) -> Iterator[bytes]:
        while data:
            yield data
            data = self._read()

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        """Decompress every gzip member; zlib checks their sums."""
        blocked = data[12:14] == b"BC" and data[3] & 4 != 0
        while True:
            member = zlib.decompressobj(wbits=31)
            member_bytes = 0
            while not member.eof:
                try:
                    piece = member.decompress(data, _INFLATED_BYTES)
                except zlib.error as error:
                    raise InputError(f"{self.name} holds damaged gzip data: {error}") from error
                member_bytes += len(piece)
                if piece:
                    yield piece
                data = member.unconsumed_tail
                if not piece and not data and not member.eof:
                    data = self._read()
                    if not data:
                        raise TruncatedInputError(f"{self.name} is cut short: its gzip data end too early")
            data = self._next_member(member.unused_data)
            if not data:
                break
        # Each block of BGZF is a whole gzip member, so only its empty last block tells the end of the file.
        if blocked and member_bytes:
            raise TruncatedInputError(
                f"{self.name} is cut short: the last block of BGZF is missing; "
                "if nothing else is, compress it again"
            )

    def _next_member(self, data: bytes) -> bytes:
        """Return the bytes from the next gzip member on, or none at the end; zero padding is skipped."""
        data = data.lstrip(b"\0")
        while len(data) < len(_GZIP_MAGIC) and (more := self._read()):
            data = (data + more).lstrip(b"\0")
        if data == _GZIP_MAGIC[:1]:
            raise TruncatedInputError(f"{self.name} is cut short: a gzip member ends in its first byte")
        if data and not data.startswith(_GZIP_MAGIC):
            raise InputError(f"{self.name} has bytes after its gzip data that are not gzip; is it damaged?")
        return data


class _ChunkFile(io.RawIOBase):
    """Chunks of bytes as a readable file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview", /) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _open(path: Path) -> BinaryIO:
    """Open a file to read; every failure names the path and, where it can, the way out."""
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        name = str(path)
        if set(name.upper()) <= set("ACGTUN"):
            shown = name if len(name) <= 40 else name[:40] + "…"
            message = f"there is no file {shown!r}; give a single sequence as a list: [sequence]"
        elif isinstance(error, FileNotFoundError):
            message = f"there is no file {name!r}"
        elif isinstance(error, IsADirectoryError):
            message = f"{name!r} is a directory; give a file of sequences"
        else:
            message = f"cannot open {name!r}: {error.strerror}"
        raise InputError(message) from error
