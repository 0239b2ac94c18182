"""A U-Net over DNA: convolutions at ever coarser resolution and back, with skip connections.

Ronneberger et al., U-Net (2015), in one dimension. Where a sequence does not divide evenly, zeros beyond its
own end complete the last pair, and what comes of them is dropped again on the way up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastgenome.models.convolution import ConvolutionStem, same_convolution, states_by_run
from fastgenome.models.convolution_family import ConvolutionConfig, ConvolutionFamily, check_sizes
from fastgenome.models.encoder import HiddenStates
from fastgenome.models.heads import MaskedLanguageHead
from fastgenome.models.transformer import linear

FAMILY = "unet"


@dataclass(frozen=True)
class UNetConfig(ConvolutionConfig):
    """`level_dims`: widths of the levels, the finest first; each has half the rows of the one before."""

    level_dims: tuple[int, ...] = (128, 192, 256, 320)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes("level_dims", self.level_dims)


class ResidualBlock(nn.Module):
    """x + conv(GELU(conv(norm(x))))."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.first = nn.Conv1d(dim, dim, kernel_size)
        self.second = nn.Conv1d(dim, dim, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """(sequences, length, dim) -> the same shape."""
        inner = F.gelu(same_convolution(self.first, self.norm(x)))
        return x + same_convolution(self.second, inner)


class Down(nn.Module):
    """Two neighbouring rows to one."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.join = nn.Linear(2 * fine, coarse)

    def forward(self, x: Tensor) -> Tensor:
        """(sequences, length, fine) -> (sequences, ⌈length / 2⌉, coarse) float32."""
        even = F.pad(x, (0, 0, 0, x.shape[1] % 2))
        pairs = even.reshape(len(x), -1, 2 * x.shape[2])
        return linear(self.join, pairs).float()


class Up(nn.Module):
    """One row to two neighbours, joined with the rows that the way down left at this level."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.split = nn.Linear(coarse, 2 * fine)
        self.join = nn.Linear(2 * fine, fine)

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        """(sequences, ⌈length / 2⌉, coarse) and (sequences, length, fine) -> (sequences, length, fine)."""
        rows = linear(self.split, x).float().reshape(len(x), -1, skipped.shape[2])
        return linear(self.join, torch.cat([rows[:, : skipped.shape[1]], skipped], 2)).float()


class UNet(nn.Module):
    """Packed ids to hidden states, see `Encoder`: layer 0 is the stem's output, layer 1 the network's."""

    stride = 1
    has_attention = False

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        dims, kernel_size = config.level_dims, config.kernel_size
        self.vocabulary_size = config.vocabulary_size
        self.widths = (dims[0], dims[0])
        self.stem = ConvolutionStem(config.vocabulary_size, dims[0], kernel_size)
        self.blocks = nn.ModuleList(ResidualBlock(dim, kernel_size) for dim in dims)
        self.downs = nn.ModuleList(Down(fine, coarse) for fine, coarse in pairwise(dims))
        self.ups = nn.ModuleList(Up(fine, coarse) for fine, coarse in pairwise(dims))
        self.up_blocks = nn.ModuleList(ResidualBlock(dim, kernel_size) for dim in dims[:-1])
        self.final_norm = nn.LayerNorm(dims[0])

    def forward(
        self, ids: Tensor, offsets: Tensor, layers: Sequence[int] = (-1,), token_types: Tensor | None = None
    ) -> HiddenStates:
        """Hidden states of a packed batch, float32; the last layer's after the final norm."""
        return states_by_run(self._states, self.widths, ids, offsets, layers, token_types)

    def _states(self, ids: Tensor) -> Iterator[Tensor]:
        x = self.stem(ids)
        yield x
        skipped = []
        for block, down in zip(self.blocks, self.downs, strict=False):
            x = block(x)
            skipped.append(x)
            x = down(x)
        x = self.blocks[-1](x)
        for level in reversed(range(len(self.ups))):
            x = self.up_blocks[level](self.ups[level](x, skipped[level]))
        yield self.final_norm(x)


def _make_network(config: UNetConfig) -> tuple[nn.Module, nn.Module]:
    return UNet(config), MaskedLanguageHead(config.level_dims[0], config.outputs)


_family = ConvolutionFamily(FAMILY, UNetConfig, _make_network)
create = _family.create
recognises = _family.recognises
load_directory = _family.load_directory
