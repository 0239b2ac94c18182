"""The peers of the model benchmarks: padded batches with an attention mask, as scripts run models today.

DNABERT is transformers' own BertModel and the Nucleotide Transformer its EsmModel with the gated layers of v2
put in. DNABERT-2 is written out, since its published code does not load any more.
"""

import copy
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fastgenome.tokenizers import Tokens

# (batch, length) ids and mask -> (batch, length, dim)
Network = Callable[[Tensor, Tensor], Tensor]
Weights = Mapping[str, Tensor]

_CPU = torch.device("cpu")


def embed_padded(
    network: Network,
    tokens: Tokens,
    *,
    batch_size: int,
    by_length: bool,
    device: torch.device = _CPU,
) -> NDArray[np.float32]:
    """Mean over all tokens of the last layer, in batches in the given order or in that of the lengths."""
    lengths = tokens.lengths
    order = np.argsort(lengths, kind="stable") if by_length else np.arange(len(lengths))
    rows = [torch.from_numpy(row).long() for row in np.split(tokens.ids, tokens.offsets[1:-1])]
    embeddings: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            ids = nn.utils.rnn.pad_sequence([rows[i] for i in batch], batch_first=True)
            mask = torch.arange(ids.shape[1]) < torch.from_numpy(lengths[batch])[:, None]
            ids, mask = ids.to(device), mask.to(device)
            states = network(ids, mask).float()
            weight = mask[..., None].float()
            pooled = ((states * weight).sum(1) / weight.sum(1)).cpu().numpy()
            if embeddings is None:
                embeddings = np.empty((len(order), pooled.shape[1]), np.float32)
            embeddings[batch] = pooled
    assert embeddings is not None
    return embeddings


class DnaBert:
    """transformers' own BertModel."""

    def __init__(self, config: Mapping[str, int]) -> None:
        from transformers import BertConfig, BertModel

        self.model = BertModel(BertConfig(**config, attn_implementation="sdpa"), add_pooling_layer=False)
        self.weights = {f"bert.{name}": weight for name, weight in self.model.state_dict().items()}

    def network(self, dtype: torch.dtype, device: torch.device = _CPU) -> Network:
        return _as_network(self.model, dtype, device)


class NucleotideTransformer:
    """transformers' EsmModel with the gated layers of v2."""

    def __init__(self, config: Mapping[str, int]) -> None:
        from transformers import EsmConfig, EsmModel

        settings = {"pad_token_id": 1, "mask_token_id": 2, "token_dropout": False}
        model = EsmModel(EsmConfig(**config, **settings, attn_implementation="sdpa"), add_pooling_layer=False)
        dim, inner = config["hidden_size"], config["intermediate_size"]
        for layer in model.encoder.layer:
            layer.intermediate = _GatedIntermediate(dim, inner)
            layer.output.dense = nn.Linear(inner, dim, bias=False)
        self.model = model
        self.weights = {f"esm.{name}": weight for name, weight in model.state_dict().items()}

    def network(self, dtype: torch.dtype, device: torch.device = _CPU) -> Network:
        return _as_network(self.model, dtype, device)


class _GatedIntermediate(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, 2 * inner, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dense(x).chunk(2, -1)
        return F.silu(gate) * value


def _as_network(model: nn.Module, dtype: torch.dtype, device: torch.device) -> Network:
    cast = copy.deepcopy(model).eval().to(device, dtype)
    return lambda ids, mask: cast(input_ids=ids, attention_mask=mask).last_hidden_state


def _eager_attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + attn_mask, -1) @ v


class DnaBert2:
    """MosaicBERT with one additive bias of ALiBi and mask for each batch."""

    def __init__(self, config: Mapping[str, int]) -> None:
        dim, inner = config["hidden_size"], config["intermediate_size"]
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        powers = [2.0 ** (-8 * i / 8) for i in range(1, 9)] + [2.0 ** -(i + 0.5) for i in range(4)]
        assert self.heads == len(powers)
        self.slopes = torch.tensor(powers)
        weights = {
            "bert.embeddings.word_embeddings.weight": torch.randn(config["vocab_size"], dim) * 0.02,
            "bert.embeddings.token_type_embeddings.weight": torch.randn(2, dim) * 0.02,
        }
        norms, products = {"embeddings.LayerNorm"}, {}
        for index in range(self.layers):
            layer = f"encoder.layer.{index}"
            norms |= {f"{layer}.attention.output.LayerNorm", f"{layer}.mlp.layernorm"}
            products[f"{layer}.attention.self.Wqkv"] = (3 * dim, dim)
            products[f"{layer}.attention.output.dense"] = (dim, dim)
            products[f"{layer}.mlp.gated_layers"] = (2 * inner, dim)
            products[f"{layer}.mlp.wo"] = (dim, inner)
        for name in norms:
            weights |= {f"bert.{name}.weight": torch.ones(dim), f"bert.{name}.bias": torch.zeros(dim)}
        for name, shape in products.items():
            weights[f"bert.{name}.weight"] = torch.randn(shape) * 0.02
            if not name.endswith("gated_layers"):
                weights[f"bert.{name}.bias"] = torch.zeros(shape[0])
        self.weights = weights

    def network(self, dtype: torch.dtype, device: torch.device = _CPU, *, eager: bool = False) -> Network:
        """With `eager`, attention is three steps on a (batch, heads, length, length) tensor, as published."""
        cast = {name.removeprefix("bert."): weight.to(device, dtype) for name, weight in self.weights.items()}
        slopes = self.slopes.to(device)
        return lambda ids, mask: _DnaBert2Batch(cast, self.layers, slopes, mask, eager).run(ids)


class _DnaBert2Batch:
    """One padded batch."""

    def __init__(self, weights: Weights, layers: int, slopes: Tensor, mask: Tensor, eager: bool) -> None:
        self.weights, self.layers, self.heads = weights, layers, len(slopes)
        self.attend = _eager_attention if eager else F.scaled_dot_product_attention
        place = torch.arange(mask.shape[1], device=mask.device)
        bias = -slopes[:, None, None] * (place[:, None] - place).abs()
        bias = bias + torch.where(mask, 0.0, -torch.inf)[:, None, None]
        self.bias = bias.to(weights["embeddings.word_embeddings.weight"].dtype)

    def run(self, ids: Tensor) -> Tensor:
        x = F.embedding(ids, self.weights["embeddings.word_embeddings.weight"])
        x = self._norm("embeddings.LayerNorm", x + self.weights["embeddings.token_type_embeddings.weight"][0])
        for index in range(self.layers):
            x = self._layer(f"encoder.layer.{index}", x)
        return x

    def _layer(self, name: str, x: Tensor) -> Tensor:
        qkv = self._linear(f"{name}.attention.self.Wqkv", x).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = self.attend(q, k, v, attn_mask=self.bias).transpose(1, 2).flatten(2)
        x = self._norm(
            f"{name}.attention.output.LayerNorm", x + self._linear(f"{name}.attention.output.dense", mixed)
        )
        gate, value = self._linear(f"{name}.mlp.gated_layers", x).chunk(2, -1)
        return self._norm(f"{name}.mlp.layernorm", x + self._linear(f"{name}.mlp.wo", F.gelu(gate) * value))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, 1e-12)
