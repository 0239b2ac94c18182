"""Mamba-1 and Caduceus written out in NumPy, float64, one sequence at a time, without the package."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def scan_definition(
    x: Array, delta: Array, a: Array, b: Array, c: Array, state: Array
) -> tuple[Array, Array]:
    """One sequence, one way: (length, channels) twice, (states, channels), (length, states) twice."""
    y, state = np.zeros_like(x), state.copy()
    for step in range(len(x)):
        for channel in range(x.shape[1]):
            for s in range(a.shape[0]):
                decay = np.exp(delta[step, channel] * a[s, channel])
                pushed = delta[step, channel] * b[step, s] * x[step, channel]
                state[s, channel] = decay * state[s, channel] + pushed
                y[step, channel] += c[step, s] * state[s, channel]
    return y, state


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def layer_weights(tensors: dict[str, Any], prefix: str) -> dict[str, Array]:
    """One mixer's published tensors by the rest of their names."""
    return {
        name.removeprefix(prefix): value.astype(np.float64)
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def mixer_definition(weights: dict[str, Array], x: Array) -> Array:
    """One sequence (length, dim), both ways apart, from the published tensors of one layer."""
    total = np.zeros_like(x)
    for way, order in (("mamba_fwd", slice(None)), ("mamba_rev", slice(None, None, -1))):
        own = {name.removeprefix(f"{way}."): value for name, value in weights.items() if name.startswith(way)}
        u, gate = np.split(x[order] @ weights["mamba_fwd.in_proj.weight"].T, 2, axis=1)
        taps = own["conv1d.weight"][:, 0].T  # (kernel, inner)
        padded = np.concatenate([np.zeros_like(taps[1:]), u])
        convolved = [(padded[i : i + len(taps)] * taps).sum(0) for i in range(len(x))]
        u = silu(np.array(convolved) + own["conv1d.bias"])
        a, rank = -np.exp(own["A_log"]).T, own["dt_proj.weight"].shape[1]
        low, b, c = np.split(u @ own["x_proj.weight"].T, [rank, rank + len(a)], axis=1)
        delta = np.logaddexp(0, low @ own["dt_proj.weight"].T + own["dt_proj.bias"])
        y, _ = scan_definition(u, delta, a, b, c, np.zeros_like(a))
        out = ((y + own["D"] * u) * silu(gate)) @ weights["mamba_fwd.out_proj.weight"].T
        total += out[order]
    return total


def norm_definition(tensors: dict[str, Array], name: str, x: Array) -> Array:
    """Root-mean-square norm, or layer norm where there is a bias."""
    if f"{name}.bias" not in tensors:
        return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-5) * tensors[f"{name}.weight"]
    centred = x - x.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def both_strands_definition(
    tensors: dict[str, Array], ids: NDArray[Any], layers: int, *, fused: bool
) -> list[Array]:
    """Hidden states of every layer from published tensors, both strands side by side as published."""
    words = "caduceus.backbone.embeddings.word_embeddings"
    embedding = tensors[f"{words}.embedding.weight"]
    dim = embedding.shape[1]
    reverse = tensors[f"{words}.complement_map"].astype(int)[ids][::-1]
    x = np.concatenate([embedding[ids], embedding[reverse][::-1, ::-1]], axis=1)
    residual, states = np.zeros_like(x), []
    inside = "" if fused else ".submodule"
    for index in range(layers):
        states.append(x)
        layer = f"caduceus.backbone.layers.{index}"
        residual = residual + x
        if fused:
            residual = np.concatenate([residual[:, dim:], residual[:, :dim]], axis=1)
        weights = layer_weights(tensors, f"{layer}.mixer.submodule.")
        strands = residual[:, :dim], residual[::-1, : dim - 1 : -1]
        there, back = (
            mixer_definition(weights, norm_definition(tensors, f"{layer}.norm{inside}", strand))
            for strand in strands
        )
        x = np.concatenate([there, back[::-1, ::-1]], axis=1)
    there, back = np.split(residual + x, 2, axis=1)
    final = f"caduceus.backbone.norm_f{inside}"
    back = norm_definition(tensors, final, back[:, ::-1])[:, ::-1]
    return [*states, np.concatenate([norm_definition(tensors, final, there), back], axis=1)]
