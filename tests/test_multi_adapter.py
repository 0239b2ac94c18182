"""Many adapters in one packed batch: every path against float64, sequence by sequence."""

import re
import sys
from collections.abc import Callable

import pytest
import torch
from kernel_checks import ROOT, main, run_check
from test_adapter_linear import poison_new_tensors, scaled
from torch import Tensor

from fastgenome import ops
from fastgenome.errors import ArgumentError
from fastgenome.kernels import reference

# Lengths of sequences and their adapters, of four.
BATCHES = {
    "mixed": ((40, 0, 5, 35, 1, 19), (2, 0, -1, 0, 2, 1)),
    "sorted": ((20, 33, 7, 40), (0, 0, 1, 2)),
    "none has one": ((33, 8), (-1, -1)),
    "one for all": ((64, 1, 30), (1, 1, 1)),
    "alternating": ((3, 2, 1, 4) * 5, (0, -1, 1, 3) * 5),
    "no sequence": ((), ()),
    "no rows": ((0, 0), (0, 1)),
}
INNER, OUTER, ADAPTERS = 33, 65, 4


def make_inputs(name: str, rank: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """x, weight, bias in `dtype`, down, up, scale in float32; offsets, index; the output's gradient."""
    lengths, index = BATCHES[name]
    generator = torch.Generator().manual_seed(rank)
    total = sum(lengths)
    shapes = [(total, INNER), (OUTER, INNER), (OUTER,), (ADAPTERS, rank, INNER), (ADAPTERS, OUTER, rank)]
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    for tensor in (tensors[1], tensors[3]):
        tensor /= INNER**0.5
    inputs = [*(t.to(dtype) for t in tensors[:3]), *tensors[3:], torch.tensor([0.5, 1.0, 2.0, 1.0])]
    gradient = torch.randn(total, OUTER, generator=generator).to(dtype)
    return inputs, torch.tensor([0, *lengths]).cumsum(0), torch.tensor(index, dtype=torch.int64), gradient


def definition(x, weight, bias, offsets, index, *, down, up, scale) -> Tensor:
    """What each sequence's adapter adds, in the type of the weights."""
    added = [x.new_zeros(0, len(weight))]
    for number, adapter in enumerate(index.tolist()):
        rows = x[offsets[number] : offsets[number + 1]]
        a, b = (matrices[max(adapter, 0)].to(x.dtype) for matrices in (down, up))
        factor = scale[adapter].to(x.dtype) if adapter >= 0 else 0
        added.append(factor * (rows @ a.T @ b.T))
    return x @ weight.T + bias + torch.cat(added)


def results(function: Callable[..., Tensor], name: str, rank: int, dtype: torch.dtype, exact: bool) -> list:
    """Output and gradients of all tensors but the scale, in float64 if `exact`."""
    (*inputs, scale), offsets, index, gradient = make_inputs(name, rank, dtype)
    leaves = [(t.double() if exact else t).requires_grad_() for t in inputs]
    x, weight, bias, down, up = leaves
    y = function(x, weight, bias, offsets, index, down=down, up=up, scale=scale)
    gradients = torch.autograd.grad(y, leaves, gradient.to(y.dtype), allow_unused=True)
    zeros = [torch.zeros_like(t) if g is None else g for t, g in zip(leaves, gradients, strict=True)]
    assert y.dtype == leaves[1].dtype
    return [y.detach(), *zeros]


def assert_no_worse(function: Callable[..., Tensor], name: str, rank: int, dtype: torch.dtype) -> None:
    """At most twice the error of the definition in the same type, or a rounding as of the largest result."""
    found, peers = (results(way, name, rank, dtype, exact=False) for way in (function, definition))
    truths = results(definition, name, rank, dtype, exact=True)
    for part in (slice(1), slice(1, None)):  # the output, the gradients
        ours, peer, truth = (scaled(tensors[part], truths[part]) for tensors in (found, peers, truths))
        assert ours.shape == truth.shape
        for norm in (torch.inf, 2) if len(truth) else ():
            errors = [float(torch.linalg.vector_norm(t - truth, norm)) for t in (ours, peer)]
            rounding = torch.finfo(dtype).eps / 2 * len(truth) ** (1 / norm)
            assert errors[0] <= 2 * max(errors[1], rounding), (name, rank, part, norm, errors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rank", [1, 8, 12])
@pytest.mark.parametrize("name", BATCHES)
def test_multi_adapter_linear_is_no_worse_than_its_definition(
    name: str, rank: int, dtype: torch.dtype
) -> None:
    for function in (ops.multi_adapter_linear, reference.multi_adapter_linear):
        assert_no_worse(function, name, rank, dtype)


def test_multi_adapter_linear_has_the_gradients_of_its_values() -> None:
    inputs, offsets, index, _ = make_inputs("alternating", 2, torch.float64)
    leaves = [t.double().requires_grad_() for t in inputs]

    def function(x, weight, bias, down, up, scale) -> Tensor:
        return ops.multi_adapter_linear(x, weight, bias, offsets, index, down=down, up=up, scale=scale)

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


def test_multi_adapter_linear_does_not_depend_on_the_batch() -> None:
    (x, weight, bias, down, up, scale), offsets, index, _ = make_inputs("mixed", 8, torch.float32)
    adapters = {"down": down, "up": up, "scale": scale}
    whole = ops.multi_adapter_linear(x, weight, bias, offsets, index, **adapters)
    for number, (a, b) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        alone = ops.multi_adapter_linear(
            x[a:b], weight, bias, torch.tensor([0, b - a]), index[number : number + 1], **adapters
        )
        torch.testing.assert_close(alone, whole[a:b], rtol=0, atol=1e-5)


def test_multi_adapter_linear_refuses_what_does_not_fit() -> None:
    (x, weight, bias, down, up, scale), offsets, index, _ = make_inputs("mixed", 8, torch.float32)

    def call(x=x, offsets=offsets, index=index, **changes):
        adapters = {"down": down, "up": up, "scale": scale} | changes
        return ops.multi_adapter_linear(x, weight, bias, offsets, index, **adapters)

    for message, changes in (
        ("x must be", {"x": x[:, :5]}),
        ("down, up and scale", {"up": up[:3]}),
        ("down, up and scale", {"scale": scale[:3]}),
        ("one of 4 adapters", {"index": index + 2}),
        ("one of 4 adapters", {"index": index - 1}),
        ("one of 4 adapters", {"index": index[:3]}),
        ("rise from 0", {"offsets": offsets + 1}),
        ("rise from 0", {"x": x[:50]}),
        ("rise from 0", {"offsets": offsets[[0, 3, 1, 2, 4, 5, 6]]}),
    ):
        with pytest.raises(ArgumentError, match=message):
            call(**changes)


# In the interpreter, which is chosen when triton is imported: each check is run in a process of its own.


def check_kernel(dtype: torch.dtype) -> None:
    from fastgenome.kernels.multi_adapter import multi_adapter_linear

    poison_new_tensors()
    for name in BATCHES:
        for rank in (3, 8):
            assert_no_worse(multi_adapter_linear, name, rank, dtype)


def check_float32() -> None:
    check_kernel(torch.float32)


def check_float16() -> None:
    check_kernel(torch.float16)


def check_registration() -> None:
    """What torch.library asks of an operator: schema, fake implementations, autograd, tracing."""
    from fastgenome.kernels import multi_adapter as module

    inputs, offsets, index, gradient = make_inputs("mixed", 3, torch.float32)
    x, weight, bias, down, up, scale = inputs
    table = module._blocks(tuple(offsets.tolist()), tuple(index.tolist()), ADAPTERS, x.device)
    tensors = [x, x @ weight.T + bias, down, module.scaled_up(up, scale)]
    low = module._adapters(*tensors, *table)[1]
    torch.library.opcheck(module._adapters_backward, (gradient, x, low, *tensors[2:], *table))
    for tensor in tensors:
        tensor.requires_grad_()
    torch.library.opcheck(module._adapters, (*tensors, *table))


def check_training_after_prediction() -> None:
    """What prediction leaves in the cache serves a backward pass."""
    from fastgenome.kernels.multi_adapter import multi_adapter_linear

    with torch.inference_mode():
        (x, weight, bias, down, up, scale), offsets, index, _ = make_inputs("mixed", 3, torch.float32)
        multi_adapter_linear(x, weight, bias, offsets, index, down=down, up=up, scale=scale)
    (x, weight, bias, down, up, scale), offsets, index, gradient = make_inputs("mixed", 3, torch.float32)
    down.requires_grad_()
    output = multi_adapter_linear(x, weight, bias, offsets, index, down=down, up=up, scale=scale)
    output.backward(gradient)
    assert down.grad is not None


def check_refusals() -> None:
    from fastgenome.kernels.multi_adapter import multi_adapter_linear

    (x, weight, bias, down, up, scale), offsets, index, _ = make_inputs("mixed", 8, torch.float32)
    for message, given in {
        "share one type": (x.double(), weight),
        "GPU": (x.bfloat16(), weight.bfloat16()),
    }.items():
        with pytest.raises(ArgumentError, match=message):
            multi_adapter_linear(*given, bias, offsets, index, down=down, up=up, scale=scale)


def check_compiled() -> None:
    """For GPUs that are not here: what Triton makes of the kernels."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from fastgenome.kernels import multi_adapter as module

    constants = {"BLOCK_RANK": 16, "BLOCK_ROWS": module.BLOCK_ROWS, "BLOCK_COLUMNS": module.BLOCK_COLUMNS}
    for capability, dtype in ((90, "bf16"), (80, "fp16"), (80, "fp32")):
        for kernel in (module._down_kernel, module._up_kernel, module._projection_gradient_kernel):
            types = {"blocks": "*i64", "firsts": "*i64", "width": "i32", "rank": "i32"}
            types |= dict.fromkeys(constants, "constexpr")
            if kernel is module._projection_gradient_kernel:
                types["output"] = "*fp32"
            signature = {name: types.get(name, f"*{dtype}") for name in kernel.arg_names}
            source = ASTSource(kernel, signature, constants)
            code = triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]
            assert not re.search(r"\b(atom|red)\.", code)
            assert ("mma" in code) == (dtype != "fp32"), "float32 products must not be rounded to tf32"


INTERPRETED = (
    "check_float32",
    "check_float16",
    "check_registration",
    "check_training_after_prediction",
    "check_refusals",
)


@pytest.mark.parametrize("check", [*INTERPRETED, "check_compiled"])
def test_multi_adapter_kernel(check: str) -> None:
    run_check(__file__, check, interpreted=check in INTERPRETED)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(globals())
