"""Adapted linear layers: every path against float64, the dropout mask against NumPy, the compiled kernels."""

import re
import sys
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
import torch
from kernel_checks import ROOT, main, poison_new_tensors, run_check
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastgenome import ops
from fastgenome.errors import ArgumentError
from fastgenome.kernels import dropout_mask, reference
from fastgenome.kernels.reference import LowRank

SEED = 2**40 + 7


class Case(NamedTuple):
    rows: int
    inner: int
    outer: int
    branches: tuple[tuple[int, int, int, bool], ...]  # first output row, output rows, rank, with values


CASES = {
    "rank 1": Case(63, 63, 63, ((0, 63, 1, False),)),
    "rank 3 with values": Case(500, 63, 500, ((0, 500, 3, True),)),
    "rank 12": Case(500, 1000, 63, ((0, 63, 12, False),)),
    "rank 64 with values": Case(1000, 500, 63, ((0, 63, 64, True),)),
    "query and value": Case(63, 63, 189, ((0, 63, 8, True), (126, 63, 3, False))),
    "branches that overlap": Case(65, 64, 100, ((7, 50, 8, False), (30, 70, 8, True))),
    "no branch": Case(65, 63, 64, ()),
    "one row": Case(1, 63, 65, ((1, 64, 8, True),)),
    "no rows": Case(0, 63, 65, ((1, 64, 8, True),)),
}
# For the interpreter.
SMALL = {
    "rank 1": Case(63, 33, 31, ((0, 31, 1, False),)),
    "rank 12": Case(70, 65, 34, ((0, 34, 12, True),)),
    "query and value": Case(40, 30, 90, ((0, 30, 8, True), (60, 30, 3, False))),
    "rank 64": Case(33, 63, 65, ((2, 60, 64, False),)),
    "one row": Case(1, 63, 65, ((1, 64, 8, True),)),
    "no rows": Case(0, 63, 65, ((1, 64, 8, True),)),
}


class Inputs(NamedTuple):
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    gain: Tensor | None
    branches: list[LowRank]
    gradient: Tensor


def make_inputs(case: Case, *, gain: bool = False, bias: bool = True) -> Inputs:
    """Numbers about 1 in float32; the gain is near 1, where bfloat16 has 8 bits."""
    generator = torch.Generator().manual_seed(case.rows + case.outer)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    branches = [
        LowRank(
            normal(rank, case.inner) / case.inner**0.5,
            normal(rows, rank) / rank**0.5,
            normal(rank) if values else None,
            start,
            0.5 + number,
        )
        for number, (start, rows, rank, values) in enumerate(case.branches)
    ]
    return Inputs(
        normal(case.rows, case.inner),
        normal(case.outer, case.inner) / case.inner**0.5,
        normal(case.outer) if bias else None,
        1 + normal(case.outer) / 8 if gain else None,
        branches,
        normal(case.rows, case.outer),
    )


def definition(x, weight, bias, branches, *, gain=None, dropout=0.0, seed=0) -> Tensor:
    """The formula in the type of the weights, branch by branch."""
    y = x @ weight.T
    seen = x
    if dropout:
        mask = torch.from_numpy(numpy_mask(*x.shape, dropout, seed))
        seen = x * mask / (1 - round(dropout * 65536) / 65536)
    for down, up, values, start, scale in branches:
        low = seen @ down.to(x.dtype).T
        low = low if values is None else low * values.to(x.dtype)
        whole = torch.zeros_like(y)
        whole[:, start : start + len(up)] = scale * (low @ up.to(x.dtype).T)
        y = y + whole
    y = y if gain is None else y * gain.to(x.dtype)
    return y if bias is None else y + bias


def numpy_mask(rows: int, columns: int, dropout: float, seed: int) -> np.ndarray:
    """The mask from unsigned arithmetic, element by element."""

    def mix(words: np.ndarray, folds: tuple[int, ...] = (16, 15, 16)) -> np.ndarray:
        *before, last = folds
        for fold, factor in zip(before, (0x7FEB352D, 0x846CA68B)[-len(before) :], strict=True):
            words = (words ^ words >> np.uint32(fold)) * np.uint32(factor)
        return words ^ words >> np.uint32(last)

    row_key, column_key = (np.uint32(key % 2**32) for key in dropout_mask.keys(seed))
    row = mix(np.arange(rows, dtype=np.uint32) ^ row_key)
    column = mix(np.arange((columns + 1) // 2, dtype=np.uint32) ^ column_key)
    words = mix((row[:, None] ^ column) * np.uint32(0x7FEB352D), (15, 16))
    pairs = np.stack((words & np.uint32(0xFFFF), words >> np.uint32(16)), -1)
    halves = pairs.reshape(rows, words.shape[1] * 2)[:, :columns]
    return halves.astype(np.uint16).view(np.int16).astype(int) + 2**15 >= round(dropout * 2**16)


def results(function: Callable[..., Tensor], inputs: Inputs, dtype: torch.dtype, **options) -> list[Tensor]:
    """Output and gradients of all tensors; adapters and gain are float32, or float64 with the weights."""
    kind = torch.promote_types(dtype, torch.float32)

    def leaf(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        return None if x is None else x.detach().to(dtype, copy=True).requires_grad_()

    x, weight, bias = (leaf(t, dtype) for t in inputs[:3])
    gain = leaf(inputs.gain, kind)
    branches = [
        b._replace(down=leaf(b.down, kind), up=leaf(b.up, kind), values=leaf(b.values, kind))
        for b in inputs.branches
    ]
    y = function(x, weight, bias, branches, gain=gain, **options)
    leaves = [t for t in (x, weight, bias, gain, *(t for b in branches for t in b[:3])) if t is not None]
    gradients = torch.autograd.grad(y, leaves, inputs.gradient.to(dtype))
    assert [g.dtype for g in (y, *gradients)] == [dtype, *(t.dtype for t in leaves)]
    return [y.detach(), *gradients]


def assert_no_worse(function: Callable[..., Tensor], inputs: Inputs, dtype: torch.dtype, **options) -> None:
    """At most twice the error of the formula in the same type, or a rounding as of the largest result."""
    # Everybody starts from the same numbers, those of the type.
    inputs = inputs._replace(
        x=inputs.x.to(dtype), weight=inputs.weight.to(dtype), gradient=inputs.gradient.to(dtype)
    )
    inputs = inputs._replace(bias=None if inputs.bias is None else inputs.bias.to(dtype))
    found, peers = (results(way, inputs, dtype, **options) for way in (function, definition))
    truths = results(definition, inputs, torch.float64, **options)
    for part in (slice(1), slice(1, None)):  # the output, the gradients
        ours, peer, truth = (scaled(tensors[part], truths[part]) for tensors in (found, peers, truths))
        assert ours.shape == truth.shape
        for norm in (torch.inf, 2) if len(truth) else ():
            errors = [float(torch.linalg.vector_norm(t - truth, norm)) for t in (ours, peer)]
            rounding = torch.finfo(dtype).eps / 2 * len(truth) ** (1 / norm)
            assert errors[0] <= 2 * max(errors[1], rounding), (part, norm, errors)


def scaled(tensors: list[Tensor], truths: list[Tensor]) -> Tensor:
    """All numbers in one vector, each tensor in units of its largest true number."""
    units = [float(truth.abs().max()) or 1.0 if truth.numel() else 1.0 for truth in truths]
    return torch.cat([t.double().flatten() / unit for t, unit in zip(tensors, units, strict=True)])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("gain", [False, True], ids=["", "gain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_adapter_linear_is_no_worse_than_its_formula(
    name: str, dtype: torch.dtype, gain: bool, dropout: float
) -> None:
    inputs = make_inputs(CASES[name], gain=gain)
    for function in (ops.adapter_linear, reference.adapter_linear):
        assert_no_worse(function, inputs, dtype, dropout=dropout, seed=SEED)


@pytest.mark.parametrize("name", ["query and value", "rank 3 with values"])
def test_adapter_linear_without_bias_or_gradients(name: str) -> None:
    for gain, dropout in product((False, True), (0.0, 0.3)):
        inputs = make_inputs(CASES[name], gain=gain, bias=False)
        arguments, options = inputs[:3], {"gain": inputs.gain, "dropout": dropout, "seed": SEED}
        expected = definition(*arguments, inputs.branches, **options)
        found = ops.adapter_linear(*arguments, inputs.branches, **options)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert_no_worse(ops.adapter_linear, inputs, torch.float32, dropout=dropout, seed=SEED)


def test_adapter_linear_keeps_small_gains_in_bfloat16() -> None:
    x, weight = torch.ones(4, 8).bfloat16(), torch.eye(8).bfloat16()
    gain = torch.full((8,), 1.003, requires_grad=True)
    # 1.003 is 1 in bfloat16, but 100 times it is 100.3, which is 100.5 there.
    for given in (gain, gain.detach()):
        y = ops.adapter_linear(x * 100, weight, None, [], gain=given)
        assert (y == 100.5).all()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_adapter_linear_has_the_gradients_of_its_values(dropout: float) -> None:
    inputs = make_inputs(Case(5, 6, 9, ((0, 3, 2, True), (6, 3, 1, False))), gain=True)
    first, second = inputs.branches
    leaves = (*inputs[:4], *first[:3], *second[:2])
    leaves = tuple(t.double().requires_grad_() for t in leaves)

    def function(x, weight, bias, gain, down, up, values, other_down, other_up) -> Tensor:
        branches = [
            first._replace(down=down, up=up, values=values),
            second._replace(down=other_down, up=other_up),
        ]
        return ops.adapter_linear(x, weight, bias, branches, gain=gain, dropout=dropout, seed=SEED)

    assert torch.autograd.gradcheck(function, leaves)


def test_adapter_linear_backward_can_be_repeated() -> None:
    inputs = make_inputs(CASES["query and value"], gain=True)
    leaves = [inputs.x, inputs.gain, *(t for b in inputs.branches for t in b[:2])]
    for leaf in leaves:
        leaf.requires_grad_()
    y = ops.adapter_linear(*inputs[:3], inputs.branches, gain=inputs.gain, dropout=0.3, seed=SEED)
    kept = y.detach().clone()
    first, second = (torch.autograd.grad(y, leaves, inputs.gradient, retain_graph=True) for _ in range(2))
    assert all(map(torch.equal, first, second))
    assert torch.equal(y, kept)
    y.add_(1)  # The output is the caller's: what the backward pass needs is kept apart from it.
    third = torch.autograd.grad(y, leaves, inputs.gradient)
    assert all(map(torch.equal, first, third))


@pytest.mark.parametrize("gain", [False, True], ids=["", "gain"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_adapter_linear_multiplies_nothing_twice(dropout: float, gain: bool) -> None:
    case = CASES["query and value"]
    inputs = make_inputs(case, gain=gain)
    base = 2 * case.rows * case.inner * case.outer
    down = 2 * case.rows * case.inner * 11  # ranks 8 and 3
    ups = 2 * case.rows * 63 * 11
    first, second = inputs.branches
    branch_leaves = [first.down, first.up, second.down, second.up]
    wanted = {"x": [inputs.x], "up": branch_leaves[1::2], "all": [inputs.x, *branch_leaves]}
    for name, backward in {"x": base + down + ups, "up": ups, "all": base + 2 * down + 2 * ups}.items():
        for leaf in (inputs.x, *branch_leaves):
            leaf.requires_grad_(any(leaf is t for t in wanted[name]))
        with Multiplications() as forward:
            y = ops.adapter_linear(*inputs[:3], inputs.branches, gain=inputs.gain, dropout=dropout)
        with Multiplications() as back:
            torch.autograd.grad(y, wanted[name], inputs.gradient)
        assert (forward.total, back.total) == (base + down + ups, backward)


class Multiplications(TorchDispatchMode):
    """Counts the operations of matrix products, in place or not."""

    total = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_"):
            left, right = arguments[-2:]
            self.total += 2 * left.numel() * right.shape[1]
        elif name == "_linear_pointwise":
            self.total += 2 * len(arguments[0]) * arguments[1].numel()
        return function(*arguments, **(options or {}))


def test_adapter_linear_takes_gradients_of_any_layout() -> None:
    inputs = make_inputs(CASES["rank 3 with values"])
    down = inputs.branches[0].down.requires_grad_()
    y = ops.adapter_linear(*inputs[:3], inputs.branches)
    (found,) = torch.autograd.grad(y.sum(), down)
    (expected,) = torch.autograd.grad(definition(*inputs[:3], inputs.branches).sum(), down)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_adapter_linear_casts_its_input() -> None:
    inputs = make_inputs(CASES["rank 1"])
    x = inputs.x.bfloat16().requires_grad_()
    y = ops.adapter_linear(x, *inputs[1:3], inputs.branches)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert x.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(63, 63), (1, 1), (500, 64), (2, 100_001), (0, 5), (5, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dropout_mask_equals_numpy(shape: tuple[int, int], dtype: torch.dtype) -> None:
    x = torch.ones(shape, dtype=dtype)
    for dropout, seed in ((0.1, 0), (0.5, -3), (0.999, SEED)):
        expected = numpy_mask(*shape, dropout, seed)
        np.testing.assert_array_equal(reference.keep_mask(x, dropout=dropout, seed=seed).numpy(), expected)
        dropped = dropout_mask.drop(x, dropout=dropout, seed=seed)
        np.testing.assert_array_equal(dropped.float().numpy(), expected.astype(np.float32))


def test_dropout_mask_is_random() -> None:
    """Shares, and products of neighbours in rows, columns, rectangles and seeds, lie within 5 deviations."""
    x = torch.empty(700, 501)
    for dropout in (0.01, 0.1, 0.5):
        share = dropout_mask.keep_share(dropout)
        assert share == pytest.approx(1 - dropout, abs=2**-17)
        masks = [reference.keep_mask(x, dropout=dropout, seed=seed).double() for seed in range(8)]
        deviations = [(mask - share) / (share * (1 - share)) ** 0.5 for mask in masks]
        for a, b in zip(deviations, deviations[1:] + deviations[:1], strict=True):
            means = (
                a,
                a[1:] * a[:-1],
                a[:, 1:] * a[:, :-1],
                a[:, 2:] * a[:, :-2],
                a[1:, 2:] * a[1:, :-2] * a[:-1, 2:] * a[:-1, :-2],
                a * b,
            )
            assert max(abs(float(m.sum())) / m.numel() ** 0.5 for m in means) < 5
            rows, columns = a.sum(1) / 501**0.5, a.sum(0) / 700**0.5
            assert float(rows.var()) == pytest.approx(1, abs=0.3)
            assert float(columns.var()) == pytest.approx(1, abs=0.3)


def test_dropout_mask_uses_all_bits_of_its_seed() -> None:
    x = torch.empty(20, 20)
    seeds = (0, 1, -1, 2**31, 2**32, 2**63 - 1)
    masks = {reference.keep_mask(x, dropout=0.5, seed=seed).numpy().tobytes() for seed in seeds}
    assert len(masks) == len(seeds)


def test_dropout_is_unbiased() -> None:
    inputs = make_inputs(CASES["rank 1"])
    x = torch.ones(1, 63)
    bare = ops.adapter_linear(x, *inputs[1:3], inputs.branches)
    outputs = [
        ops.adapter_linear(x, *inputs[1:3], inputs.branches, dropout=0.2, seed=seed) for seed in range(4000)
    ]
    stacked = torch.stack(outputs)[:, 0].double()
    deviation = stacked.std(0) / len(outputs) ** 0.5
    assert ((stacked.mean(0) - bare[0]).abs() <= 5 * deviation + 1e-6).all()
    assert (deviation > 1e-4).any()


# In the interpreter, which is chosen when triton is imported: each check is run in a process of its own.


def check_kernel(dtype: torch.dtype) -> None:
    from fastgenome.kernels import adapter_linear as module

    module.SETTINGS = {2: (32, 32, 32, 4, 1), 4: (32, 16, 16, 4, 1)}
    module.SEGMENT = 32
    poison_new_tensors()
    for case in SMALL.values():
        for gain, dropout in ((False, 0.0), (True, 0.3)):
            inputs = make_inputs(case, gain=gain, bias=gain)
            assert_no_worse(module.adapter_linear, inputs, dtype, dropout=dropout, seed=SEED)


def check_float32() -> None:
    check_kernel(torch.float32)


def check_float16() -> None:
    check_kernel(torch.float16)


def check_registration() -> None:
    """What torch.library asks of an operator: schema, fake implementations, autograd, tracing."""
    from fastgenome.kernels import adapter_linear as module

    inputs = make_inputs(SMALL["rank 12"], gain=True)
    down, up = inputs.branches[0].down, inputs.branches[0].up.T.contiguous()
    tensors = [t.requires_grad_() for t in (*inputs[:4], down, up)]
    for keeps in (True, False):
        utils = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
        given = tensors if keeps else [t.detach() for t in tensors]
        torch.library.opcheck(module._adapter, (*given, 0.3, SEED, keeps), test_utils=utils)
    x, weight, _, gain, down, up = (t.detach() for t in tensors)
    torch.library.opcheck(module._adapter_backward, (inputs.gradient, weight, gain, down, up, 0.3, SEED))
    torch.library.opcheck(module._projection, (x[:, :3].contiguous(), x, 0.3, SEED))


def check_refusals() -> None:
    from fastgenome.kernels.adapter_linear import adapter_linear

    inputs = make_inputs(SMALL["rank 1"])
    x, weight, bias, _, branches, _ = inputs
    for message, arguments in {
        "share one type": (x.double(), weight, bias, branches),
        "1 to 128 ranks": (x, weight, bias, []),
        "needs a GPU": (x.bfloat16(), weight.bfloat16(), bias, branches),
    }.items():
        with pytest.raises(ArgumentError, match=message):
            adapter_linear(*arguments)


def check_compiled() -> None:
    """For GPUs that are not here: what Triton makes of the kernels."""
    from triton.backends.compiler import GPUTarget

    from fastgenome.kernels import adapter_linear as module

    kernels = (module._forward_kernel, module._input_gradient_kernel, module._projection_gradient_kernel)
    for capability, dtype, full in ((90, "bf16", True), (80, "fp16", False), (80, "fp32", True)):
        for kernel in kernels:
            code = compile_kernel(kernel, GPUTarget("cuda", capability, 32), dtype, full)
            assert not re.search(r"\b(atom|red)\.", code)
            assert ("mma" in code) == (dtype != "fp32"), "float32 products must not be rounded to tf32"


def compile_kernel(kernel, target: object, dtype: str, full: bool) -> str:
    """PTX of a kernel as its launcher would call it: with gain, bias and dropout, or with none."""
    import triton
    from triton.compiler import ASTSource

    from fastgenome.kernels import adapter_linear as module

    constants = module._constants(
        torch.empty(0, dtype=torch.float32 if dtype == "fp32" else torch.float16), 8
    )
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
    constants |= {"DROPOUT": full, "KEEPS": full, "SEGMENT": module.SEGMENT}
    numbers = {"rows", "inner", "outer", "ranks", "width", "row_key", "column_key", "dropped"}
    signature = {name: "i32" if name in numbers else f"*{dtype}" for name in kernel.arg_names}
    signature |= {"gain": "*fp32"} if "gain" in signature else {}
    if kernel is module._projection_gradient_kernel:
        signature["output"] = "*fp32"
    if not full:
        constants |= {"gain": None, "bias": None}
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, signature, constants)
    return triton.compile(source, target=target, options=options).asm["ptx"]


INTERPRETED = ("check_float32", "check_float16", "check_registration", "check_refusals")


@pytest.mark.parametrize("check", [*INTERPRETED, "check_compiled"])
def test_adapter_linear_kernel(check: str) -> None:
    run_check(__file__, check, interpreted=check in INTERPRETED)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(globals())
