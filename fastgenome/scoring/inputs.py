"""Files that a job reads: what they hold, and whether they stay as they are."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from fastgenome.errors import InputError


@dataclass(frozen=True)
class InputFile:
    """A file as it was when a job began.

    Attributes:
        path: the file.
        sha256: of its content.
        state: what changes with it: device, inode, size in bytes, time of the last change in ns.
    """

    path: Path
    sha256: str
    state: tuple[int, ...]

    @classmethod
    def of(cls, path: str | Path) -> InputFile:
        """Read a file."""
        state = _state(Path(path))
        return cls(Path(path).absolute(), file_sha256(Path(path)), state)

    def check_unchanged(self) -> None:
        """InputError where the file holds something else by now: parts of the job may have read that."""
        try:
            changed = _state(self.path) != self.state and file_sha256(self.path) != self.sha256
        except OSError:
            changed = True
        if changed:
            raise InputError(f"{self.path} was changed while the job ran; run it again")


def file_sha256(path: Path) -> str:
    """Digest of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(path: Path) -> tuple[int, ...]:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
