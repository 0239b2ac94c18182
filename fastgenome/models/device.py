"""Where a model runs and in which precision."""

import torch

from fastgenome.errors import ArgumentError

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(device: str | torch.device) -> torch.device:
    """The device named; "auto" is the GPU where CUDA is available, else the CPU.

    Raises ArgumentError for a name that torch does not know or a device that is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError(
            f"device {str(device)!r} cannot be used here; 'auto' takes what there is, 'cpu' always works "
            f"({str(error).splitlines()[0]})"
        ) from error
    return chosen


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The precision of matrix products; "auto" is bfloat16 where the device computes it natively."""
    if dtype == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    chosen = _TYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in _TYPES.values():
        raise ArgumentError(f"dtype must be 'auto', 'float32' or 'bfloat16', got {dtype!r}")
    return chosen


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, not by emulation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Absent before torch 2.11: then the safe answer is no.
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if device.type != "cpu" or capabilities is None:
        return False
    # x86: avx512_bf16, amx_bf16; 64-bit Arm: bf16
    return any(bool(capabilities().get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
