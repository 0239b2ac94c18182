"""Work that tells what it computes, and processes that kill themselves; loaded in every worker process."""

import functools
import itertools
import os
import signal
import time
from collections.abc import Callable
from multiprocessing import parent_process
from typing import Any

# Whatever changes the disk, and opening a file to be made.
STEPS = ("open", "mkdir", "fsync", "replace", "link", "unlink", "rmdir")
LOG, STEP_OF_WORKER, PAUSE = "KILLS_LOG", "KILLS_STEP_OF_WORKER", "KILLS_PAUSE"
_open, _write = os.open, os.write


class Logged:
    """Work whose shards stand in the log when they are begun and when they are computed."""

    def __init__(self, work: Any) -> None:
        self._work = work
        self.n_shards, self.device = work.n_shards, work.device
        self.settings, self.amount = work.settings, work.amount

    def open(self) -> Callable[[int], Any]:
        compute, step = self._work.open(), os.environ.get(STEP_OF_WORKER)
        if step and parent_process() is not None:
            die_at(int(step))

        def logged(shard: int) -> Any:
            note("begun", shard)
            time.sleep(float(os.environ[PAUSE]))
            result = compute(shard)
            note("computed", shard)
            return result

        return logged


def note(what: str, number: int) -> None:
    # One call, to the end of the file: lines of several processes do not mix.
    _write(_log(), f"{what} {number}\n".encode())


@functools.cache
def _log() -> int:
    return _open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)


def die_at(step: int | None) -> Callable[[], int]:
    """Kill this process before a step; what is returned tells how many there were."""
    counter, taken = itertools.count(1), [0]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            taken[0] = next(counter)
            if taken[0] == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    return lambda: taken[0]
