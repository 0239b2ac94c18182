"""Freed memory is kept while asked for, and only then."""

import subprocess
import sys
import threading

import pytest

from fastgenome import memory
from fastgenome.memory import freed_memory_kept

needs_glibc = pytest.mark.skipif(memory._glibc() is None, reason="no glibc here")

# Pages faulted in by taking and freeing blocks of 160 MiB after a first one, and MiB still held in the end.
FAULTS = """
import resource, numpy as np
from contextlib import nullcontext
from fastgenome.memory import freed_memory_kept

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.ones(20 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

start = held()
for kept in (freed_memory_kept, nullcontext):
    with kept():
        faults(2)
        print(faults(10))
    print(held() - start)
"""


@needs_glibc
def test_freed_memory_is_used_again_inside_and_given_back_afterwards() -> None:
    out = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    inside, held, outside, _ = map(int, out.split())
    assert inside < outside / 20, (inside, outside)
    assert held < 20


@needs_glibc
def test_options_are_set_by_the_first_user_and_reset_by_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[int, int]] = []
    monkeypatch.setattr(memory, "_set", lambda library, options: calls.append(options))
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with freed_memory_kept():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with freed_memory_kept():
        thread.start()
        entered.wait(10)
    assert calls == [memory._KEEPING]
    leave.set()
    thread.join()
    assert calls == [memory._KEEPING, memory._USUAL]


@needs_glibc
def test_options_are_reset_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[int, int]] = []
    monkeypatch.setattr(memory, "_set", lambda library, options: calls.append(options))
    with pytest.raises(KeyError), freed_memory_kept():
        raise KeyError
    assert calls == [memory._KEEPING, memory._USUAL]


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    monkeypatch.setattr(memory, "_set", lambda *_: pytest.fail("mallopt was called"))
    with freed_memory_kept():
        pass
