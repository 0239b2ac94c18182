"""The one place that chooses between a kernel and its plain PyTorch definition."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgenome.kernels import reference
from fastgenome.kernels.reference import LowRank as LowRank
from fastgenome.kernels.reference import RangeReduction

Activation = Literal["none", "gelu", "gelu_tanh", "relu", "silu"]

# What oneDNN calls them: name and algorithm.
_FUSED = {
    "none": ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation = "none") -> Tensor:
    """activation(x Wᵀ + b): (rows, in) -> (rows, out) in the type of the weights.

    On a CPU without gradients oneDNN applies the activation while the product is in its registers, in
    float32; elsewhere it is a pass of its own.
    """
    x = x.to(weight.dtype)
    if _is_fused(x, weight):
        name, algorithm = _FUSED[activation]
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
        return fused
    return activate(F.linear(x, weight, bias), activation)


def gated_linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation) -> Tensor:
    """activation(x W₁ᵀ + b₁) ⊙ (x W₂ᵀ + b₂), W₁ and W₂ being the halves of `weight` (2 out, in).

    (rows, in) -> (rows, out) in the type of the weights.
    """
    x = x.to(weight.dtype)
    if not _is_fused(x, weight):
        gate, value = F.linear(x, weight, bias).chunk(2, -1)
        return activate(gate, activation) * value
    first, second = weight.chunk(2)
    biases = bias.chunk(2) if bias is not None else (None, None)
    gate = linear(x, first, biases[0], activation)
    product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, gate, second, biases[1], "mul")
    return product


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
    """gain ⊙ (x Wᵀ + Σ scale · ((drop(x) Aᵀ) ⊙ λ) Bᵀ) + b: (rows, in) -> (rows, out)."""
    x = x.to(weight.dtype)
    y = F.linear(x, weight)
    if dropout:
        kept = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) >= dropout
        x = x * kept.to(x.device) / (1 - dropout)
    for down, up, values, start, scale in branches:
        low = F.linear(x, down.to(x.dtype)) * scale
        low = low if values is None else low * values.to(x.dtype)
        y = y + F.pad(F.linear(low, up.to(x.dtype)), (start, y.shape[1] - start - len(up)))
    y = y if gain is None else y * gain.to(y.dtype)
    return y if bias is None else y + bias


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


def _is_fused(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN takes this product with what follows it."""
    if x.device.type != "cpu" or weight.device.type != "cpu" or x.dim() != 2 or not len(x):
        return False
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
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


def range_pool(states: Tensor, starts: Tensor, ends: Tensor, reduction: RangeReduction) -> Tensor:
    """Reduce ranges [start, end) of rows of `states` (total, dim) to (ranges, dim) float32.

    Ranges, (ranges,) int64 on the device of the states, may overlap and come in any order; an empty one
    gives zeros. On CUDA the Triton kernel runs, elsewhere plain PyTorch; both have gradients.
    """
    if states.is_cuda and _has_triton():
        from fastgenome.kernels.range_pool import range_pool as kernel

        return kernel(states, starts, ends, reduction)
    return reference.range_pool(states, starts, ends, reduction)


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
    types = (torch.float32, torch.float16, torch.bfloat16)
    return query.dtype in types and query.shape[2] <= 128 and _has_triton()


@lru_cache(maxsize=16)
def _bounds_on(device: torch.device, offsets: tuple[int, ...]) -> tuple[Tensor, int]:
    """Offsets (n + 1,) int32 on the device, one copy for all layers of a model, and the longest sequence."""
    with torch.inference_mode(False):
        bounds = torch.tensor(offsets, dtype=torch.int32)
        return bounds.to(device), int(bounds.diff().max())


def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None
