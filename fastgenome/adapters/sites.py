"""Where adapters can go: which published module plays which role, and where our networks hold it.

Our layers fuse what most families publish apart: `qkv` holds query, key and value one above the other.
DNABERT-2 publishes them fused as well, as one module of three roles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from fastgenome.errors import ArgumentError
from fastgenome.models.hyena import Hyena
from fastgenome.models.key_map import KeyMap, Part
from fastgenome.models.mamba import BidirectionalMamba
from fastgenome.models.transformer import Transformer

if TYPE_CHECKING:
    from fastgenome.models.model import Model

# Linear layers of each layer of an encoder, with the roles of equal shares of their output rows. Hyena's
# streams act as query, key and value (Poli et al. 2023, section 3); a Mamba block is feed-forward in form.
# Caduceus ties the products of both ways and its files name the first way's: PEFT would adapt that one alone.
_ROLES: dict[type[nn.Module], dict[str, tuple[str, ...]]] = {
    Transformer: {
        "qkv": ("query", "key", "value"),
        "output": ("output",),
        "up": ("ffn_in",),
        "down": ("ffn_out",),
    },
    Hyena: {
        "mixer.in_proj": ("query", "key", "value"),
        "mixer.out_proj": ("output",),
        "up": ("ffn_in",),
        "down": ("ffn_out",),
    },
    BidirectionalMamba: {"mixer.in_proj": ("ffn_in",), "mixer.out_proj": ("ffn_out",)},
}


@dataclass(frozen=True)
class Site:
    """One published linear module, as output rows of one of our layers.

    `layer` is the name of our layer in the network and `rows` are its rows; `roles` has the rows of each
    role, in their order. `part` says how the rows are arranged in the published module.
    """

    module: str
    layer: str
    rows: range
    roles: Mapping[str, range]
    part: Part

    def chosen(self, targets: Sequence[str]) -> list[tuple[range, tuple[str, ...]]]:
        """Rows and roles of the branches for some targets: one for the module, or one for each role."""
        found = tuple(role for role in self.roles if role in targets)
        if len(found) == len(self.roles):
            return [(self.rows, found)]
        return [(self.roles[role], (role,)) for role in found]

    def to_ours(self, tensor: Tensor) -> Tensor:
        """Rows of the published module (rows, …) in our arrangement."""
        return self.part.to_ours(tensor)

    def to_published(self, tensor: Tensor) -> Tensor:
        """Our rows (rows, …) in the arrangement of the published module."""
        return self.part.to_published(tensor)


def adapter_sites(model: "Model") -> list[Site]:
    """All sites of a model, from its first layer to its last; ArgumentError for a network without any."""
    kinds = _ROLES.get(type(model.encoder))  # type: ignore[arg-type]
    if kinds is None:
        raise ArgumentError(
            f"model {model.name!r} ({type(model.encoder).__name__}) cannot take adapters: models with a "
            "transformer, Hyena or Mamba of this package can"
        )
    depth = len(model.encoder.layers)  # type: ignore[attr-defined]
    return [
        site
        for index in range(depth)
        for name, roles in kinds.items()
        for site in _sites_of_layer(model, f"encoder.layers.{index}.{name}", roles)
    ]


def _sites_of_layer(model: "Model", layer: str, roles: tuple[str, ...]) -> list[Site]:
    linear = model.network.get_submodule(layer)
    assert isinstance(linear, nn.Linear)
    width = linear.out_features
    sources = _sources(model.key_map, layer)
    by_role = dict(zip(roles, _shares(width, len(roles)), strict=True))
    return [
        Site(
            source.name.removesuffix(".weight"),
            layer,
            rows,
            {role: span for role, span in by_role.items() if span.start in rows},
            source,
        )
        for source, rows in zip(sources, _shares(width, len(sources)), strict=True)
    ]


def _sources(key_map: KeyMap | None, layer: str) -> tuple[Part, ...]:
    return key_map[f"{layer}.weight"] if key_map is not None else (Part(f"{layer}.weight"),)


def _shares(width: int, count: int) -> list[range]:
    """Equal parts of so many rows."""
    step = width // count
    return [range(start, start + step) for start in range(0, width, step)]
