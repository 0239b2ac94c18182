"""The one place that chooses between a Triton kernel and its plain PyTorch definition."""

from torch import Tensor

from fastgenome.kernels import reference
from fastgenome.kernels.reference import RangeReduction


def range_pool(states: Tensor, starts: Tensor, ends: Tensor, reduction: RangeReduction) -> Tensor:
    """Reduce ranges [start, end) of rows of `states` (total, dim) to (ranges, dim) float32.

    Ranges, (ranges,) int64 on the device of the states, may overlap and come in any order; an empty one
    gives zeros. On CUDA the Triton kernel runs, elsewhere plain PyTorch; both have gradients.
    """
    if states.is_cuda and _has_triton():
        from fastgenome.kernels.range_pool import range_pool as kernel

        return kernel(states, starts, ends, reduction)
    return reference.range_pool(states, starts, ends, reduction)


def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None
