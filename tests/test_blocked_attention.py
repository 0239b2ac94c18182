"""bfloat16 attention in blocks against the same in float64, and PyTorch's fused attention beside it."""

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


def test_blocks_are_for_prediction_on_processors_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Tensor:
        raise AssertionError("blocks were used")

    offsets, (query, key, value) = packed((64, 64), 2, 16)
    packing = packing_of(offsets, query.device)
    monkeypatch.setattr(attention, "blocked_attention", refuse)
    monkeypatch.setattr(attention, "_native", lambda device: True)
    attention.attention_by_runs(query.float(), key.float(), value.float(), packing)
    short, inputs = packed((31,), 2, 16)
    attention.attention_by_runs(*inputs, packing_of(short, query.device))
    attention.attention_by_runs(query.requires_grad_(), key, value, packing).sum().backward()
    assert query.grad is not None
    with torch.no_grad(), pytest.raises(AssertionError, match="blocks were used"):
        attention.attention_by_runs(query, key, value, packing)
    monkeypatch.setattr(attention, "_native", lambda device: False)
    with torch.no_grad():
        found = attention.attention_by_runs(query, key, value, packing)
    heads_first = [x.unflatten(0, (2, 64)).transpose(1, 2) for x in (query, key, value)]
    expected = F.scaled_dot_product_attention(*heads_first).transpose(1, 2).flatten(2).flatten(0, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
