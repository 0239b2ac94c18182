"""The selective scan of Mamba-1 (Gu and Dao 2023, equation 2) in plain PyTorch, exact and with gradients.

For a channel and one of its states, h_t = exp(delta_t a) h_(t-1) + delta_t b_t x_t, and y_t is the sum over
the states of c_t h_t. Only the recurrence needs an order: it is one multiply-add per step over all sequences.
Decays, inputs and sums are made for a chunk of steps at once, in buffers that stay in a core's cache, so no
more than a chunk of states ever exists. Nothing is divided by a decay, so strong decays cannot overflow.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Numbers in a chunk's buffer of states: 2 MiB of float32.
CHUNK_NUMBERS = 1 << 19

_LOG2_E = 1.0 / math.log(2.0)


def selective_scan(
    x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the recurrence from `state`; returns y and the state after the last step.

    `x`, `delta` and y are (ways, sequences, length, channels), `a` (ways, states, channels) with no number
    above 0, `b` and `c` (ways, sequences, length, states), `state` (ways, sequences, states, channels).
    Gradients of the first order flow to all six; the states of a chunk are computed again for them.
    """
    arguments = (x, delta, a, b, c, state)
    if torch.is_grad_enabled() and any(argument.requires_grad for argument in arguments):
        y, final = _SelectiveScan.apply(*arguments)  # type: ignore[no-untyped-call]
        return y, final
    return _scan(*arguments, kept=None)


class _Chunks:
    """Buffers for the decays and states of a chunk of steps, (steps, ways, sequences, states, channels)."""

    def __init__(self, state: Tensor, length: int) -> None:
        self.steps = max(1, min(length, CHUNK_NUMBERS // max(1, state.numel())))
        self.length = length
        self._decays, self._states = state.new_empty(2, self.steps, *state.shape).unbind(0)

    def starts(self) -> range:
        return range(0, self.length, self.steps)

    def fill(
        self, chunk: slice, delta: Tensor, exponents: Tensor, pushed: Tensor, b: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decays and states of the steps in `chunk`; all tensors but the last have the steps first."""
        delta, pushed, b = delta[chunk], pushed[chunk], b[chunk]
        decays, states = self._decays[: len(delta)], self._states[: len(delta)]
        # exp2 takes a third of the time of exp on some CPUs, where exp goes to a vendor's library.
        torch.mul(delta[..., None, :], exponents[:, None], out=decays)
        torch.exp2(decays, out=decays)
        torch.mul(pushed[..., None, :], b[..., None], out=states)
        for decay, now in zip(decays.unbind(0), states.unbind(0), strict=True):
            now.addcmul_(decay, state)
            state = now
        return decays, states


def _steps_first(*tensors: Tensor) -> list[Tensor]:
    return [tensor.movedim(2, 0) for tensor in tensors]


def _scan(
    x: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    state: Tensor,
    *,
    kept: list[Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """The recurrence without gradients; `kept` receives the state before each chunk."""
    chunks = _Chunks(state, x.shape[2])
    delta_t, pushed, b_t, c_t = _steps_first(delta, delta * x, b, c)
    exponents = a * _LOG2_E
    y = x.new_empty(pushed.shape)
    for start in chunks.starts():
        chunk = slice(start, start + chunks.steps)
        if kept is not None:
            kept.append(state)
        _, states = chunks.fill(chunk, delta_t, exponents, pushed, b_t, state)
        _over_states(c_t[chunk], states, out=y[chunk])
        state = states[-1].clone()
    return y.movedim(0, 2), state


def _over_states(weights: Tensor, states: Tensor, *, out: Tensor) -> None:
    """Sum over states: (…, states) and (…, states, channels) into a contiguous (…, channels)."""
    rows = weights.reshape(-1, 1, weights.shape[-1])
    torch.bmm(rows, states.flatten(0, -3), out=out.view(len(rows), 1, -1))


def _over_channels(states: Tensor, weights: Tensor, *, out: Tensor) -> None:
    """Sum over channels: (…, states, channels) and (…, channels) into a contiguous (…, states)."""
    columns = weights.reshape(-1, weights.shape[-1], 1)
    torch.bmm(states.flatten(0, -3), columns, out=out.view(len(columns), -1, 1))


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        kept: list[Tensor] = []
        y, state = _scan(*arguments, kept=kept)
        ctx.save_for_backward(*arguments, *kept)
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> tuple[Tensor, ...]:
        x, delta, a, b, c, state, *kept = ctx.saved_tensors
        chunks = _Chunks(state, x.shape[2])
        x_t, delta_t, pushed, b_t, c_t, grad_y = _steps_first(x, delta, delta * x, b, c, grad_y)
        exponents = a * _LOG2_E
        grad_a = torch.zeros_like(a)
        grad_pushed, grad_delta, grad_b, grad_c = (
            tensor.new_empty(tensor.shape) for tensor in (pushed, pushed, b_t, c_t)
        )
        for start, before in zip(reversed(chunks.starts()), reversed(kept), strict=True):
            chunk = slice(start, start + chunks.steps)
            decays, states = chunks.fill(chunk, delta_t, exponents, pushed, b_t, before)
            _over_channels(states, grad_y[chunk], out=grad_c[chunk])
            grads, grad_state = _grad_states(decays, c_t[chunk], grad_y[chunk], grad_state)
            _over_channels(grads, pushed[chunk], out=grad_b[chunk])
            _over_states(b_t[chunk], grads, out=grad_pushed[chunk])
            # From here on `grads` are the gradients of the decays' exponents.
            grads.mul_(decays)
            grads[1:].mul_(states[:-1])
            grads[0].mul_(before)
            grad_delta[chunk] = (grads * a[:, None]).sum(-2)
            grad_a += (grads * delta_t[chunk][..., None, :]).sum((0, 2))
        grad_delta += grad_pushed * x_t
        grad_x = grad_pushed * delta_t
        by_step = (grad_x, grad_delta, grad_b, grad_c)
        grad_x, grad_delta, grad_b, grad_c = (grad.movedim(0, 2) for grad in by_step)
        return grad_x, grad_delta, grad_a, grad_b, grad_c, grad_state


def _grad_states(decays: Tensor, c: Tensor, grad_y: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a chunk's states and of the state before it; `later` is that of the state after it.

    The gradient of a state is what y takes from it and, decayed, that of the state after it.
    """
    grads = c[..., None] * grad_y[..., None, :]
    for step in range(len(grads) - 1, -1, -1):
        later = grads[step].add_(later)
        later = later * decays[step]
    return grads, later
