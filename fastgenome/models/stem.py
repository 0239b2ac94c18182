"""Ids to the first rows of a network: one row per id, or one row per group of neighbouring bases."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Codes of A, C, G, T; anything else, and whatever lies beyond the ends of a sequence, is UNKNOWN.
BASES = 4
UNKNOWN = 4


class EmbeddingStem(nn.Module):
    """One row per id: its embedding."""

    stride = 1

    def __init__(self, vocabulary_size: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, dim)

    def forward(self, ids: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """(total,) ids and their (n + 1,) CPU offsets -> (total, dim) float32 and the same offsets."""
        return self.embedding(ids).float(), offsets


class BaseStem(nn.Module):
    """One row per `stride` bases, the sum of what is in it and of what is around it.

    In it: the embeddings of the k-mers that start at its bases, so that a mean over rows keeps the k-mer
    composition of a sequence wherever the rows begin. Around it: an embedding of every base in a window of
    `window` bases by its place in the window, which is a convolution over one-hot bases. K-mers that hold an
    unknown base or reach beyond the sequence add nothing.
    """

    def __init__(self, dim: int, *, stride: int, window: int, k: int) -> None:
        super().__init__()
        self.stride, self.window, self.k = stride, window, k
        self.before = (window - stride) // 2
        self.kmers = nn.Embedding(4**k + 1, dim, padding_idx=4**k)
        self.places = nn.Embedding(window * (BASES + 1), dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Random places; a k-mer starts as the sum of its 4-mers' random embeddings.

        Sequences of similar composition then lie close together before any training.
        """
        nn.init.normal_(self.places.weight, std=self.window**-0.5)
        part, dim = min(4, self.k), self.kmers.embedding_dim
        codes = torch.arange(4**self.k)
        table = torch.linalg.qr(torch.randn(max(4**part, dim), max(4**part, dim)))[0][: 4**part, :dim]
        shifts = [2 * (self.k - part - start) for start in range(self.k - part + 1)]
        weight = torch.stack([table[(codes >> shift) % 4**part] for shift in shifts]).sum(0)
        weight = weight - weight.mean(0)
        with torch.no_grad():
            self.kmers.weight[:-1] = weight * (0.2 / weight.std())
            self.kmers.weight[-1] = 0.0

    def forward(self, ids: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """(total,) base codes and their (n + 1,) CPU offsets -> (rows, dim) float32 and the rows' offsets."""
        row_offsets, first, start, stop = _rows(offsets, self.stride, ids.device)
        place = torch.arange(-self.before, self.window - self.before, device=ids.device)
        position = first[:, None] + place  # (rows, window)
        inside = (position >= start[:, None]) & (position < stop[:, None])
        position = position.clamp_(0, max(0, len(ids) - 1))
        codes = torch.where(inside, ids[position], UNKNOWN) if len(ids) else position
        by_place = codes + (torch.arange(self.window, device=ids.device) * (BASES + 1)).to(codes.dtype)
        around = F.embedding_bag(by_place, self.places.weight, mode="sum")
        within = F.embedding_bag(
            self._kmer_codes(codes), self.kmers.weight, mode="sum", padding_idx=self.kmers.padding_idx
        )
        return around + within, row_offsets

    def _kmer_codes(self, codes: Tensor) -> Tensor:
        """(rows, window) base codes -> (rows, stride) codes of the k-mers that start in the row."""
        code = torch.zeros_like(codes[:, : self.stride])
        unknown = torch.zeros_like(code, dtype=torch.bool)
        for step in range(self.k):
            base = codes[:, self.before + step : self.before + step + self.stride]
            code = code * BASES + base
            unknown |= base == UNKNOWN
        return code.masked_fill_(unknown, 4**self.k)


def _rows(offsets: Tensor, stride: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Offsets of the rows (on the CPU); per row its first base and its sequence's start and end."""
    groups = (offsets.diff() + stride - 1) // stride
    row_offsets = torch.zeros_like(offsets)
    torch.cumsum(groups, 0, out=row_offsets[1:])
    start = torch.repeat_interleave(offsets[:-1], groups)
    stop = torch.repeat_interleave(offsets[1:], groups)
    row = torch.arange(int(row_offsets[-1])) - torch.repeat_interleave(row_offsets[:-1], groups)
    first = start + row * stride
    return row_offsets, first.to(device), start.to(device), stop.to(device)
