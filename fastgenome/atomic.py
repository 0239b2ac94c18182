"""Files and folders that appear under their name only when they are complete."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fastgenome.errors import ArgumentError


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, replace: bool = True) -> Iterator[Path]:
    """Make a hidden, empty file in the folder of `path` that takes its name when the block ends well.

    For what opens files by name; it must have closed the file when the block ends. The content is synced to
    disk before the renaming and the folder after it, so that neither an exception nor a loss of power leaves
    a part of a file at `path`. When an exception leaves the block, the hidden file is removed and what stood
    at `path` is untouched. A link at `path` stays; what it points to is replaced.

    Args:
        path: where the file is to stand.
        replace: whether it takes the place of another.

    Yields:
        The hidden file's path.

    Raises:
        FileExistsError: a file stands at `path` when the block has ended, and is not to be replaced.
        ArgumentError: `path` is something else than a file, or its folder is missing or cannot be written to.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ArgumentError(f"cannot write to {str(path)!r}: it exists and is not a regular file")
    hidden = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        # Not tempfile: its files cannot be read by others, whatever the umask.
        os.close(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except OSError as error:
        raise ArgumentError(f"cannot write to {str(path)!r}: {error.strerror} ({target.parent})") from error
    try:
        yield hidden
        with hidden.open("rb") as file:
            os.fsync(file.fileno())
        if replace:
            os.replace(hidden, target)
        else:
            _take_free_name(hidden, target)
    except BaseException:
        with suppress(OSError):
            hidden.unlink()
        raise
    sync_folder(target.parent)


def _take_free_name(hidden: Path, target: Path) -> None:
    """Rename a file; FileExistsError, whoever came first, where one stands there already."""
    try:
        os.link(hidden, target)
    except OSError:
        # Some file systems have no links.
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.replace(hidden, target)
    else:
        hidden.unlink()


@contextmanager
def atomic_file(path: str | os.PathLike[str], *, replace: bool = True) -> Iterator[BinaryIO]:
    """Open a hidden file that takes the name `path` when the block ends well; see `atomic_path`.

    Yields:
        The open file; it can seek.
    """
    with atomic_path(path, replace=replace) as hidden, hidden.open("wb") as file:
        yield file


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, marker: str) -> Iterator[Path]:
    """Make a hidden folder beside `path` that takes its name when the block ends well.

    Files are synced before the renaming and the parent folder after it. A folder that already stands at
    `path` is moved aside, hidden, and removed only when the new one is in place: whatever the moment of a
    failure, the old folder or the new one is whole. When an exception leaves the block, nothing of it remains
    and what stood at `path` is untouched. A link at `path` stays; what it points to is replaced.

    Args:
        path: the folder to make or to replace; missing parents are made.
        marker: a file by which a folder that may be replaced is known; an empty folder always may.

    Yields:
        The hidden folder, empty.

    Raises:
        ArgumentError: see `check_output_folder`.
    """
    target = check_output_folder(path, marker=marker)
    suffix = secrets.token_hex(4)
    hidden = target.with_name(f".{target.name}.{suffix}.partial")
    aside = target.with_name(f".{target.name}.{suffix}.old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden.mkdir()
    except OSError as error:
        raise ArgumentError(f"cannot write to {str(path)!r}: {error.strerror} ({target.parent})") from error
    try:
        yield hidden
        _sync_tree(hidden)
        _put_in_place(hidden, target, aside)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    sync_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def check_output_file(path: Path) -> None:
    """Check, before any work, that a file can be made or replaced.

    Raises:
        ArgumentError: its folder is missing or writing there is not allowed, or something else than a file
            stands at `path`.
    """
    check_output_folder(path.parent)
    if not path.parent.is_dir():
        raise ArgumentError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}")
    if path.exists() and not path.is_file():
        raise ArgumentError(f"cannot write {str(path)!r}: it exists and is not a regular file")


def check_output_folder(path: str | os.PathLike[str], *, marker: str | None = None) -> Path:
    """Check, before any work, that a folder can be made at `path` or written to; nothing is made yet.

    Args:
        path: where the folder stands or shall stand.
        marker: with it the folder is one to be replaced as a whole, see `atomic_folder`: one that exists must
            be empty or hold a file of this name, and its parent must allow writing.

    Returns:
        The path without links.

    Raises:
        ArgumentError: `path` or one of its parents is a file, writing is not allowed, or the folder holds
            something else.
    """
    target = Path(os.path.realpath(path))
    nearest = target if marker is None else target.parent
    while not nearest.exists():
        nearest = nearest.parent
    for folder in (target, nearest):
        if folder.exists() and not folder.is_dir():
            raise ArgumentError(f"cannot write the folder {str(path)!r}: {folder} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ArgumentError(f"cannot write the folder {str(path)!r}: no permission to write in {nearest}")
    if marker is not None and target.exists() and not _may_be_replaced(target, marker):
        raise ArgumentError(
            f"{str(path)!r} exists, is not empty and holds no {marker}; choose another folder"
        )
    return target


def _may_be_replaced(folder: Path, marker: str) -> bool:
    try:
        return (folder / marker).is_file() or not any(folder.iterdir())
    except OSError:
        return False


def _put_in_place(hidden: Path, target: Path, aside: Path) -> None:
    """Rename `hidden` to `target`; what stands there goes to `aside`, and back if the renaming fails."""
    if not target.exists():
        os.replace(hidden, target)
        return
    os.replace(target, aside)
    try:
        os.replace(hidden, target)
    except BaseException:
        os.replace(aside, target)
        raise


def _sync_tree(folder: Path) -> None:
    """Make the files and folders inside a folder durable."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            with open(os.path.join(place, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(place))


def sync_folder(folder: Path) -> None:
    """Make a renaming in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unfinished(path: Path, why: object = "") -> OSError:
    """The error for a file whose writer failed, with what that writer said of it."""
    said = f" ({why})" if str(why) else ""
    return OSError(f"{path} could not be written to its end{said}; is the disk full?")
