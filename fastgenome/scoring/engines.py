"""Who computes the shards of a job: this process, several local ones, or actors of Ray."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import ModuleType
from typing import Any

import joblib

from fastgenome.errors import FastgenomeError, MissingExtraError
from fastgenome.progress import progress_bar
from fastgenome.scoring.jobs import JobFolder, RunOptions, Shard, Work

# About as long as processes take to start.
_SECONDS_ALONE = 5.0


class WorkerError(FastgenomeError):
    """A process that computed shards ended without a word."""


def compute_shards(
    work: Work, job: JobFolder, shards: list[int], options: RunOptions, *, unit: str, done: Set[int]
) -> None:
    """Compute and store shards; `done` are those that an earlier run stored."""
    if not shards:
        return
    before = sum(map(work.amount, done))
    total = before + sum(map(work.amount, shards))
    with progress_bar(f"scoring ({unit})", total, shown=options.progress, done=before) as advance:
        for shard in _computed(work, job, shards, options):
            advance(work.amount(shard))


def _computed(work: Work, job: JobFolder, shards: list[int], options: RunOptions) -> Iterator[int]:
    if options.engine == "ray":
        return _with_ray(work, job, shards, options.workers)
    workers = min(len(shards), options.workers or _default_workers(work))
    if workers == 1:
        return _here(work, job, shards)
    if options.workers is None:
        return _here_at_first(work, job, shards, workers)
    return _in_processes(work, job, shards, workers)


def _on_gpu(work: Work) -> bool:
    return getattr(work, "device", "cpu") != "cpu"


def _default_workers(work: Work) -> int:
    """One on a GPU, else the cores that this process may use: affinity and limits of containers count."""
    return 1 if _on_gpu(work) else int(joblib.cpu_count())


def _here(work: Work, job: JobFolder, shards: Iterable[int]) -> Iterator[int]:
    """Compute in this process; a shard is written while the next is computed."""
    compute = work.open()
    with _one_thread(), ThreadPoolExecutor(1) as writer:
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


def _here_at_first(work: Work, job: JobFolder, shards: list[int], workers: int) -> Iterator[int]:
    """Compute in this process, and what is left after some seconds, if it is much, in processes.

    Processes take seconds to start: a small job is done by then.
    """
    left = deque(shards)

    def first() -> Iterator[int]:
        begun = time.monotonic()
        # Until the rest will take more than twice as long again.
        while left and (
            time.monotonic() < begun + _SECONDS_ALONE or len(left) <= 2 * (len(shards) - len(left))
        ):
            yield left.popleft()

    yield from _here(work, job, first())
    if left:
        yield from _in_processes(work, job, list(left), min(workers, len(left)))


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


_own: tuple[Callable[[int], Shard], JobFolder] | Exception | None = None


def _begin(work: bytes, job: JobFolder) -> None:
    """Make a worker process ready; it ends when the process that started it does, however that ends."""
    global _own
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    try:
        _own = pickle.loads(work).open(), job
    except Exception as error:
        # Raised here it would only tell that the process is gone.
        _own = error
    _set_one_thread()


def _compute(shard: int) -> int:
    assert _own is not None
    if isinstance(_own, Exception):
        raise _own
    compute, job = _own
    job.store(shard, compute(shard))
    return shard


def _with_ray(work: Work, job: JobFolder, shards: list[int], wanted: int | None) -> Iterator[int]:
    """Compute in actors of Ray, no more than there are cores, or GPUs; each holds the model once."""
    try:
        import ray
        from ray.util import ActorPool
    except ImportError as error:
        raise MissingExtraError("engine='ray' needs Ray: pip install 'fastgenome[ray]'") from error
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        own = {"num_cpus": wanted or _default_workers(work), "include_dashboard": False}
        ray.init(log_to_driver=False, **({} if "RAY_ADDRESS" in os.environ else own))  # type: ignore[arg-type]
    try:
        needs = "GPU" if _on_gpu(work) else "CPU"
        free = int(ray.cluster_resources().get(needs, 0))  # type: ignore[no-untyped-call]
        if not free:
            raise WorkerError(f"the Ray cluster has no {needs}")
        workers = min(len(shards), wanted or free, free)
        actor = ray.remote(num_cpus=1, num_gpus=int(needs == "GPU"))(_Actor)
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
        self._compute = work.open()
        self._job = job
        _set_one_thread()

    def compute(self, shard: int) -> int:
        self._job.store(shard, self._compute(shard))
        return shard


# The last bits of a product may depend on the number of threads, so that every process has one.


def _set_one_thread() -> None:
    """Of this process, for good; only libraries that are loaded already obey."""
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
