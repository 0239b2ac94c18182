"""What every model family's network takes and gives, and how the rows of a packed batch divide."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fastgenome.errors import ArgumentError


class HiddenStates(NamedTuple):
    """Hidden states of a packed batch.

    `states`: one (rows, dim) tensor per layer asked for; `offsets`: (n + 1,) int64 on the CPU, sequence i
    owns the rows [offsets[i], offsets[i + 1]). A network that joins several ids into one row has fewer rows
    than ids. `attention`: one (rows,) tensor per layer where it was asked for, the attention that a row
    receives in that layer, as a mean over heads and over the queries of its sequence.
    """

    states: tuple[Tensor, ...]
    offsets: Tensor
    attention: tuple[Tensor, ...] = ()


class Encoder(Protocol):
    """A network on packed ids: no padding, no attention mask.

    `widths` holds the width of each layer's hidden states, the embedding output first and the last layer
    last; `stride` is the number of ids joined into one row; ids are below `vocabulary_size`. Where
    `has_attention` the call takes `attention=True` too, and gives that of each layer but the first.
    """

    vocabulary_size: int
    has_attention: bool
    widths: tuple[int, ...]
    stride: int

    def __call__(
        self, ids: Tensor, offsets: Tensor, layers: Sequence[int] = (-1,), token_types: Tensor | None = None
    ) -> HiddenStates:
        """Hidden states of the given layers: 0 is the embedding output, -1 the last.

        `ids` (total,) int32 or int64 on the device of the weights, `offsets` (n + 1,) int64 on the CPU;
        `token_types` (rows,) int64 or None for type 0, ArgumentError where the family has none. Layers above
        the highest wanted are not run.
        """
        ...


def layer_indices(layers: Sequence[int], count: int) -> list[int]:
    """Layers as 0 … count - 1, of `count` with the embedding output; ArgumentError for any other."""
    for layer in layers:
        if not -count <= layer < count:
            raise ArgumentError(
                f"layer must lie in {-count} … {count - 1} "
                f"(0 is the embedding output, -1 the last layer), got {layer}"
            )
    return [layer % count for layer in layers]


class Run(NamedTuple):
    """Neighbouring sequences of one length: `sequences` times `length` rows from row `start` on."""

    start: int
    sequences: int
    length: int


class Packing(NamedTuple):
    """Division of packed rows into sequences.

    `runs` joins neighbours of equal length; `positions` is each row's 0-based place in its own sequence,
    (rows,) int64 on the device of the ids; `offsets` (n + 1,) int64 stays on the CPU.
    """

    runs: tuple[Run, ...]
    positions: Tensor
    offsets: Tensor


def packing_of(offsets: Tensor, device: torch.device) -> Packing:
    """Describe the batch with these (n + 1,) CPU offsets."""
    lengths = offsets.diff()
    runs: list[Run] = []
    for start, length in zip(offsets.tolist(), lengths.tolist(), strict=False):
        if runs and runs[-1].length == length:
            runs[-1] = runs[-1]._replace(sequences=runs[-1].sequences + 1)
        elif length:
            runs.append(Run(start, 1, length))
    positions = torch.arange(int(offsets[-1])) - torch.repeat_interleave(offsets[:-1], lengths)
    return Packing(tuple(runs), positions.to(device), offsets)
