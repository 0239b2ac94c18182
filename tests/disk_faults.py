"""Disks that are full, folders that cannot be written to, and writes that fail, for processes of tests."""

import ctypes
import os
import signal
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "disk" / "failing_writes.cpp"
# What a process ends with where this machine does not let it have a disk of its own.
NOT_ALLOWED = 77
_NEW_MOUNTS, _NEW_USER, _PRIVATE_TREE = 0x20000, 0x10000000, 0x40000 | 0x4000
_CAPABILITIES_3 = 0x20080522


def own_disk(folder: Path, size: int) -> None:
    """Put a disk of so many bytes at a folder, for this process alone; it ends if that is not allowed."""
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare(_NEW_MOUNTS):
        if libc.unshare(_NEW_USER | _NEW_MOUNTS):
            os._exit(NOT_ALLOWED)
        for name, content in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(content)
    options = f"size={size}".encode()
    if libc.mount(b"none", b"/", None, _PRIVATE_TREE, None) or libc.mount(
        b"none", os.fsencode(folder), b"tmpfs", 0, options
    ):
        os._exit(NOT_ALLOWED)


def obey_permissions() -> None:
    """Give up the right of root to write where permissions forbid it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, nothing = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


def compiled(compiler: str, folder: Path) -> Path:
    """The library that lets writes fail, to be preloaded."""
    library = folder / "failing_writes.so"
    subprocess.run([compiler, "-std=c++20", "-shared", "-fPIC", str(SOURCE), "-o", str(library)], check=True)
    return library


def fail_write(number: int, folder: Path, log: Path, *, killed: bool) -> None:
    """Let a write of this process into a folder fail, where the library is loaded; 0 for none.

    With `killed` the process is killed before that write. The log gets the line "write 1" for each.
    """
    if killed:
        os.environ["FAILING_SIGNAL"] = str(int(signal.SIGKILL))
    os.environ |= {
        "FAILING_FOLDER": str(folder.resolve()),
        "FAILING_WRITE": str(number),
        "FAILING_LOG": str(log),
    }
