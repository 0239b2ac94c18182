"""Files that appear under their name only when they are complete."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fastgenome.errors import ArgumentError


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a hidden file in the folder of `path` that takes its name when the block ends well.

    The content is synced to disk before the renaming and the folder after it, so that neither an exception
    nor a loss of power leaves a part of a file at `path`. When an exception leaves the block, the hidden file
    is removed and what stood at `path` is untouched. A link at `path` stays; what it points to is replaced.

    Yields:
        The open file; it can seek.

    Raises:
        ArgumentError: `path` is something else than a file, or its folder is missing or cannot be written to.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ArgumentError(f"cannot write to {str(path)!r}: it exists and is not a regular file")
    hidden = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        # Not tempfile: its files cannot be read by others, whatever the umask.
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise ArgumentError(f"cannot write to {str(path)!r}: {error.strerror} ({target.parent})") from error
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(hidden, target)
    except BaseException:
        with suppress(OSError):
            hidden.unlink()
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make a renaming in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
