"""Convolutions over packed sequences: each looks at one sequence alone, whatever lies beside it.

A run of sequences of equal length is a batch (sequences, length, dim); beyond the ends of a sequence there
are zeros. Convolutions compute in float32, linear layers in the type of their weights.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastgenome.errors import ArgumentError
from fastgenome.models.encoder import HiddenStates, layer_indices, packing_of
from fastgenome.models.stem import BASES


class ConvolutionStem(nn.Module):
    """Ids to rows by a convolution over what stands around them, and GELU.

    Bases, of which there are five ids with the unknown one, go in as one channel each; ids of a larger
    vocabulary as embeddings.
    """

    def __init__(self, vocabulary_size: int, dim: int, kernel_size: int) -> None:
        super().__init__()
        bases = vocabulary_size == BASES + 1
        self.embedding = None if bases else nn.Embedding(vocabulary_size, dim)
        self.convolution = nn.Conv1d(vocabulary_size if bases else dim, dim, kernel_size)

    def forward(self, ids: Tensor) -> Tensor:
        """(sequences, length) -> (sequences, length, dim) float32."""
        x = F.one_hot(ids.long(), BASES + 1).float() if self.embedding is None else self.embedding(ids)
        return F.gelu(same_convolution(self.convolution, x))


def same_convolution(layer: nn.Conv1d, x: Tensor) -> Tensor:
    """Convolve (sequences, length, channels) with zeros beyond both ends, length and layout kept.

    Taps of a dilated kernel that never meet a sequence of this length are left out.
    """
    length, half, dilation = x.shape[1], layer.kernel_size[0] // 2, layer.dilation[0]
    reach = min(half, (length - 1) // dilation)
    weight = layer.weight[:, :, half - reach : half + reach + 1]
    convolved = F.conv1d(x.mT, weight, layer.bias, padding=reach * dilation, dilation=dilation)
    return convolved.mT


def states_by_run(
    network: Callable[[Tensor], Iterator[Tensor]],
    widths: Sequence[int],
    ids: Tensor,
    offsets: Tensor,
    layers: Sequence[int],
    token_types: Tensor | None,
) -> HiddenStates:
    """Hidden states of a packed batch, run by run.

    `network` takes the (sequences, length) ids of a run and yields the states (sequences, length, dim) of
    layer 0, 1 and so on, each computed when it is asked for. See `Encoder` for the rest.
    """
    if token_types is not None:
        raise ArgumentError("this model has no token types")
    wanted = layer_indices(layers, len(widths))
    found = {index: [torch.zeros(0, widths[index], device=ids.device)] for index in wanted}
    for start, sequences, length in packing_of(offsets, ids.device).runs:
        batch = ids[start : start + sequences * length].view(sequences, length)
        # zip asks the range first, so that no layer above the highest wanted runs.
        for index, states in zip(range(max(wanted, default=-1) + 1), network(batch), strict=False):
            if index in found:
                found[index].append(states.flatten(0, 1))
    return HiddenStates(tuple(torch.cat(found[index]) for index in wanted), offsets)


def reverse_complement(ids: Tensor) -> Tensor:
    """(sequences, length) codes of A, C, G, T and unknown, read from the other strand."""
    return torch.where(ids < BASES, BASES - 1 - ids, ids).flip(1)
