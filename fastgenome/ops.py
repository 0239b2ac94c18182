"""The one place that chooses between a kernel and its plain PyTorch definition."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgenome import frozen_linear
from fastgenome.errors import ArgumentError
from fastgenome.kernels import adapter_composition, multi_adapter_composition, reference
from fastgenome.kernels.reference import LowRank as LowRank
from fastgenome.kernels.reference import RangeReduction
from fastgenome.packed_weights import packed

Activation = Literal["none", "gelu", "gelu_tanh", "relu", "silu"]

# What oneDNN calls them: name and algorithm.
_FUSED = {
    "none": ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
}

_FROZEN = adapter_composition.Products(
    frozen_linear.product, frozen_linear.backward_product, keeps_weights=True
)

_TRITON_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation = "none") -> Tensor:
    """activation(x Wᵀ + b): (rows, in) -> (rows, out) in the type of the weights.

    On a CPU without gradients oneDNN applies the activation while the product is in its registers, in
    float32; elsewhere it is a pass of its own.
    """
    x = x.to(weight.dtype)
    if _is_fused(x, weight, bias):
        # Of one row a copy would give other bits.
        return _fused_linear(x, packed(weight)[0] if len(x) > 1 else weight, bias, activation)
    return activate(_product(x, weight, bias), activation)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b, with gradients of what asks for them."""
    if x.requires_grad and _is_frozen(x, weight, bias):
        return frozen_linear.multiply_frozen(x, weight, bias)
    return F.linear(x, weight, bias)


def gated_linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation) -> Tensor:
    """activation(x W₁ᵀ + b₁) ⊙ (x W₂ᵀ + b₂), W₁ and W₂ being the halves of `weight` (2 out, in).

    (rows, in) -> (rows, out) in the type of the weights.
    """
    x = x.to(weight.dtype)
    if not _is_fused(x, weight, bias):
        gate, value = _product(x, weight, bias).chunk(2, -1)
        return activate(gate, activation) * value
    first, second = packed(weight, 2) if len(x) > 1 else weight.chunk(2)
    biases = bias.chunk(2) if bias is not None else (None, None)
    gate = _fused_linear(x, first, biases[0], activation)
    product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, gate, second, biases[1], "mul")
    return product


def _fused_linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation) -> Tensor:
    name, algorithm = _FUSED[activation]
    fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
    return fused


def activate(x: Tensor, activation: Activation) -> Tensor:
    """The activation of each number."""
    match activation:
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "relu":
            return F.relu(x)
        case "silu":
            return F.silu(x)
        case "none":
            return x


def _is_fused(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN takes this product with what follows it."""
    learns = torch.is_grad_enabled() and (x.requires_grad or _learn(weight, bias))
    return not learns and _fits_onednn(x, weight)


def _is_frozen(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN takes this product in training: the weights do not learn."""
    return not _learn(weight, bias) and not torch.is_autocast_enabled("cpu") and _fits_onednn(x, weight)


def _learn(weight: Tensor, bias: Tensor | None) -> bool:
    return weight.requires_grad or (bias is not None and bias.requires_grad)


def _fits_onednn(x: Tensor, weight: Tensor) -> bool:
    if x.device.type != "cpu" or weight.device.type != "cpu" or x.dim() != 2 or not len(x):
        return False
    return weight.dtype in (torch.float32, torch.bfloat16) and _fuses(weight.dtype)


@cache
def _fuses(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies this type here; for bfloat16 it depends on the processor."""
    x = torch.zeros(1, 2, dtype=dtype)
    try:
        torch.ops.mkldnn._linear_pointwise(x, x, None, "none", [], "")
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return True


def adapter_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    branches: Sequence[LowRank],
    *,
    gain: Tensor | None = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """gain ⊙ (x Wᵀ + Σ scale · ((drop(x) Aᵀ) ⊙ λ) Bᵀ) + bias: (rows, in) -> (rows, out), type of the weights.

    Each branch adds to its own range of output rows; `gain` is (out,). Dropout is inverted, on what the
    branches see alone: one mask per call, a function of (seed, row, column) that is the same on every device.
    All tensors get gradients in their own types. Raises ArgumentError for shapes that do not fit.
    """
    if torch.is_autocast_enabled(x.device.type):
        # The types are chosen here: those of the weights.
        with torch.autocast(x.device.type, enabled=False):
            return adapter_linear(x, weight, bias, branches, gain=gain, dropout=dropout, seed=seed)
    _check_adapter(x, weight, bias, branches, gain=gain, dropout=dropout)
    x = x.to(weight.dtype)
    if _prefers_kernel(x, branches, dropout):
        from fastgenome.kernels.adapter_linear import adapter_linear as kernel

        return kernel(x, weight, bias, branches, gain=gain, dropout=dropout, seed=seed)
    return adapter_composition.adapter_linear(
        x, weight, bias, branches, gain=gain, dropout=dropout, seed=seed, products=_products(x, weight)
    )


def multi_adapter_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offsets: Tensor,
    index: Tensor,
    *,
    down: Tensor,
    up: Tensor,
    scale: Tensor,
) -> Tensor:
    """x Wᵀ + bias + scale_k · (x A_kᵀ) B_kᵀ, where sequence i of the packed batch has adapter k = index[i].

    `x` is (total, in), `offsets` (n + 1,) and `index` (n,) int64 on the CPU, -1 for no adapter; `down` is
    (k, rank, in), `up` (k, out, rank), `scale` (k,). Returns (total, out) in the type of `weight`. On CUDA
    the Triton kernel runs. Raises ArgumentError for shapes and numbers that do not fit.
    """
    _check_adapters(x, weight, offsets, index, down=down, up=up, scale=scale)
    x = x.to(weight.dtype)
    if _fits_triton(x, down.shape[1]):
        from fastgenome.kernels.multi_adapter import multi_adapter_linear as kernel

        return kernel(x, weight, bias, offsets, index, down=down, up=up, scale=scale)
    return multi_adapter_composition.multi_adapter_linear(
        x, weight, bias, offsets, index, down=down, up=up, scale=scale, products=_products(x, weight)
    )


def _products(x: Tensor, weight: Tensor) -> adapter_composition.Products:
    """What multiplies by the weights of an adapted layer, forward and backward."""
    if not torch.is_grad_enabled():
        return adapter_composition.Products(linear)
    if _is_frozen(x, weight, None):
        return _FROZEN
    return adapter_composition.PLAIN


def _prefers_kernel(x: Tensor, branches: Sequence[LowRank], dropout: float) -> bool:
    """Whether the Triton kernel takes an adapted layer, rather than PyTorch's products.

    Without dropout cuBLAS and an update in place leave a kernel little to gain; a mask made by PyTorch would
    cost a dozen passes over the input.
    """
    return dropout > 0 and bool(branches) and _fits_triton(x, sum(len(branch.down) for branch in branches))


def _fits_triton(x: Tensor, rank: int) -> bool:
    """Whether a kernel of adapters takes this type and this many ranks."""
    return x.is_cuda and x.dtype in _TRITON_TYPES and 0 < rank <= 128 and _has_triton()


def _check_adapter(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    branches: Sequence[LowRank],
    *,
    gain: Tensor | None,
    dropout: float,
) -> None:
    out, width = weight.shape
    if bias is not None and bias.shape != (out,):
        raise ArgumentError(f"bias must be ({out},), one number for each output row, got {tuple(bias.shape)}")
    if x.dim() != 2 or x.shape[1] != width:
        raise ArgumentError(f"x must be (rows, {width}) for this weight, got {tuple(x.shape)}")
    if not 0 <= dropout < 1:
        raise ArgumentError(f"dropout must be at least 0 and below 1, got {dropout}")
    if gain is not None and gain.shape != (out,):
        raise ArgumentError(f"gain must be ({out},), one number for each output row, got {tuple(gain.shape)}")
    for down, up, values, start, _ in branches:
        rank = len(down)
        if down.shape != (rank, width) or up.dim() != 2 or up.shape[1] != rank:
            raise ArgumentError(
                f"down and up must be (rank, {width}) and (rows, rank), "
                f"got {tuple(down.shape)}, {tuple(up.shape)}"
            )
        if start < 0 or start + len(up) > out:
            raise ArgumentError(
                f"a branch must lie in output rows 0 to {out}, got {start} to {start + len(up)}"
            )
        if values is not None and values.shape != (rank,):
            raise ArgumentError(f"values must be ({rank},), one for each rank, got {tuple(values.shape)}")


def _check_adapters(
    x: Tensor,
    weight: Tensor,
    offsets: Tensor,
    index: Tensor,
    *,
    down: Tensor,
    up: Tensor,
    scale: Tensor,
) -> None:
    (out, width), count, rank = weight.shape, len(down), down.shape[1]
    if x.dim() != 2 or x.shape[1] != width:
        raise ArgumentError(f"x must be (rows, {width}) for this weight, got {tuple(x.shape)}")
    shapes = tuple(down.shape), tuple(up.shape), tuple(scale.shape)
    if shapes != ((count, rank, width), (count, out, rank), (count,)):
        raise ArgumentError(
            f"down, up and scale must be (k, rank, {width}), (k, {out}, rank) and (k,), got {shapes}"
        )
    if len(index) != len(offsets) - 1 or (
        len(index) and not -1 <= int(index.min()) <= int(index.max()) < count
    ):
        raise ArgumentError(f"index must name one of {count} adapters, or -1, per sequence, got {index}")
    if int(offsets[0]) != 0 or int(offsets[-1]) != len(x) or bool((offsets.diff() < 0).any()):
        raise ArgumentError(f"offsets must rise from 0 to {len(x)}, the number of rows, got {offsets}")


def range_pool(
    states: Tensor,
    starts: Tensor,
    ends: Tensor,
    reduction: RangeReduction,
    *,
    weights: Tensor | None = None,
) -> Tensor:
    """Reduce ranges [start, end) of rows of `states` (total, dim) to (ranges, dim) float32.

    Ranges, (ranges,) int64 on the device of the states, may overlap and come in any order; an empty one
    gives zeros. "weighted" is Σ wᵢ xᵢ / Σ wᵢ for `weights` (total,); a range whose weights sum to zero gives
    NaN or infinities. On CUDA the Triton kernel runs, elsewhere plain PyTorch; both have gradients, of the
    weights too. Raises ArgumentError for weights that are missing, of another shape, or given for another
    reduction.
    """
    if (weights is not None) != (reduction == "weighted") or (
        weights is not None and weights.shape != states.shape[:1]
    ):
        found = None if weights is None else tuple(weights.shape)
        raise ArgumentError(
            f"weights must be ({len(states)},), one for each row, for 'weighted' and None for any other "
            f"reduction, got {found} for {reduction!r}"
        )
    if states.is_cuda and _has_triton():
        from fastgenome.kernels.range_pool import range_pool as kernel

        return kernel(states, starts, ends, reduction, weights=weights)
    return reference.range_pool(states, starts, ends, reduction, weights=weights)


def has_packed_attention(query: Tensor, slopes: bool) -> bool:
    """Whether one kernel takes a whole packed batch of such queries (total, heads, head_dim)."""
    return query.is_cuda and (_fits_varlen(query, slopes) or _fits_kernel(query))


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    *,
    causal: bool = False,
    slopes: Tensor | None = None,
) -> Tensor:
    """Attend within each sequence of a packed batch; `slopes` (heads,) adds the ALiBi bias -slope * |i - j|.

    (total, heads, head_dim) three times -> the same; `offsets` (n + 1,) int64 on the CPU. On CUDA PyTorch's
    own kernel runs where it has what is asked for, else the Triton kernel; elsewhere, or where neither fits,
    plain PyTorch with a table of scores for each sequence. All have gradients.
    """
    if query.is_cuda and len(query) and _fits_varlen(query, slopes is not None):
        from torch.nn.attention.varlen import varlen_attn

        bounds, longest = _bounds_on(query.device, tuple(offsets.tolist()))
        window = (-1, 0 if causal else -1)
        output: Tensor = varlen_attn(query, key, value, bounds, bounds, longest, longest, window_size=window)  # type: ignore[assignment]
        return output
    if query.is_cuda and _fits_kernel(query):
        from fastgenome.kernels.packed_attention import packed_attention as kernel

        return kernel(query, key, value, offsets, causal=causal, slopes=slopes)
    return reference.packed_attention(query, key, value, offsets, causal=causal, slopes=slopes)


def _fits_varlen(query: Tensor, slopes: bool) -> bool:
    """Whether PyTorch's packed attention (FlashAttention 2) takes these queries; it has no slopes."""
    half = query.dtype in (torch.float16, torch.bfloat16)
    return (
        half
        and not slopes
        and query.shape[2] % 8 == 0
        and query.shape[2] <= 256
        and _has_varlen(query.device)
    )


@cache
def _has_varlen(device: torch.device) -> bool:
    """Whether PyTorch's packed attention is built in, in the form of torch 2.11, and runs on this GPU."""
    from inspect import signature

    from torch.nn.attention.varlen import varlen_attn

    if torch.version.hip or not torch.backends.cuda.is_flash_attention_available():
        return False
    return "window_size" in signature(varlen_attn).parameters and (
        torch.cuda.get_device_capability(device) >= (8, 0)
    )


def _fits_kernel(query: Tensor) -> bool:
    return query.dtype in _TRITON_TYPES and query.shape[2] <= 128 and _has_triton()


@lru_cache(maxsize=16)
def _bounds_on(device: torch.device, offsets: tuple[int, ...]) -> tuple[Tensor, int]:
    """Offsets (n + 1,) int32 on the device, one copy for all layers of a model, and the longest sequence."""
    with torch.inference_mode(False):
        bounds = torch.tensor(offsets, dtype=torch.int32)
        return bounds.to(device), int(bounds.diff().max())


def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None
