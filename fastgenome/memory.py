"""Freed memory stays at hand while a network runs.

A network frees and asks for the same large buffers in every layer. glibc gives each of them back to the
system and fetches it anew, and the system fills it with zeros page by page: up to a tenth of an embedding's
time.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_MIB = 1 << 20
# 32 MiB is the most that glibc accepts, and where its own rule ends up after large blocks were freed.
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 * _MIB, _TRIM_THRESHOLD: 64 * _MIB}
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}

_lock = threading.Lock()
_users = 0


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let malloc keep what is freed until the last user leaves, then give it back to the system.

    It holds for the whole process; nested and concurrent uses are counted. Without glibc nothing happens.
    """
    library = _glibc()
    if library is None:
        yield
        return
    _enter(library)
    try:
        yield
    finally:
        _leave(library)


def _enter(library: Any) -> None:
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _set(library, _KEEPING)


def _leave(library: Any) -> None:
    global _users
    with _lock:
        _users -= 1
        if not _users:
            _set(library, _USUAL)
            # Freeing a block of some size is what makes glibc look at how much it holds.
            library.free(library.malloc(1 << 17))


def _set(library: Any, options: dict[int, int]) -> None:
    for option, value in options.items():
        library.mallopt(option, value)


@cache
def _glibc() -> Any:
    """The C library where it is glibc, else None."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return None
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
    return library
