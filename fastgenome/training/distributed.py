"""Tuning in several processes that torchrun or `accelerate launch` has started, each on a device of its own.

Every process reads the same data and takes the same steps. A step's batch is divided among them and the
gradients are summed, so that clipping, importance and the optimizer see the same numbers everywhere. The
first process alone writes; with DDP it alone evaluates, with FSDP all do.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import pickle
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from fastgenome.errors import ArgumentError, FastgenomeError, MissingExtraError

if TYPE_CHECKING:
    from fastgenome.adapters import AdapterConfig
    from fastgenome.training.methods import Full

T = TypeVar("T")

# How long the others wait for the first process; the launcher ends them if it dies.
_PATIENCE = timedelta(days=2)


def _is_launched() -> bool:
    """Whether this is one of several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first_process() -> bool:
    """Whether this process, or the only one, is the one that writes and tells."""
    return not _is_launched() or int(os.environ.get("RANK", "0")) == 0


def launched_processes(device: torch.device) -> Processes:
    """The processes of this run, which meet here for the first time; each then has its own GPU.

    Raises:
        MissingExtraError: there are several, and accelerate is not installed.
        ArgumentError: they were started for DeepSpeed or Megatron.
    """
    return _meet(device.type) if _is_launched() else Processes()


@cache
def _meet(device_type: str) -> Processes:
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingExtraError(
            f"this is one of {os.environ['WORLD_SIZE']} processes (WORLD_SIZE); tuning in several needs "
            "accelerate: pip install 'fastgenome[accelerate]'"
        ) from error
    for name in ("DEEPSPEED", "MEGATRON_LM"):
        if _is_set(f"ACCELERATE_USE_{name}"):
            raise ArgumentError(
                f"ACCELERATE_USE_{name}: tuning runs with DDP or FSDP; launch it for one of these"
            )
    on_cpu = device_type == "cpu"
    # Imported while there is a group, this module would hold it for good, as a default argument.
    importlib.import_module("torch.distributed.nn.functional")
    # Objects travel by gloo: a checkpoint needs no room on the GPU.
    backend = "gloo" if on_cpu else "cpu:gloo,cuda:nccl"
    state = PartialState(cpu=on_cpu, backend=backend, timeout=_PATIENCE)
    atexit.register(_leave_group, state)
    return Processes(state)


def _leave_group(state: Any) -> None:
    """Destroy the group: a thread of it that drops a tensor while the interpreter ends aborts the process."""
    gc.collect()
    state.destroy_process_group()
    # The threads are joined by now, unless FSDP's caches hold the group; dropping tensors takes no longer.
    time.sleep(0.2)


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")


class Processes:
    """The processes of a run, by default the only one.

    Attributes:
        count: how many there are.
        rank: this one's number, 0 … count - 1.
        sharded: whether each holds a part of every weight (FSDP), as ACCELERATE_USE_FSDP says.
    """

    def __init__(self, state: Any = None) -> None:
        self._state = state
        self.count: int = 1 if state is None else state.num_processes
        self.rank: int = 0 if state is None else state.process_index
        self.sharded = self.count > 1 and _is_set("ACCELERATE_USE_FSDP")

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def place(self, network: nn.Module) -> None:
        """Move a network that was loaded on another process's GPU to this one's."""
        if self.count > 1 and next(network.parameters()).device.type == "cuda":
            network.to(self._state.device)

    def by_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, on every process; an error that it meets is raised on all of them."""
        if self.count == 1:
            return make()
        from accelerate.utils import broadcast_object_list

        self._state.wait_for_everyone()
        made: list[Any] = [None, None]
        if self.is_first:
            try:
                made[0] = make()
            except Exception as error:
                broadcast_object_list([None, _portable(error)])
                raise
        broadcast_object_list(made)
        if made[1] is not None:
            raise made[1]
        result: T = made[0]
        return result

    def check_same(self, value: str, what: str) -> None:
        """ArgumentError, on every process, where the processes have different values of `what`."""
        if self.count == 1:
            return
        from accelerate.utils import gather_object

        if len(set(gather_object([value]))) > 1:
            raise ArgumentError(
                f"the processes have different {what}; all have to read the same files, none standard input"
            )

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, element by element."""
        if self.count == 1:
            return values
        from accelerate.utils import reduce

        summed: Tensor = reduce(values, "sum")
        return summed

    def check_method(self, method: Full | AdapterConfig, *, pooling: str | None) -> None:
        """ArgumentError for what shards of weights do not allow."""
        from fastgenome.adapters import DoRA
        from fastgenome.adapters.adalora import AdaLoRA

        if not self.sharded:
            return
        if isinstance(method, AdaLoRA | DoRA):
            raise ArgumentError(
                f"{type(method).__name__} measures whole matrices, of which FSDP leaves each process a part; "
                "tune it with DDP (without --use_fsdp)"
            )
        if "attention" in (pooling or ""):
            raise ArgumentError("pooling='attention' is not for FSDP; tune it with DDP (without --use_fsdp)")


def _portable(error: Exception) -> Exception:
    """The error where it survives the way to another process, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return FastgenomeError(str(error))
    return error
