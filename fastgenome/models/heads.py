"""From hidden states to logits, and to a pooled output."""

import torch
from torch import Tensor, nn

from fastgenome.models.transformer import linear
from fastgenome.ops import Activation


class MaskedLanguageHead(nn.Module):
    """Hidden states to logits: linear, activation, layer norm, linear."""

    def __init__(self, dim: int, outputs: int, eps: float = 1e-5, activation: Activation = "gelu") -> None:
        super().__init__()
        self.activation: Activation = activation
        self.dense = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.decoder = nn.Linear(dim, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, dim) -> (rows, outputs), float32."""
        x = self.norm(linear(self.dense, x, self.activation).float())
        return linear(self.decoder, x).float()


class Projection(nn.Module):
    """Hidden states to logits by one product, often with the weights of the embeddings."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.decoder = nn.Linear(dim, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, dim) -> (rows, outputs), float32."""
        return linear(self.decoder, x).float()


class Pooler(nn.Module):
    """BERT's pooled output: tanh of a linear layer over the state of the first token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(n, dim) states of the first tokens -> (n, dim) float32."""
        return torch.tanh(linear(self.dense, x).float())
