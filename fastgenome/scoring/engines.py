"""Who computes the shards of a job: this process, several local ones, or actors of Ray."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from types import ModuleType
from typing import Any

from fastgenome.errors import FastgenomeError, MissingExtraError
from fastgenome.progress import progress_bar
from fastgenome.scoring.jobs import JobFolder, RunOptions, Shard, Work


class WorkerError(FastgenomeError):
    """A process that computed shards ended without a word."""


def compute_shards(
    work: Work, job: JobFolder, shards: list[int], options: RunOptions, *, unit: str, done: Set[int]
) -> None:
    """Compute and store shards; `done` are those that an earlier run stored."""
    if not shards:
        return
    workers = min(len(shards), options.workers or _default_workers(work))
    before = sum(map(work.amount, done))
    total = before + sum(map(work.amount, shards))
    with progress_bar(f"scoring ({unit})", total, shown=options.progress, done=before) as advance:
        for shard in _engine(options.engine, workers)(work, job, shards, workers):
            advance(work.amount(shard))


def _engine(name: str, workers: int) -> Callable[[Work, JobFolder, list[int], int], Iterator[int]]:
    if name == "ray":
        return _with_ray
    return _here if workers == 1 else _in_processes


def _default_workers(work: Work) -> int:
    if getattr(work, "device", "cpu") != "cpu":
        return 1
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _here(work: Work, job: JobFolder, shards: list[int], workers: int) -> Iterator[int]:
    """Compute in this process; a shard is written while the next is computed."""
    with _one_thread(), ThreadPoolExecutor(1) as writer:
        compute = work.open()
        pending: tuple[int, Future[None]] | None = None
        for shard in shards:
            result = compute(shard)
            if pending is not None:
                pending[1].result()
                yield pending[0]
            pending = shard, writer.submit(job.store, shard, result)
        if pending is not None:
            pending[1].result()
            yield pending[0]


def _in_processes(work: Work, job: JobFolder, shards: list[int], workers: int) -> Iterator[int]:
    """Compute in processes of this machine, which end with this one; each has a copy of the work."""
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    # Bytes, since torch's own pickling for processes needs a file or a descriptor for each tensor.
    arguments = pickle.dumps(work), job
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=arguments)
    try:
        with _main_hidden():
            futures = [pool.submit(_compute, shard) for shard in shards]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process was killed or ran out of memory; run the job again to go on, "
            f"with fewer workers than {workers} where memory is short"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep new processes from running the caller's script again, which they need nothing of."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


_own: tuple[Callable[[int], Shard], JobFolder] | None = None


def _begin(work: bytes, job: JobFolder) -> None:
    """Make a worker process ready; it ends when the process that started it does, however that ends."""
    global _own
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    _set_one_thread()
    _own = pickle.loads(work).open(), job


def _compute(shard: int) -> int:
    assert _own is not None
    compute, job = _own
    job.store(shard, compute(shard))
    return shard


def _with_ray(work: Work, job: JobFolder, shards: list[int], workers: int) -> Iterator[int]:
    """Compute in actors of Ray; each holds the model once."""
    try:
        import ray
        from ray.util import ActorPool
    except ImportError as error:
        raise MissingExtraError("engine='ray' needs Ray: pip install 'fastgenome[ray]'") from error
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        local: dict[str, Any] = (
            {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers, "include_dashboard": False}
        )
        ray.init(log_to_driver=False, **local)
    try:
        actor = ray.remote(num_cpus=1)(_Actor)
        shared = ray.put(work)
        pool = ActorPool([actor.remote(shared, job) for _ in range(workers)])
        yield from pool.map_unordered(lambda worker, shard: worker.compute.remote(shard), shards)
    except ray.exceptions.RayActorError as error:
        raise WorkerError(f"an actor of Ray ended; run the job again to go on: {error}") from error
    finally:
        if started:
            ray.shutdown()


class _Actor:
    """A worker of Ray."""

    def __init__(self, work: Work, job: JobFolder) -> None:
        _set_one_thread()
        self._compute = work.open()
        self._job = job

    def compute(self, shard: int) -> int:
        self._job.store(shard, self._compute(shard))
        return shard


# The last bits of a product may depend on the number of threads, so that every process has one.


def _set_one_thread() -> None:
    from threadpoolctl import threadpool_limits

    os.environ["FASTGENOME_THREADS"] = "1"
    threadpool_limits(1)
    _torch().set_num_threads(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for products in this process, on a CPU; the caller's settings are restored."""
    from threadpoolctl import threadpool_limits

    torch = _torch()
    threads = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _torch() -> Any:
    import torch

    return torch
