"""The trained parts of a model in every process of a run: whole with DDP, in shares with FSDP."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from fastgenome.training.distributed import Processes
from fastgenome.training.trained_parts import TrainedParts

T = TypeVar("T")


class SharedParts:
    """The trained parts in every process; calling it computes with them.

    Gradients are averaged over the processes in the backward pass. With FSDP the weights are divided among
    the processes: `parts` is a copy made of shards, while `whole`, what was given, waits on the CPU.
    """

    def __init__(self, parts: TrainedParts, processes: Processes) -> None:
        self.processes = processes
        self.whole = self.parts = parts
        self._module: Any = parts
        if processes.sharded:
            self.parts = self._module = _sharded(parts, processes.count)
        elif processes.count > 1:
            self._module = _replicated(parts)

    def __call__(self, compute: Callable[[], T]) -> T:
        """Compute anything that reads the parts' weights; every process has to."""
        result: T = self._module(compute)
        return result

    @contextmanager
    def accumulating(self, wanted: bool) -> Iterator[None]:
        """Within, where it is wanted, gradients add up in each process and are not exchanged yet."""
        if not wanted or self.processes.count == 1:
            yield
        elif self.processes.sharded:
            self._module.set_requires_gradient_sync(False)
            try:
                yield
            finally:
                self._module.set_requires_gradient_sync(True)
        else:
            with self._module.no_sync():
                yield

    @torch.no_grad()
    def agreed(self, make: Callable[[], T]) -> T:
        """What the first process makes of the weights; where they are shards, all have to take part."""
        if not self.processes.sharded:
            return self.processes.by_first(make)
        made = self(make)
        return self.processes.by_first(lambda: made)


def _replicated(parts: nn.Module) -> nn.Module:
    """DDP around the parts, which are made those of the first process."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    # Some weights take no part, such as those above the layer that is read.
    options = DistributedDataParallelKwargs(find_unused_parameters=True)
    on_cpu = next(parts.parameters()).device.type == "cpu"
    accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=[options])
    module = accelerator.prepare_model(parts, device_placement=False)
    # Masks are the same everywhere, since seed, step and gradients are.
    module.broadcast_buffers = False
    replicated: nn.Module = module
    return replicated


def _sharded(parts: TrainedParts, count: int) -> TrainedParts:
    """A copy of the parts, of whose weights each process holds a share; the parts are moved to the CPU.

    By PyTorch itself, since accelerate shards on accelerators alone.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    shards = copy.deepcopy(parts)
    mesh = init_device_mesh(next(parts.parameters()).device.type, (count,))
    parts.cpu()
    layers = getattr(shards.network.encoder, "layers", None)
    for layer in layers if isinstance(layers, nn.ModuleList) else ():
        fully_shard(layer, mesh=mesh)
    fully_shard(shards, mesh=mesh, reshard_after_forward=True)
    return shards
