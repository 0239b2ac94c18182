"""Causal convolution with an implicit filter: a filter as long as the sequence, given by a small network.

Poli et al., Hyena Hierarchy (ICML 2023). What the filter becomes, a matrix for short sequences and a spectrum
for long ones, is kept as long as gradients are off and its weights do not change.
"""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Up to here a product with the filter's Toeplitz matrix takes at most the time of the transforms.
DIRECT_LENGTH = 64

# Numbers transformed at a time: on the CPU what the cache holds.
_CPU_CHUNK = 1 << 19
_GPU_CHUNK = 1 << 28
_LEAST_CHANNELS = 8

# Bytes of forms kept for each filter. Above it, as from about 50,000 tokens at 256 channels on, the
# spectrum is made anew for some channels at a time.
KEPT_BYTES = 96 << 20


def transform_size(length: int) -> int:
    """The size of the transforms for sequences of this length: at least 2 * length, so that nothing wraps.

    Sizes are 8, 9, 10, 12 or 15 times a power of two: fast to transform, and few enough to keep the spectra.
    """
    sizes = (factor << max(0, (2 * length // factor).bit_length() - 1) for factor in (8, 9, 10, 12, 15))
    return min(size if size >= 2 * length else 2 * size for size in sizes)


class FilterForms:
    """Forms of one filter by a key, the least recently used ones forgotten beyond `limit` bytes."""

    def __init__(self, limit: float = torch.inf) -> None:
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._lock = Lock()

    def __deepcopy__(self, memo: dict[int, object]) -> "FilterForms":
        """None are kept yet: the copied filter has weights of its own, and a lock cannot be copied."""
        return FilterForms(self._limit)

    def get(self, key: int, make: Callable[[], Tensor]) -> Tensor:
        """What was kept under the key, or what `make` gives."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self._kept[key] = found = make()
                self._bytes += found.nbytes
                while self._bytes > self._limit and len(self._kept) > 1:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
            self._kept.move_to_end(key)
            return found


class FilterPositions(nn.Module):
    """Inputs of an implicit filter at each place: features `z` (1, length, features), `t` (1, length, 1)."""

    z: Tensor
    t: Tensor

    def __init__(self, length: int, features: int) -> None:
        super().__init__()
        self.register_buffer("z", torch.empty(1, length, features))
        self.register_buffer("t", torch.empty(1, length, 1))


class Float32Linear(nn.Module):
    """A linear layer that stays float32 where the model's products are of another type."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(rows, inputs) -> (rows, outputs)."""
        return F.linear(x, self.weight, self.bias)


class LongConvolution(nn.Module):
    """y[n] = sum over m <= n of k[n - m] u[m] + bias u[n], for each channel on its own.

    k[n] = network(z[n]) * (exp(-t[n] |deltas|) + shift): sines of one trained frequency `freq` between linear
    layers. `z` and `t`, and so the filter, belong to places of the longest sequence, not to the length given.
    """

    positions: FilterPositions
    deltas: Tensor

    def __init__(
        self, dim: int, *, max_length: int, features: int, filter_dim: int, inner: int, shift: float
    ) -> None:
        super().__init__()
        self.dim = dim
        self.shift = shift
        self.max_length = max_length
        self.positions = FilterPositions(max_length, features)
        widths = [features] + [filter_dim] * (inner + 1)
        self.layers = nn.ModuleList(map(Float32Linear, widths[:-1], widths[1:]))
        self.last = Float32Linear(filter_dim, dim, bias=False)
        self.freq = nn.Parameter(torch.empty(1, filter_dim))
        self.register_buffer("deltas", torch.empty(1, 1, dim))
        self.bias = nn.Parameter(torch.empty(dim))
        self._forms = FilterForms()
        self._made_from: list[tuple[Tensor, int, int]] = []
        self._sums: list[float] = []

    def forms(self) -> FilterForms:
        """Where the filter's forms are kept: those of earlier calls, or new ones where gradients may flow."""
        if self._may_learn():
            return FilterForms()
        # What is written through .data changes no version; the sums tell.
        sums = torch.stack([w.detach().double().sum() for w in self.parameters()]).tolist()
        weights = [(w, w._version, w.data_ptr()) for w in (*self.parameters(), *self.buffers())]
        # The weights themselves are held: another one could get the place in memory of one that is gone.
        same = (
            sums == self._sums
            and len(weights) == len(self._made_from)
            and all(
                now[0] is then[0] and now[1:] == then[1:]
                for now, then in zip(weights, self._made_from, strict=True)
            )
        )
        if not same:
            self._forms, self._made_from, self._sums = FilterForms(KEPT_BYTES), weights, sums
        return self._forms

    def forward(self, u: Tensor, forms: FilterForms) -> Tensor:
        """(sequences, length, dim) float32 -> the same shape; `forms` from `forms()`."""
        length = u.shape[1]
        channels = u.permute(2, 0, 1)  # (dim, sequences, length)
        if length <= DIRECT_LENGTH:
            matrix = self._kept(forms, 0, self._matrix)
            return torch.bmm(channels, matrix[:, :length, :length]).permute(1, 2, 0)
        size = transform_size(length)
        spectrum = self._spectrum(size, forms)
        if self._may_learn() or u.requires_grad:
            return _convolve(channels, spectrum(0, self.dim), size).permute(1, 2, 0)
        limit = _CPU_CHUNK if u.device.type == "cpu" else _GPU_CHUNK
        step = max(limit // (size * len(u)), _LEAST_CHANNELS)
        mixed = torch.empty_like(u, memory_format=torch.contiguous_format)
        for start in range(0, self.dim, step):
            stop = min(start + step, self.dim)
            part = _convolve(channels[start:stop], spectrum(start, stop), size)
            mixed[..., start:stop] = part.permute(1, 2, 0)
        return mixed

    def _may_learn(self) -> bool:
        return torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters())

    def _kept(self, forms: FilterForms, key: int, make: Callable[[], Tensor]) -> Tensor:
        if self._may_learn():
            return forms.get(key, make)
        # A tensor made in inference mode could not take part in training later.
        with torch.inference_mode(False), torch.no_grad():
            return forms.get(key, make)

    def _spectrum(self, size: int, forms: FilterForms) -> Callable[[int, int], Tensor]:
        """A function that gives the spectrum of channels start … stop, (stop - start, size / 2 + 1)."""
        places = min(size // 2, self.max_length)
        if not self._may_learn() and self.dim * (size // 2 + 1) * 8 > KEPT_BYTES:
            with torch.no_grad():
                hidden = self._hidden(places)
            return lambda start, stop: torch.fft.rfft(self._taps(hidden, start, stop), n=size)
        whole = self._kept(
            forms, size, lambda: torch.fft.rfft(self._taps(self._hidden(places), 0, self.dim), n=size)
        )
        return lambda start, stop: whole[start:stop]

    def _matrix(self) -> Tensor:
        """The filter as (dim, DIRECT_LENGTH, DIRECT_LENGTH): entry (m, n) is its value at n - m, or 0."""
        places = min(DIRECT_LENGTH, self.max_length)
        taps = self._taps(self._hidden(places), 0, self.dim)
        line = F.pad(taps, (DIRECT_LENGTH - 1, DIRECT_LENGTH - places))
        return line.unfold(1, DIRECT_LENGTH, 1).flip(1).contiguous()

    def _hidden(self, places: int) -> Tensor:
        """Output of the filter's inner layers at the first places, (places, filter_dim)."""
        hidden = self.positions.z[0, :places]
        for layer in self.layers:
            hidden = torch.sin(self.freq * layer(hidden))
        return hidden

    def _taps(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """Values of the filter of some channels, (stop - start, places); what passes u on is in the first."""
        time = self.positions.t[0, : len(hidden), 0]
        decay = torch.exp(-torch.outer(self.deltas[0, 0, start:stop].abs(), time)) + self.shift
        taps = (self.last.weight[start:stop] @ hidden.T) * decay
        return torch.cat([taps[:, :1] + self.bias[start:stop, None], taps[:, 1:]], 1)


def _convolve(channels: Tensor, spectrum: Tensor, size: int) -> Tensor:
    """(channels, sequences, length) with (channels, size / 2 + 1) -> (channels, sequences, length)."""
    product = torch.fft.rfft(channels, n=size) * spectrum[:, None]
    mixed: Tensor = torch.fft.irfft(product, n=size)
    return mixed[..., : channels.shape[2]]
