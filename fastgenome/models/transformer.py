"""One transformer encoder for every attention-based family, on packed ids.

A batch is `ids` (total,) and `offsets` (n + 1,): no padding and no attention mask. The residual stream, norms
and softmax are float32; with bfloat16 weights only the matrix products are bfloat16.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, get_args, get_origin

import torch
from torch import Tensor, nn

from fastgenome import ops
from fastgenome.adapters.linear import AdapterLinear
from fastgenome.errors import ArgumentError
from fastgenome.models.attention import attention_received, packed_attention, rotary_table, rotate
from fastgenome.models.encoder import HiddenStates, Packing, layer_indices, packing_of
from fastgenome.models.stem import BASES, BaseStem, EmbeddingStem
from fastgenome.ops import Activation

Positions = Literal["learned", "rotary", "alibi", "none"]
FeedForward = Literal["gelu", "gelu_tanh", "relu", "geglu", "swiglu"]

# Gated networks apply the activation to the first half of the rows.
_GATES: dict[str, Activation] = {"geglu": "gelu", "swiglu": "silu"}


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a packed transformer.

    `ffn_dim` is the width between the two feed-forward products (of one half for geglu and swiglu).
    Learned positions need `max_positions`; the table has `position_offset` more rows. Rotary weights pair
    neighbouring features (see `interleave_rotary`). With `embedding_dim` the embeddings have that width, and
    a projection leads to `dim` before the first layer and back after the last. With `mask_id` the embeddings
    are scaled as ESM does after training with masked tokens (see `_scale_for_masks`). With `pad_id` those
    ids, where a caller passes any, take the position `pad_id` and are not counted. A `stem_stride` above 1
    asks for a `BaseStem` that joins so many bases into one row, with k-mers of `stem_k` and a window of
    `stem_window` bases; ids are bases.
    """

    vocabulary_size: int
    dim: int
    layers: int
    heads: int
    ffn_dim: int
    positions: Positions = "rotary"
    max_positions: int | None = None
    position_offset: int = 0
    rotary_base: float = 10000.0
    norm: Literal["pre", "post"] = "pre"
    norm_type: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-5
    norm_bias: bool = True
    activation: FeedForward = "gelu"
    causal: bool = False
    qkv_bias: bool = True
    output_bias: bool = True
    up_bias: bool = True
    down_bias: bool = True
    embedding_norm: bool = False
    final_norm: bool = False
    token_types: int = 0
    embedding_dim: int | None = None
    mask_id: int | None = None
    pad_id: int | None = None
    stem_stride: int = 1
    stem_k: int = 6
    stem_window: int = 24

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("vocabulary_size", "dim", "heads", "ffn_dim", "stem_stride"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.layers < 0 or self.token_types < 0 or self.position_offset < 0:
            raise ArgumentError("layers, token_types and position_offset must not be negative")
        if self.dim % self.heads:
            raise ArgumentError(f"dim must be a multiple of heads, got dim={self.dim}, heads={self.heads}")
        if self.positions == "rotary" and (self.dim // self.heads) % 2:
            raise ArgumentError(f"rotary positions need an even dim / heads, got {self.dim // self.heads}")
        if self.positions == "learned" and not self.max_positions:
            raise ArgumentError("positions='learned' needs max_positions")
        if self.stem_stride > 1:
            self._check_stem()

    def _check_stem(self) -> None:
        if self.vocabulary_size != BASES + 1:
            raise ArgumentError(
                f"a stem of bases needs vocabulary_size={BASES + 1}, got {self.vocabulary_size}"
            )
        if not 1 <= self.stem_k <= 8:
            raise ArgumentError(f"stem_k must lie in 1 … 8, got {self.stem_k}")
        # The k-mers of a row are read off its window.
        if self.stem_window - (self.stem_window - self.stem_stride) // 2 < self.stem_stride + self.stem_k - 1:
            raise ArgumentError(
                f"stem_window must reach stem_k - 1 = {self.stem_k - 1} bases beyond the row on both sides, "
                f"got stem_window={self.stem_window} with stem_stride={self.stem_stride}"
            )


def check_fields(config: Any) -> None:
    """Compare every value of a configuration, which may come from a file, with the type of its field."""
    for field in fields(config):
        value: Any = getattr(config, field.name)
        kind: Any = field.type
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                raise ArgumentError(f"{field.name} must be one of {get_args(kind)}, got {value!r}")
            continue
        accepted: Any = {float: (int, float), tuple[int, ...]: tuple}.get(kind, kind)
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            name = getattr(kind, "__name__", kind)
            raise ArgumentError(f"{field.name} must be of type {name}, got {value!r}")


def _make_stem(config: TransformerConfig) -> nn.Module:
    if config.stem_stride == 1:
        return EmbeddingStem(config.vocabulary_size, config.embedding_dim or config.dim)
    return BaseStem(config.dim, stride=config.stem_stride, window=config.stem_window, k=config.stem_k)


def make_norm(config: TransformerConfig) -> nn.Module:
    """The norm that a configuration asks for, over (…, dim)."""
    if config.norm_type == "rms":
        return nn.RMSNorm(config.dim, eps=config.norm_eps)
    return nn.LayerNorm(config.dim, eps=config.norm_eps, bias=config.norm_bias)


def linear(layer: nn.Linear, x: Tensor, activation: Activation = "none") -> Tensor:
    """Apply a linear layer in the type of its weights, so that a float32 stream may feed bfloat16 weights."""
    if _is_plain(layer):
        return ops.linear(x, layer.weight, layer.bias, activation)
    return ops.activate(layer(x.to(layer.weight.dtype)), activation)


def _is_plain(layer: nn.Module) -> bool:
    """Whether nothing but the product happens in a layer: no adapter acts in its place, no hook on it."""
    plain = type(layer) is nn.Linear or (isinstance(layer, AdapterLinear) and layer.idle)
    return plain and not (layer._forward_hooks or layer._forward_pre_hooks)


def gated_linear(layer: nn.Linear, x: Tensor, activation: Activation) -> Tensor:
    """Apply a linear layer whose first half of outputs, activated, weighs the second."""
    if _is_plain(layer):
        return ops.gated_linear(x, layer.weight, layer.bias, activation)
    gate, value = layer(x.to(layer.weight.dtype)).chunk(2, -1)
    product: Tensor = ops.activate(gate, activation) * value
    return product


class TransformerLayer(nn.Module):
    """Attention and feed-forward network, each with its residual connection and norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim, gated = config.dim, config.activation in ("geglu", "swiglu")
        self.heads = config.heads
        self.activation = config.activation
        self.pre_norm = config.norm == "pre"
        self.causal = config.causal
        self.alibi = config.positions == "alibi"
        self.attention_norm = make_norm(config)
        self.qkv = nn.Linear(dim, 3 * dim, bias=config.qkv_bias)
        self.output = nn.Linear(dim, dim, bias=config.output_bias)
        self.ffn_norm = make_norm(config)
        self.up = nn.Linear(dim, (2 if gated else 1) * config.ffn_dim, bias=config.up_bias)
        self.down = nn.Linear(config.ffn_dim, dim, bias=config.down_bias)

    def forward(self, x: Tensor, packing: Packing, rotations: Tensor | None) -> Tensor:
        """(rows, dim) -> (rows, dim); `rotations` (rows, head_dim / 2) where positions are rotary."""
        if self.pre_norm:
            x = x + self._attend(self.attention_norm(x), packing, rotations)
            return x + self._feed_forward(self.ffn_norm(x))
        x = self.attention_norm(x + self._attend(x, packing, rotations))
        x = self.ffn_norm(x + self._feed_forward(x))
        return x

    def attention_received(self, x: Tensor, packing: Packing, rotations: Tensor | None) -> Tensor:
        """What each row of the layer's input receives, (rows,): the mean over heads and queries."""
        query, key, _ = self._query_key_value(self.attention_norm(x) if self.pre_norm else x, rotations)
        return attention_received(query, key, packing, causal=self.causal, alibi=self.alibi)

    def _attend(self, x: Tensor, packing: Packing, rotations: Tensor | None) -> Tensor:
        query, key, value = self._query_key_value(x, rotations)
        mixed = packed_attention(query, key, value, packing, causal=self.causal, alibi=self.alibi)
        return linear(self.output, mixed)

    def _query_key_value(self, x: Tensor, rotations: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(rows, heads, head_dim) each."""
        qkv = linear(self.qkv, x).view(len(x), 3, self.heads, x.shape[1] // self.heads)
        if rotations is None:
            query, key, value = qkv.unbind(1)
            return query, key, value
        query_key, value = torch.split(qkv, [2, 1], 1)
        query, key = rotate(query_key, rotations).unbind(1)
        return query, key, value.squeeze(1)

    def _feed_forward(self, x: Tensor) -> Tensor:
        if self.activation in _GATES:
            wide = gated_linear(self.up, x, _GATES[self.activation])
        else:
            wide = linear(self.up, x, cast(Activation, self.activation))
        return linear(self.down, wide)


class Transformer(nn.Module):
    """A packed transformer: ids in, hidden states of chosen layers out. Trains through the same code."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        outer = config.embedding_dim or config.dim
        self.vocabulary_size = config.vocabulary_size
        self.has_attention = True
        self.widths = (config.dim,) * config.layers + (outer,)
        self.stride = config.stem_stride
        self.stem = _make_stem(config)
        if config.positions == "learned":
            rows = (config.max_positions or 0) + config.position_offset
            self.position_embeddings = nn.Embedding(rows, config.dim)
        if config.token_types:
            self.token_type_embeddings = nn.Embedding(config.token_types, config.dim)
        if config.embedding_dim:
            self.project_in = nn.Linear(config.embedding_dim, config.dim, bias=False)
            self.project_out = nn.Linear(config.dim, config.embedding_dim, bias=False)
        self.embedding_norm = make_norm(config) if config.embedding_norm else nn.Identity()
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.final_norm = make_norm(config) if config.final_norm else nn.Identity()

    def forward(
        self,
        ids: Tensor,
        offsets: Tensor,
        layers: Sequence[int] = (-1,),
        token_types: Tensor | None = None,
        *,
        attention: bool = False,
    ) -> HiddenStates:
        """Hidden states of a packed batch, float32, and with `attention` the attention that rows receive.

        `ids` (total,) int32 or int64 on the model's device, `offsets` (n + 1,) int64 on the CPU,
        `token_types` (rows,) or None for type 0. `layers`: 0 is the embedding output, `n_layers` or -1 the
        last layer, after the final norm where there is one. Layers above the highest wanted are not run.
        """
        wanted = layer_indices(layers, len(self.widths))
        if attention and 0 in wanted:
            raise ArgumentError("layer 0, the embedding output, has no attention")
        x, offsets = self.stem(ids, offsets)
        packing = packing_of(offsets, x.device)
        x = self._embed(x, ids, packing, token_types)
        rotations = self._rotations(packing)
        states, received = {0: x}, {}
        last = len(self.layers)
        for index in range(1, max(wanted, default=0) + 1):
            layer = cast(TransformerLayer, self.layers[index - 1])
            if attention and index in wanted:
                received[index] = layer.attention_received(x, packing, rotations)
            x = layer(x, packing, rotations)
            if index in wanted:
                states[index] = self._finish(x) if index == last else x
        weights = tuple(received[index] for index in wanted) if attention else ()
        return HiddenStates(tuple(states[index] for index in wanted), offsets, weights)

    def _finish(self, x: Tensor) -> Tensor:
        x = self.final_norm(x)
        return linear(self.project_out, x).float() if self.config.embedding_dim else x

    def _embed(self, x: Tensor, ids: Tensor, packing: Packing, token_types: Tensor | None) -> Tensor:
        if self.config.mask_id is not None:
            x = _scale_for_masks(x, ids == self.config.mask_id, packing)
        if self.config.embedding_dim:
            x = linear(self.project_in, x).float()
        if self.config.positions == "learned":
            x = x + self.position_embeddings(self._learned_positions(ids, packing))
        if self.config.token_types:
            types = token_types if token_types is not None else torch.zeros_like(packing.positions)
            if types.shape != packing.positions.shape or not _within(types, self.config.token_types):
                raise ArgumentError(
                    f"token_types must be one number below {self.config.token_types} for each of "
                    f"{len(packing.positions)} tokens"
                )
            x = x + self.token_type_embeddings(types)
        elif token_types is not None:
            raise ArgumentError("this model has no token types")
        embedded: Tensor = self.embedding_norm(x)
        return embedded

    def _learned_positions(self, ids: Tensor, packing: Packing) -> Tensor:
        """Row of the position table for each token, (rows,)."""
        longest = max((run.length for run in packing.runs), default=0)
        if longest > (self.config.max_positions or 0):
            raise ArgumentError(
                f"a sequence has {longest} tokens, the position table ends at {self.config.max_positions}"
            )
        rows = packing.positions + self.config.position_offset
        if self.config.pad_id is None:
            return rows
        pads = ids == self.config.pad_id
        if not pads.any():
            return rows
        before = pads.long().cumsum(0)
        first = torch.arange(len(ids), device=ids.device) - packing.positions
        before = before - before[first] + pads[first].long()  # pads of the same sequence so far
        return torch.where(pads, self.config.pad_id, rows - before)

    def _rotations(self, packing: Packing) -> Tensor | None:
        """(rows, head_dim / 2) complex64, or None where positions are not rotary."""
        if self.config.positions != "rotary" or not packing.runs:
            return None
        longest = max(run.length for run in packing.runs)
        head_dim = self.config.dim // self.config.heads
        table = rotary_table(longest, head_dim, self.config.rotary_base, packing.positions.device)
        return table[packing.positions]


def _within(numbers: Tensor, end: int) -> bool:
    return not len(numbers) or (int(numbers.min()) >= 0 and int(numbers.max()) < end)


def _scale_for_masks(x: Tensor, masked: Tensor, packing: Packing) -> Tensor:
    """ESM's token dropout in evaluation: masked embeddings are 0, the others scaled to make up for it.

    The factor is (1 - 0.12) / (1 - share of masked tokens in the sequence): 80 % of the 15 % of tokens that
    training hides are masked.
    """
    shares = [masked.new_zeros(0, dtype=torch.float32)]
    for run in packing.runs:
        rows = masked[run.start : run.start + run.sequences * run.length].view(run.sequences, run.length)
        shares.append(rows.float().mean(1).repeat_interleave(run.length))
    factor = (1 - 0.15 * 0.8) / (1 - torch.cat(shares))
    return x.masked_fill(masked[:, None], 0.0) * factor[:, None]


def cast_products(module: nn.Module, dtype: torch.dtype) -> None:
    """Give the weights of all linear layers this type; embeddings and norms stay float32.

    A weight that is shared with an embedding becomes its own where the types differ.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            for name, parameter in part.named_parameters(recurse=False):
                if parameter.dtype != dtype:
                    cast = nn.Parameter(parameter.detach().to(dtype), requires_grad=parameter.requires_grad)
                    setattr(part, name, cast)
