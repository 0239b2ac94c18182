"""bfloat16 attention in blocks against the same in float64, and PyTorch's fused attention beside it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastgenome.kernels import reference
from fastgenome.models import attention, blocked_attention
from fastgenome.models.encoder import packing_of


def packed(lengths: tuple[int, ...], heads: int, head_dim: int) -> tuple[Tensor, list[Tensor]]:
    """Offsets, and query, key and value in bfloat16."""
    torch.manual_seed(0)
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    joint = torch.randn(int(offsets[-1]), 3, heads, head_dim).bfloat16()
    return offsets, list(joint.unbind(1))


@pytest.mark.parametrize("scores", [1, 5000, 1 << 21], ids=["a query at a time", "some", "all at once"])
@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("lengths", "heads", "head_dim"), [((33, 33, 33, 40), 12, 64), ((70, 32, 32), 3, 40), ((129,), 4, 9)]
)
def test_blocks_equal_whole_attention(
    monkeypatch: pytest.MonkeyPatch,
    lengths: tuple[int, ...],
    heads: int,
    head_dim: int,
    causal: bool,
    alibi: bool,
    scores: int,
) -> None:
    monkeypatch.setattr(blocked_attention, "_SCORES", scores)
    monkeypatch.setattr(attention, "_native", lambda device: True)
    offsets, inputs = packed(lengths, heads, head_dim)
    packing = packing_of(offsets, torch.device("cpu"))
    exact = reference.packed_attention(
        *(x.double() for x in inputs),
        offsets,
        causal=causal,
        slopes=attention.alibi_slopes(heads).double() if alibi else None,
    ).flatten(1)
    with torch.inference_mode():
        found = attention.attention_by_runs(*inputs, packing, causal=causal, alibi=alibi)
        monkeypatch.setattr(attention, "LENGTHS", range(0))
        fused = attention.attention_by_runs(*inputs, packing, causal=causal, alibi=alibi)
    assert found.dtype == torch.bfloat16
    errors = [float((x.double() - exact).abs().max()) for x in (found, fused)]
    # Scores are rounded to bfloat16 besides: an error of 2⁻⁹ in each exponent of about 3.
    assert errors[0] <= 2 * errors[1] + 2**-7


def written_out(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention of one sequence, (rows, heads, head_dim) three times, `bias` (heads or 1, rows, rows)."""
    q, k, v = (x.transpose(0, 1) for x in (query, key, value))
    scores = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).float() + bias
    return (scores.softmax(-1).to(v.dtype) @ v).transpose(0, 1).flatten(1)


@pytest.mark.parametrize("scores", [5000, 1 << 21], ids=["some", "all at once"])
@pytest.mark.parametrize(("causal", "alibi"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    ("lengths", "heads", "head_dim"), [((33, 33, 33, 140), 12, 64), ((70, 32, 32), 3, 40)]
)
def test_gradients_are_as_near_as_those_of_attention_written_out(
    monkeypatch: pytest.MonkeyPatch,
    lengths: tuple[int, ...],
    heads: int,
    head_dim: int,
    causal: bool,
    alibi: bool,
    scores: int,
) -> None:
    monkeypatch.setattr(blocked_attention, "_SCORES", scores)
    monkeypatch.setattr(attention, "_native", lambda device: True)
    offsets, inputs = packed(lengths, heads, head_dim)
    weights = torch.randn(sum(lengths), heads * head_dim).bfloat16()
    slopes = attention.alibi_slopes(heads).double() if alibi else None

    def exact(*given: Tensor) -> Tensor:
        return reference.packed_attention(*given, offsets, causal=causal, slopes=slopes).flatten(1)

    def plain(*given: Tensor) -> Tensor:
        outputs = []
        for part in zip(*(x.split(list(lengths)) for x in given), strict=True):
            places = torch.arange(len(part[0]))
            distance = (places - places[:, None]).double()
            bias = (
                torch.zeros(1, *distance.shape) if slopes is None else -slopes[:, None, None] * distance.abs()
            )
            bias = bias.masked_fill(distance > 0, -torch.inf) if causal else bias
            outputs.append(written_out(*part, bias.float()))
        return torch.cat(outputs)

    def blocks(*given: Tensor) -> Tensor:
        packing = packing_of(offsets, given[0].device)
        return attention.attention_by_runs(*given, packing, causal=causal, alibi=alibi)

    def gradients(attend: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        leaves = [x.detach().to(dtype).requires_grad_() for x in inputs]
        return [g.double() for g in torch.autograd.grad(attend(*leaves), leaves, weights.to(dtype))]

    expected = gradients(exact, torch.float64)
    for found, other, right in zip(
        gradients(blocks, torch.bfloat16), gradients(plain, torch.bfloat16), expected, strict=True
    ):
        assert (found - right).norm() <= 1.5 * (other - right).norm()
        assert (found - right).norm() <= 2**-6 * right.norm()


def test_blocks_are_for_processors_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Tensor:
        raise AssertionError("blocks were used")

    offsets, (query, key, value) = packed((64, 64), 2, 16)
    packing = packing_of(offsets, query.device)
    monkeypatch.setattr(attention, "blocked_attention", refuse)
    monkeypatch.setattr(attention, "_native", lambda device: True)
    attention.attention_by_runs(query.float(), key.float(), value.float(), packing)
    short, inputs = packed((31,), 2, 16)
    attention.attention_by_runs(*inputs, packing_of(short, query.device))
    with pytest.raises(AssertionError, match="blocks were used"):
        attention.attention_by_runs(query, key, value, packing)
    monkeypatch.setattr(attention, "_native", lambda device: False)
    with torch.no_grad():
        found = attention.attention_by_runs(query, key, value, packing)
    heads_first = [x.unflatten(0, (2, 64)).transpose(1, 2) for x in (query, key, value)]
    expected = F.scaled_dot_product_attention(*heads_first).transpose(1, 2).flatten(2).flatten(0, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
