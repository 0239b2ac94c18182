"""The dropout mask as a function of (seed, row, column), so that no mask is ever stored.

Rows and columns are hashed on their own; the two hashes are joined and mixed once more into 32 bits, which
decide on two neighbouring columns. PyTorch on any device and the Triton kernels make the same mask bit for
bit. The mixing is a 32-bit finaliser with two multiplications; its constants were found by C. Wellons
(hash-prospector, "lowbias32").
"""

from collections.abc import Iterator

import torch
from torch import Tensor

# As int32, the type in which PyTorch multiplies and wraps.
FIRST = 0x7FEB352D
SECOND = 0x846CA68B - 2**32

# Hashes that are made at a time on a CPU: they stay in its cache, and are enough for a few threads.
BLOCK = 1 << 17

_WORD = 2**32 - 1
_SIGNED = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def keep_share(dropout: float) -> float:
    """The share of elements kept on average: 1 - dropout to 16 bits, the resolution of the mask."""
    return 1 - _dropped(dropout) / 2**16


def threshold(dropout: float) -> int:
    """An element is kept when its 16 bits of the hash, read as int16, reach this number."""
    return _dropped(dropout) - 2**15


def keys(seed: int) -> tuple[int, int]:
    """What tells the rows and the columns of one seed, any integer, from those of another; two int32."""
    low = _mix_integer(seed & _WORD)
    high = _mix_integer(low ^ (seed >> 32 & _WORD) ^ 0x9E3779B9)
    return _signed(_mix_integer(low + high & _WORD)), _signed(high)


def kept_blocks(x: Tensor, *, dropout: float, seed: int) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows of x (rows, columns) and which of their elements are kept, as 0 and 1.

    The numbers are integers of the size of x's, (block, columns), in a buffer that the next block takes over.
    A product of integers with `bits(x)` is several times as fast as one with a mask of bool.
    """
    rows, columns = x.shape
    words = (columns + 1) // 2
    step = max(1, BLOCK // max(1, words)) if x.device.type == "cpu" else max(1, rows)
    row_key, column_key = keys(seed)
    row = _mix_(torch.arange(rows, dtype=torch.int32, device=x.device).bitwise_xor_(row_key))[:, None]
    column = _mix_(torch.arange(words, dtype=torch.int32, device=x.device).bitwise_xor_(column_key))
    joined, scratch = (row.new_empty(min(step, rows), words) for _ in range(2))
    kept = row.new_empty(min(step, rows), columns, dtype=_SIGNED[x.element_size()])
    for first in range(0, rows, step):
        block = slice(first, min(first + step, rows))
        count = block.stop - first
        words_of_block = torch.bitwise_xor(row[block], column, out=joined[:count])
        halves = _mix_last_(words_of_block, scratch[:count]).view(torch.int16)[:, :columns]
        yield block, torch.ge(halves, threshold(dropout), out=kept[:count])


def keep_mask(x: Tensor, *, dropout: float, seed: int) -> Tensor:
    """Which elements of x (rows, columns) are kept, as bool."""
    mask = torch.empty(x.shape, dtype=torch.bool, device=x.device)
    for block, kept in kept_blocks(x, dropout=dropout, seed=seed):
        mask[block] = kept.bool()
    return mask


def bits(x: Tensor) -> Tensor:
    """The same memory as integers."""
    return x.view(_SIGNED[x.element_size()])


def drop(x: Tensor, *, dropout: float, seed: int) -> Tensor:
    """x (rows, columns) with zeros where the mask has them; what is kept is not scaled."""
    dropped = torch.empty_like(x)
    for block, kept in kept_blocks(x, dropout=dropout, seed=seed):
        torch.mul(bits(x[block]), kept, out=bits(dropped[block]))
    return dropped


def add_dropped_product_(total: Tensor, left: Tensor, right: Tensor, *, dropout: float, seed: int) -> None:
    """Add left @ right, dropped, to `total` (rows, columns), block by block while it is in the cache."""
    for block, kept in kept_blocks(total, dropout=dropout, seed=seed):
        product = left[block] @ right
        bits(product).mul_(kept)
        total[block] += product


def _dropped(dropout: float) -> int:
    return min(round(dropout * 2**16), 2**16 - 1)


def _signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


def _mix_integer(word: int) -> int:
    word = (word ^ word >> 16) * FIRST & _WORD
    word = (word ^ word >> 15) * SECOND & _WORD
    return word ^ word >> 16


def _mix_(words: Tensor) -> Tensor:
    """The whole finaliser in place."""
    scratch = torch.empty_like(words)
    return _mix_last_(_fold_(words, 16, scratch), scratch)


def _mix_last_(words: Tensor, scratch: Tensor) -> Tensor:
    """The finaliser without its first step, which hashes have no need of."""
    _fold_(words.mul_(FIRST), 15, scratch)
    return _fold_(words.mul_(SECOND), 16, scratch)


def _fold_(words: Tensor, shift: int, scratch: Tensor) -> Tensor:
    """words ^= words >>> shift; int32 shifts copy the sign, hence the mask."""
    torch.bitwise_right_shift(words, shift, out=scratch)
    return words.bitwise_xor_(scratch.bitwise_and_((1 << 32 - shift) - 1))
