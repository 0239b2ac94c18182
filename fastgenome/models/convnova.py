"""Gated dilated convolutions in two branches, after ConvNova.

Bo et al., Revisiting Convolution Architecture in the Realm of DNA Foundation Models (ICLR 2025): the second
branch gates the first. Where it reads the other strand, it does so as that strand is read: reversed and
complemented, and its gates are put back into the order of the first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastgenome.errors import ArgumentError
from fastgenome.models.convolution import (
    ConvolutionStem,
    reverse_complement,
    same_convolution,
    states_by_run,
)
from fastgenome.models.convolution_family import ConvolutionConfig, ConvolutionFamily, check_sizes
from fastgenome.models.encoder import HiddenStates
from fastgenome.models.heads import MaskedLanguageHead
from fastgenome.models.published_config import MAX_LAYERS

FAMILY = "convnova"


@dataclass(frozen=True)
class ConvNovaConfig(ConvolutionConfig):
    """`stacks` times one gated layer for each of `dilations`, `dim` wide.

    The stem reads every neighbour, so the dilations may begin at 4. With `both_strands` the two branches are
    the two strands of DNA with the same weights, and each gates the other; hidden states then hold both,
    2 dim wide. It needs input="base".
    """

    dim: int = 256
    dilations: tuple[int, ...] = (4, 16, 64, 256, 1024)
    stacks: int = 1
    both_strands: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes("dim, stacks", (self.dim, self.stacks))
        check_sizes("dilations", self.dilations)
        if self.stacks * len(self.dilations) > MAX_LAYERS:
            raise ArgumentError(f"stacks times dilations must be at most {MAX_LAYERS} layers")
        if self.both_strands and self.input != "base":
            raise ArgumentError("both_strands=True needs input='base': byte pairs have no complement")


class GatedLayer(nn.Module):
    """x + GELU(conv(norm(x))) · sigmoid(conv(norm(second))); the second branch goes on without a gate.

    In the last layer of a network it goes no further.
    """

    def __init__(self, dim: int, kernel_size: int, dilation: int, *, last: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.second_norm = nn.LayerNorm(dim)
        self.convolution = nn.Conv1d(dim, dim, kernel_size, dilation=dilation)
        self.gate = nn.Conv1d(dim, dim, kernel_size, dilation=dilation)
        self.second_convolution = None if last else nn.Conv1d(dim, dim, kernel_size, dilation=dilation)

    def forward(self, x: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Both branches (sequences, length, dim) -> the same after this layer."""
        beside = self.second_norm(second)
        gate = torch.sigmoid(same_convolution(self.gate, beside))
        x = x + F.gelu(same_convolution(self.convolution, self.norm(x))) * gate
        if self.second_convolution is not None:
            second = second + F.gelu(same_convolution(self.second_convolution, beside))
        return x, second


class StrandLayer(nn.Module):
    """The same layer on both strands: each is gated by the other one."""

    def __init__(self, dim: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.convolution = nn.Conv1d(dim, dim, kernel_size, dilation=dilation)
        self.gate = nn.Conv1d(dim, dim, kernel_size, dilation=dilation)

    def forward(self, x: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Both strands (sequences, length, dim), each from its own 5' end -> the same after this layer."""
        normed = self.norm(torch.cat([x, second]))
        mixed = F.gelu(same_convolution(self.convolution, normed)).chunk(2)
        # Row i of one strand lies opposite to row length - 1 - i of the other.
        gates = torch.sigmoid(same_convolution(self.gate, normed)).flip(1).chunk(2)
        return x + mixed[0] * gates[1], second + mixed[1] * gates[0]


class ConvNova(nn.Module):
    """Packed ids to hidden states, see `Encoder`.

    With `both_strands` the states of the reverse complement are those of the sequence in reverse order, the
    halves of each exchanged.
    """

    stride = 1
    has_attention = False

    def __init__(self, config: ConvNovaConfig) -> None:
        super().__init__()
        self.both_strands = config.both_strands
        self.vocabulary_size = config.vocabulary_size
        dilations = config.dilations * config.stacks
        self.widths = (config.dim * (2 if config.both_strands else 1),) * (len(dilations) + 1)
        self.stem = ConvolutionStem(config.vocabulary_size, config.dim, config.kernel_size)
        shapes = [(config.dim, config.kernel_size, dilation) for dilation in dilations]
        if config.both_strands:
            self.layers = nn.ModuleList(StrandLayer(*shape) for shape in shapes)
        else:
            self.second_stem = ConvolutionStem(config.vocabulary_size, config.dim, config.kernel_size)
            last = len(shapes)
            self.layers = nn.ModuleList(GatedLayer(*s, last=n == last) for n, s in enumerate(shapes, 1))
        self.final_norm = nn.LayerNorm(config.dim)

    def forward(
        self, ids: Tensor, offsets: Tensor, layers: Sequence[int] = (-1,), token_types: Tensor | None = None
    ) -> HiddenStates:
        """Hidden states of a packed batch, float32; the last layer's after the final norm."""
        return states_by_run(self._states, self.widths, ids, offsets, layers, token_types)

    def _states(self, ids: Tensor) -> Iterator[Tensor]:
        x = self.stem(ids)
        second = self.stem(reverse_complement(ids)) if self.both_strands else self.second_stem(ids)
        yield self._joined(x, second)
        for number, layer in enumerate(self.layers, start=1):
            x, second = layer(x, second)
            if number == len(self.layers):
                x, second = self.final_norm(x), self.final_norm(second) if self.both_strands else second
            yield self._joined(x, second)

    def _joined(self, x: Tensor, second: Tensor) -> Tensor:
        return torch.cat([x, second.flip(1)], 2) if self.both_strands else x


class StrandHead(nn.Module):
    """Logits of A, C, G, T that are complemented where the strands are exchanged."""

    def __init__(self, dim: int) -> None:
        """`dim` is the width of both strands together."""
        super().__init__()
        self.one_strand = MaskedLanguageHead(dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, dim) -> (rows, 4), float32."""
        exchanged = torch.cat(x.chunk(2, dim=1)[::-1], 1)
        # The complement of A, C, G, T is T, G, C, A.
        logits: Tensor = self.one_strand(x) + self.one_strand(exchanged).flip(1)
        return logits


def _make_network(config: ConvNovaConfig) -> tuple[nn.Module, nn.Module]:
    encoder = ConvNova(config)
    if config.both_strands:
        return encoder, StrandHead(encoder.widths[-1])
    return encoder, MaskedLanguageHead(config.dim, config.outputs)


_family = ConvolutionFamily(FAMILY, ConvNovaConfig, _make_network)
create = _family.create
recognises = _family.recognises
load_directory = _family.load_directory
