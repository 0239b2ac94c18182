"""The peer of the embedding benchmarks: the weights of tiny run the way most scripts run a model today."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fastgenome.models.model import Model
from fastgenome.models.stem import BASES, UNKNOWN


class PaddedPeer:
    """The weights of a model of the tiny family in a plain padded implementation."""

    def __init__(self, model: Model) -> None:
        self.tokenizer = model.tokenizer
        self.config = model.encoder.config
        assert (self.config.norm, self.config.positions, self.config.activation) == ("pre", "rotary", "geglu")
        self.device = model.device
        self.weights = {name: weight.float() for name, weight in model.network.encoder.state_dict().items()}

    def embed(self, sequences: Sequence[str], batch_size: int = 32) -> NDArray[np.float32]:
        """Mean of the last hidden states over the attention mask, (n, dim)."""
        batches = [sequences[i : i + batch_size] for i in range(0, len(sequences), batch_size)]
        with torch.inference_mode():
            return np.concatenate([self._embed_batch(batch) for batch in batches])

    def _embed_batch(self, sequences: Sequence[str]) -> NDArray[np.float32]:
        stride = self.config.stem_stride
        tokens = [torch.from_numpy(self.tokenizer([sequence]).ids).long() for sequence in sequences]
        width = -(-max(map(len, tokens)) // stride) * stride
        ids = torch.stack([F.pad(t, (0, width - len(t)), value=UNKNOWN) for t in tokens]).to(self.device)
        known = torch.stack([F.pad(torch.ones(len(t)), (0, width - len(t))) for t in tokens]).to(self.device)
        mask = known.unflatten(1, (-1, stride)).any(-1)
        x = self._norm("embedding_norm", self._stem(ids))
        cosine, sine = self._rotary(x.shape[1])
        for index in range(self.config.layers):
            x = self._layer(f"layers.{index}", x, mask, cosine, sine)
        x = self._norm("final_norm", x)
        weight = mask[..., None].float()
        pooled: NDArray[np.float32] = ((x * weight).sum(1) / weight.sum(1)).cpu().numpy()
        return pooled

    def _stem(self, ids: Tensor) -> Tensor:
        """A convolution over one-hot bases, and the embeddings of the k-mers that start in each row."""
        stride, window, k = self.config.stem_stride, self.config.stem_window, self.config.stem_k
        before = (window - stride) // 2
        bases = F.pad(ids, (before, window - stride - before), value=UNKNOWN)
        filters = self.weights["stem.places.weight"].unflatten(0, (window, BASES + 1)).permute(2, 1, 0)
        around = F.conv1d(F.one_hot(bases, BASES + 1).float().transpose(1, 2), filters, stride=stride)
        words = F.pad(ids, (0, k - 1), value=UNKNOWN).unfold(1, k, 1)
        code = (words * BASES ** torch.arange(k - 1, -1, -1, device=self.device)).sum(-1)
        code = code.masked_fill((words == UNKNOWN).any(-1), BASES**k)
        within = F.embedding(code, self.weights["stem.kmers.weight"]).unflatten(1, (-1, stride)).sum(2)
        return around.transpose(1, 2) + within

    def _layer(self, name: str, x: Tensor, mask: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        qkv = self._linear(f"{name}.qkv", self._norm(f"{name}.attention_norm", x))
        q, k, v = qkv.unflatten(2, (3, self.config.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = (t * cosine + self._turn(t) * sine for t in (q, k))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        x = x + self._linear(f"{name}.output", mixed.transpose(1, 2).flatten(2))
        gate, wide = self._linear(f"{name}.up", self._norm(f"{name}.ffn_norm", x)).chunk(2, -1)
        return x + self._linear(f"{name}.down", F.gelu(gate) * wide)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        return F.layer_norm(x, weight.shape, weight, bias, self.config.norm_eps)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _rotary(self, length: int) -> tuple[Tensor, Tensor]:
        head_dim = self.config.dim // self.config.heads
        frequencies = self.config.rotary_base ** (
            -torch.arange(0, head_dim, 2, device=self.device) / head_dim
        )
        angles = torch.outer(torch.arange(length, device=self.device), frequencies).repeat_interleave(2, 1)
        return angles.cos(), angles.sin()

    @staticmethod
    def _turn(x: Tensor) -> Tensor:
        return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
