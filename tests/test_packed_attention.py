"""Packed attention: the Triton kernel against float64, its compiled form, and the choice among kernels."""

import re
import sys
from functools import partial
from itertools import pairwise, product
from types import SimpleNamespace

import pytest
import torch
from kernel_checks import ROOT, main, poison_new_tensors, run_check
from torch import Tensor

from fastgenome import ops
from fastgenome.errors import ArgumentError
from fastgenome.kernels import reference
from fastgenome.models import attention
from fastgenome.models.encoder import packing_of

ODD = (1, 2, 31, 33, 63, 64, 65, 100)

# Lengths, heads, numbers per head.
SHAPES = {
    "odd lengths": (ODD, 3, 16),
    "twelve heads of nine": ((65, 0, 1, 40), 12, 9),
    "one head": ((64, 2), 1, 48),
    "one row": ((1,), 1, 10),
    "wide": ((33, 0, 70), 1, 80),
    "widest": ((66,), 2, 128),
}


def make_inputs(
    lengths: tuple[int, ...], heads: int, head_dim: int, dtype: torch.dtype = torch.float32
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Query, key and value, then offsets, slopes, and the gradient that comes back to the output."""
    generator = torch.Generator().manual_seed(sum(lengths) + head_dim)
    shape = (4, sum(lengths), heads, head_dim)
    *inputs, gradient = torch.randn(shape, generator=generator).to(dtype)
    slopes = torch.rand(heads, generator=generator)
    return inputs, torch.tensor([0, *lengths]).cumsum(0), slopes, gradient


def with_gradients(function, inputs: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """The output and the gradients of query, key and value."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    output = function(*leaves)
    return [output.detach(), *torch.autograd.grad(output, leaves, gradient.to(output.dtype))]


def plain(query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, causal: bool, slopes: Tensor | None):
    """The definition in the type of its input throughout."""
    outputs = []
    for a, b in pairwise(offsets.tolist()):
        q, k, v = (x[a:b].transpose(0, 1) for x in (query, key, value))
        scores = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5
        behind = torch.arange(b - a)[:, None] - torch.arange(b - a)
        if slopes is not None:
            scores = scores - (slopes[:, None, None] * behind.abs()).to(q.dtype)
        if causal:
            scores = scores.masked_fill(behind < 0, -torch.inf)
        outputs.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("causal", [False, True], ids=["both-sides", "causal"])
@pytest.mark.parametrize("has_slopes", [False, True], ids=["plain", "slopes"])
def test_packed_attention_definitions_agree(has_slopes: bool, causal: bool) -> None:
    inputs, offsets, slopes, _ = make_inputs((5, 0, 1, 17), 3, 8, torch.float64)
    given = slopes.double() if has_slopes else None
    found = reference.packed_attention(*inputs, offsets, causal=causal, slopes=given)
    torch.testing.assert_close(found, plain(*inputs, offsets, causal, given))


# In the interpreter, which is chosen when triton is imported: each check is run in a process of its own.


def check_errors(dtype: torch.dtype) -> None:
    """Error against float64 is at most twice that of PyTorch in the same type, gradients included."""
    from fastgenome.kernels.packed_attention import packed_attention

    functions = (packed_attention, plain, reference.packed_attention)
    for name, shape in SHAPES.items():
        inputs, offsets, slopes, gradient = make_inputs(*shape, dtype)
        for has_slopes, causal in product((False, True), repeat=2):
            found, peer, truth = (
                with_gradients(
                    partial(function, offsets=offsets, causal=causal, slopes=slopes if has_slopes else None),
                    [x.double() for x in inputs] if function is reference.packed_attention else inputs,
                    gradient,
                )
                for function in functions
            )
            assert {x.dtype for x in found} == {dtype}
            for part in (slice(1), slice(1, 4)):  # the output, the gradients
                pooled = (torch.stack(tensors[part]).double() for tensors in (found, peer, truth))
                assert_no_worse(*pooled, dtype, (name, part, has_slopes, causal))


def assert_no_worse(ours: Tensor, theirs: Tensor, truth: Tensor, dtype: torch.dtype, case: object) -> None:
    """At most twice the peer's error, or a rounding as of the largest result, at worst and over all."""
    rounding = torch.finfo(dtype).eps / 2 * truth.abs().max()
    for norm in (torch.inf, 2):
        error, peer = (torch.linalg.vector_norm(x - truth, norm) for x in (ours, theirs))
        assert error <= 2 * max(peer, rounding * truth.numel() ** (1 / norm)), (
            case,
            norm,
            float(error),
            float(peer),
        )


def check_float32() -> None:
    check_errors(torch.float32)


def check_float16() -> None:
    check_errors(torch.float16)


def check_steps() -> None:
    """Every step that may be tuned gives the same, whether it divides the block of rows or exceeds it."""
    from fastgenome.kernels import packed_attention as module

    inputs, offsets, slopes, gradient = make_inputs((100, 63, 129), 2, 16)
    for causal in (False, True):
        truth = with_gradients(
            lambda *x, c=causal: reference.packed_attention(*x, offsets, causal=c, slopes=slopes),
            inputs,
            gradient,
        )
        for step in (16, 64, 128):
            module.SETTINGS[4][0] = (step, 4, 1)
            found = with_gradients(
                lambda *x, c=causal: module.packed_attention(*x, offsets, causal=c, slopes=slopes),
                inputs,
                gradient,
            )
            for ours, true in zip(found, truth, strict=True):
                torch.testing.assert_close(ours, true, rtol=0, atol=5e-6)


def check_invariance() -> None:
    """A sequence has the same numbers alone and in a batch, to the last bit."""
    from fastgenome.kernels.packed_attention import packed_attention

    inputs, offsets, slopes, gradient = make_inputs((3, 70, 0, 33, 90), 2, 16)

    def attend(*x: Tensor, offsets: Tensor = offsets) -> Tensor:
        return packed_attention(*x, offsets, slopes=slopes)

    batch = with_gradients(attend, inputs, gradient)
    for a, b in pairwise(offsets.tolist()):
        alone = with_gradients(
            lambda *x, n=b - a: attend(*x, offsets=torch.tensor([0, n])),
            [x[a:b] for x in inputs],
            gradient[a:b],
        )
        assert all(torch.equal(x, y[a:b]) for x, y in zip(alone, batch, strict=True)), (a, b)


def check_extremes() -> None:
    """Scores of any size: no overflow where all of a row are far below zero, or far above."""
    from fastgenome.kernels.packed_attention import packed_attention

    inputs, offsets, _, gradient = make_inputs((70, 5), 1, 16)
    inputs[0] = inputs[0].abs() * 10
    inputs[1] = inputs[1].abs() * 10
    for _ in range(2):
        inputs[1] = -inputs[1]
        ours, truth = (
            with_gradients(lambda *x, f=f: f(*x, offsets), inputs, gradient)
            for f in (packed_attention, reference.packed_attention)
        )
        for found, true in zip(ours, truth, strict=True):
            torch.testing.assert_close(found, true, rtol=1e-3, atol=1e-3)


def check_views() -> None:
    """Views into a joint projection, rows in any layout, an output's gradient without rows of its own."""
    from fastgenome.kernels.packed_attention import packed_attention

    joint = torch.randn(40, 3, 2, 10, generator=torch.Generator().manual_seed(1))
    offsets = torch.tensor([0, 33, 40])
    weight = torch.randn(10)
    for make in (
        lambda x: x.unbind(1),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3).unbind(1),
    ):
        gradients = []
        for function in (packed_attention, reference.packed_attention):
            leaf = joint.clone().requires_grad_()
            (function(*make(leaf), offsets).sum((0, 1)) * weight).sum().backward()
            gradients.append(leaf.grad)
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)


def check_registration() -> None:
    """What torch.library asks of an operator: schema, fake implementations, autograd, tracing."""
    from fastgenome.kernels import packed_attention as module

    inputs, offsets, slopes, gradient = make_inputs((5, 0, 33), 2, 9)
    leaves = [x.requires_grad_() for x in inputs]
    for given in (None, slopes):
        torch.library.opcheck(module._attention, (*leaves, offsets, given, True))
    detached = [x.detach() for x in inputs]
    output = module._attention(*detached, offsets, slopes, True)
    torch.library.opcheck(module._attention_backward, (gradient, *detached, offsets, slopes, *output, True))


def check_empty() -> None:
    """A batch without rows starts no kernel."""
    from fastgenome.kernels import packed_attention as module

    module._launch = None
    none = torch.randn(0, 2, 16, requires_grad=True)
    assert module.packed_attention(none, none, none, torch.tensor([0, 0, 0])).shape == (0, 2, 16)
    module.packed_attention(none, none, none, torch.tensor([0])).sum().backward()
    assert none.grad.shape == (0, 2, 16)


def check_tuning() -> None:
    """The batch on which settings are found: the interpreter has none to find, but runs it."""
    from fastgenome.kernels import packed_attention as module

    module.TUNING_ROWS = 512
    launched = []
    launch = module._launch
    module._launch = lambda kernel, *rest: (launched.append(kernel), launch(kernel, *rest))
    for _ in range(2):
        module._tune_once(torch.float16, 16, "ieee", True, False, torch.device("cpu"), True)
    assert launched == [
        module._forward_kernel,
        module._query_gradient_kernel,
        module._key_value_gradient_kernel,
    ]


def check_refusals() -> None:
    """Arguments that would read or leave memory that is not theirs."""
    from fastgenome.kernels.packed_attention import packed_attention

    x, offsets = torch.randn(7, 2, 16), torch.tensor([0, 7])
    wrong = {
        "rise from 0 to 7": [(x, x, x, torch.tensor(o), None) for o in ([0, 6], [1, 7], [0, 8, 7], [])],
        "one shape": [(x, x[:6], x, offsets, None), (x, x, x[:, :1], offsets, None)],
        "at most 128": [(*[torch.randn(7, 1, 129)] * 3, offsets, None)],
        "share one type": [(x, x.half(), x, offsets, None), (*[x.double()] * 3, offsets, None)],
        "needs a GPU": [(*[x.bfloat16()] * 3, offsets, None)],
        "one per head": [(x, x, x, offsets, torch.ones(3))],
    }
    for message, cases in wrong.items():
        for *tensors, slopes in cases:
            with pytest.raises(ArgumentError, match=message):
                packed_attention(*tensors, slopes=slopes)


def check_compiled() -> None:
    """For GPUs that are not here: what Triton makes of the kernels, in all types, with and without slopes."""
    from triton.backends.compiler import GPUTarget

    from fastgenome.kernels import packed_attention as module

    kernels = [
        module._forward_kernel,
        module._query_gradient_kernel,
        module._key_value_gradient_kernel,
    ]
    for capability, dtype, head_dim, slopes, causal in (
        (90, "bf16", 64, True, False),
        (80, "fp16", 10, False, True),
        (80, "fp32", 48, True, True),
    ):
        step, warps, stages = module.SETTINGS[4 if dtype == "fp32" else 2][-1]
        for kernel in kernels:
            code = compile_kernel(
                kernel, GPUTarget("cuda", capability, 32), dtype, head_dim, slopes, causal, step,
                num_warps=warps, num_stages=stages,
            )  # fmt: skip
            assert not re.search(r"\b(atom|red)\.", code)
            assert ("mma" in code) == (dtype != "fp32"), "float32 products must not be rounded to tf32"


def compile_kernel(
    kernel, target: object, dtype: str, head_dim: int, slopes: bool, causal: bool, step: int, **options: int
) -> str:
    """PTX of a kernel as its launcher would call it."""
    import triton
    from triton.compiler import ASTSource

    constants = {
        "HEAD_DIM": head_dim, "BLOCK_DIM": max(16, triton.next_power_of_2(head_dim)), "CAUSAL": causal,
        "PRECISION": "ieee", "BLOCK_ROWS": 64, "BLOCK_STEP": step,
    }  # fmt: skip
    types = {"blocks": "*i64", "slopes": "*fp32", "logsumexp": "*fp32", "delta": "*fp32", "scale": "fp32"}
    if not slopes:
        constants["slopes"] = None
    signature = {}
    for name in kernel.arg_names:
        number = name == "total" or name.endswith(("_row", "_head"))
        signature[name] = types.get(name, "i32" if number else f"*{dtype}")
        if name in constants:
            signature[name] = "constexpr"
    source = ASTSource(kernel, signature, constants)
    return triton.compile(source, target=target, options=options).asm["ptx"]


INTERPRETED = (
    "check_float32", "check_float16", "check_steps", "check_invariance", "check_extremes", "check_views",
    "check_registration", "check_empty", "check_tuning", "check_refusals",
)  # fmt: skip


@pytest.mark.parametrize("check", [*INTERPRETED, "check_compiled"])
def test_packed_attention_kernel(check: str) -> None:
    run_check(__file__, check, interpreted=check in INTERPRETED)


# The choice: this machine's tensors say that they are on a GPU, and the kernels are PyTorch on the CPU.


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes every tensor a CUDA tensor in name; the list tells which kernels ran."""
    ran: list[str] = []

    def varlen(q, k, v, bounds, other_bounds, longest, other_longest, *, window_size):
        assert bounds.dtype == other_bounds.dtype == torch.int32
        assert longest == other_longest == max(bounds.diff().tolist())
        ran.append("varlen")
        wide = (x.float() for x in (q, k, v))
        assert window_size in ((-1, -1), (-1, 0))
        return plain(*wide, bounds, window_size == (-1, 0), None).to(q.dtype)

    def kernel(*args, causal: bool, slopes: Tensor | None):
        ran.append("kernel")
        return reference.packed_attention(*args, causal=causal, slopes=slopes)

    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen)
    monkeypatch.setitem(
        sys.modules, "fastgenome.kernels.packed_attention", SimpleNamespace(packed_attention=kernel)
    )
    monkeypatch.setattr(ops, "_has_varlen", lambda device: True)
    monkeypatch.setattr(ops, "_has_triton", lambda: True)
    return ran


@pytest.mark.parametrize("causal", [False, True], ids=["both-sides", "causal"])
@pytest.mark.parametrize(
    ("dtype", "head_dim", "alibi", "expected"),
    [
        (torch.bfloat16, 16, False, "varlen"), (torch.float16, 136, False, "varlen"),
        (torch.bfloat16, 16, True, "kernel"), (torch.bfloat16, 10, False, "kernel"),
        (torch.float32, 16, False, "kernel"), (torch.float32, 16, True, "kernel"),
        (torch.float32, 136, False, None), (torch.float64, 16, True, None),
    ],
    ids=str,
)  # fmt: skip
def test_packed_attention_on_cuda_takes_the_kernel_that_fits(
    dtype: torch.dtype, head_dim: int, alibi: bool, expected: str | None, causal: bool, calls: list[str]
) -> None:
    inputs, offsets, _, _ = make_inputs((5, 0, 7, 7), 4, head_dim, dtype)
    packing = packing_of(offsets, torch.device("cpu"))
    found = attention.packed_attention(*inputs, packing, causal=causal, alibi=alibi)
    assert calls == [expected] * (expected is not None)
    assert found.dtype == dtype
    slopes = attention.alibi_slopes(4) if alibi else None
    truth = reference.packed_attention(*inputs, offsets, causal=causal, slopes=slopes).flatten(1)
    bound = 1e-5 if dtype.itemsize >= 4 else 2e-2
    torch.testing.assert_close(found, truth, rtol=0, atol=bound)
    assert (
        ops.packed_attention(*inputs, offsets, causal=causal, slopes=slopes)
        .flatten(1)
        .equal(truth if expected is None else found)
    )


@pytest.mark.parametrize("missing", ["_has_varlen", "_has_triton"])
def test_packed_attention_on_cuda_does_without_what_is_missing(
    missing: str, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, missing, lambda *_: False)
    inputs, offsets, _, _ = make_inputs((5, 7), 4, 16, torch.bfloat16)
    packing = packing_of(offsets, torch.device("cpu"))
    for alibi in (False, True):
        attention.packed_attention(*inputs, packing, alibi=alibi)
    assert calls == {"_has_varlen": ["kernel", "kernel"], "_has_triton": ["varlen"]}[missing]


def test_packed_attention_on_cuda_takes_a_batch_without_rows(calls: list[str]) -> None:
    inputs, offsets, _, _ = make_inputs((0, 0), 2, 16, torch.bfloat16)
    assert attention.packed_attention(*inputs, packing_of(offsets, torch.device("cpu"))).shape == (0, 32)
    assert "varlen" not in calls


def test_packed_attention_on_the_cpu_takes_no_kernel(calls: list[str], monkeypatch) -> None:
    monkeypatch.undo()
    inputs, offsets, _, _ = make_inputs((5, 7), 2, 16, torch.bfloat16)
    attention.packed_attention(*inputs, packing_of(offsets, torch.device("cpu")), alibi=True)
    ops.packed_attention(*inputs, offsets)
    assert not ops.has_packed_attention(inputs[0], False)
    assert calls == []


@pytest.mark.parametrize(
    ("built", "capability", "expected"), [(True, (9, 0), True), (True, (7, 5), False), (False, (9, 0), False)]
)
def test_varlen_is_taken_where_it_runs(
    built: bool, capability: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops._has_varlen.cache_clear()
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert ops._has_varlen(torch.device("cuda", 7)) == expected
    ops._has_varlen.cache_clear()


def test_what_inference_leaves_in_caches_serves_training() -> None:
    cpu = torch.device("cpu")
    with torch.inference_mode():
        kept = [attention._slopes_on(cpu, 5), ops._bounds_on(cpu, (0, 3, 5))[0]]
    assert not any(x.is_inference() for x in kept)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    poison_new_tensors()
    main(globals())
