"""The names under which a checkpoint was published, and how its tensors become ours and theirs again.

A key map gives for each tensor of our network the published tensors that make it up. Two of ours with the
same source are tied: they become one parameter, and a published copy of it must hold the same numbers.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastgenome.errors import CheckpointError
from fastgenome.models.checkpoint import describe_difference, listed


def _same(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Part:
    """One published tensor: its name, and how its numbers are arranged on the way in and on the way out."""

    name: str
    to_ours: Callable[[Tensor], Tensor] = _same
    to_published: Callable[[Tensor], Tensor] = _same


# Name in our network -> the parts of equal shape that are stacked along the first dimension.
KeyMap = Mapping[str, tuple[Part, ...]]


def parts(*names: str) -> tuple[Part, ...]:
    """Published tensors that are taken as they are."""
    return tuple(Part(name) for name in names)


def with_affine(ours: str, *published: str, bias: bool = True) -> dict[str, tuple[Part, ...]]:
    """Weight and, with `bias`, bias of a linear layer or a norm; several published ones are stacked."""
    kinds = ("weight", "bias") if bias else ("weight",)
    return {f"{ours}.{kind}": parts(*(f"{name}.{kind}" for name in published)) for kind in kinds}


def assign_published(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    key_map: KeyMap,
    *,
    unused: Iterable[str] = (),
    copies: Mapping[str, str] | None = None,
) -> None:
    """Make published tensors the float32 parameters and the buffers of `network` (which may be on meta).

    `unused`: patterns (regular expressions of whole names) of published tensors that change nothing.
    `copies`: published names that may stand in the file as a second copy of another one. Raises
    CheckpointError that lists missing and unexpected names, wrong shapes and types, or a copy that differs.
    """
    copies = {name: source for name, source in (copies or {}).items() if name in tensors}
    wanted = {part.name for sources in key_map.values() for part in sources}
    dead = [re.compile(pattern) for pattern in unused]
    found = {name for name in tensors if name in wanted or not any(p.fullmatch(name) for p in dead)}
    if found - copies.keys() != wanted:
        raise CheckpointError(
            describe_difference("the checkpoint against the model", wanted, found - copies.keys())
        )
    for name, source in copies.items():
        if not torch.equal(tensors[name], tensors[source]):
            raise CheckpointError(f"{name} must be the same as {source}, to which the model ties it")
    state = network.state_dict()
    assert state.keys() == key_map.keys(), sorted(state.keys() ^ key_map.keys())
    faults = [fault for name in state for fault in _faults(state[name], tensors, key_map[name])]
    if faults:
        raise CheckpointError("the checkpoint does not fit the model: " + listed(faults))
    parameters: dict[tuple[Part, ...], Tensor] = {}
    for name, sources in key_map.items():
        if sources not in parameters:
            joined = _joined(tensors, sources).to(state[name].dtype).contiguous()
            parameters[sources] = nn.Parameter(joined) if joined.is_floating_point() else joined
    network.load_state_dict({name: parameters[key_map[name]] for name in state}, assign=True)


def published_tensors(tensors: Mapping[str, Tensor], key_map: KeyMap) -> dict[str, Tensor]:
    """The tensors of a network's state under their published names and in their published arrangement.

    Of tied ones that are no longer one parameter, since their types differ, the first is taken, which is the
    more exact. Raises CheckpointError where the others differ from it by more than their type.
    """
    published: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        sources = key_map[name]
        for part, piece in zip(sources, tensor.chunk(len(sources)), strict=True):
            found = part.to_published(piece)
            first = published.setdefault(part.name, found)
            if not torch.equal(first.to(found.dtype), found):
                raise CheckpointError(
                    f"{name} is published under the name of another tensor, {part.name}, but is not the same "
                    "any more; train such a model in float32, where both are one"
                )
    return published


def _joined(tensors: Mapping[str, Tensor], sources: tuple[Part, ...]) -> Tensor:
    pieces = [part.to_ours(tensors[part.name]) for part in sources]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _faults(target: Tensor, tensors: Mapping[str, Tensor], sources: tuple[Part, ...]) -> list[str]:
    """What is wrong with the published tensors of one of ours, one line for each."""
    faults = []
    expected = part_shape(target, len(sources))
    for part in sources:
        found = tensors[part.name]
        if found.is_floating_point() != target.is_floating_point():
            faults.append(f"{part.name}: type {found.dtype} instead of {target.dtype}")
            continue
        shape = _arranged_shape(part, found)
        if shape != expected:
            faults.append(
                f"{part.name}: shape {tuple(found.shape)}, which does not fill {expected} of the model"
            )
    return faults


def part_shape(target: Tensor, count: int) -> tuple[int, ...]:
    """Shape of each of `count` equal parts of a tensor, stacked along the first dimension."""
    return (target.shape[0] // count, *target.shape[1:]) if count > 1 else tuple(target.shape)


def _arranged_shape(part: Part, tensor: Tensor) -> tuple[int, ...] | None:
    try:
        return tuple(part.to_ours(tensor).shape)
    except RuntimeError:
        return None
