"""Attention in bfloat16 on a CPU: products in blocks whose scores stay in the cache, softmax in float32.

PyTorch's fused attention computes bfloat16 at the rate of float32 there; oneDNN's batched products use the
processor's own bfloat16 units.
"""

import torch
from torch import Tensor

# Scores held at a time: 4 MiB of them in bfloat16, 8 MiB where they are float32.
_SCORES = 1 << 21

# Where blocks are faster than fused attention: of shorter sequences there is too little to multiply, and the
# scores of longer ones fill the cache with few queries.
LENGTHS = range(32, 1501)


def blocked_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Attend within each sequence: (sequences, heads, length, head_dim) bfloat16 three times.

    `bias` (1, heads or 1, length, length), of any strides, is added to the scores: in float32, or as a mask
    of 0 and -inf in bfloat16, which is exact and faster. Returns (sequences, length, heads, head_dim). Has no
    gradients.
    """
    sequences, heads, length, head_dim = query.shape
    group = min(sequences, max(1, _SCORES // (heads * length * length)))
    rows = min(length, max(1, _SCORES // (heads * length)))
    output = query.new_empty(sequences, length, heads, head_dim)
    scores = query.new_empty(group * heads, rows, length)
    finer = bias is not None and bias.dtype == torch.float32
    softmax = scores.new_empty(scores.shape, dtype=torch.float32 if finer else None)
    for first in range(0, sequences, group):
        part = slice(first, min(first + group, sequences))
        q, k, v = (x[part].reshape(-1, length, head_dim) for x in (query, key, value))
        for start in range(0, length, rows):
            block = slice(start, min(start + rows, length))
            # (sequences of the group * heads, queries, length)
            found = scores[: len(q), : block.stop - start]
            weights = softmax[: len(q), : block.stop - start]
            torch.baddbmm(found, q[:, block], k.transpose(1, 2), beta=0, alpha=head_dim**-0.5, out=found)
            by_head = (-1, heads, *found.shape[1:])
            if bias is not None and finer:
                torch.add(found.view(by_head), bias[:, :, block], out=weights.view(by_head))
                torch.softmax(weights, -1, out=weights)
                weights = found.copy_(weights)
            else:
                if bias is not None:
                    found.view(by_head).add_(bias[:, :, block])
                # PyTorch computes it in float32 and rounds the result.
                torch.softmax(found, -1, out=weights)
            mixed = torch.bmm(weights, v).view(-1, heads, found.shape[1], head_dim)
            output[part, block] = mixed.transpose(1, 2)
    return output
