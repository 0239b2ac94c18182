"""The tensors of PEFT's adapter files, and our branches made of them and written as them.

A published module has one set of tensors. Where several of our branches lie in it, one for each role of a
fused module, their A are stacked, and B holds each one's rows and ranks as a block, zeros elsewhere.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fastgenome.adapters.branch import Branch
from fastgenome.adapters.sites import Site
from fastgenome.errors import CheckpointError

# Which tensors a module has, by what the method is.
LORA = frozenset({"lora_A.weight", "lora_B.weight"})
DORA = LORA | {"lora_magnitude_vector"}
ADALORA = frozenset({"lora_A", "lora_B", "lora_E"})
IA3 = frozenset({"ia3_l"})

# Names in a file -> names here, of the two tensors that AdaLoRA holds without a module around them.
_PLAIN = {"lora_A.weight": "lora_A", "lora_B.weight": "lora_B"}


def write_branches(site: Site, branches: Sequence[Branch], weight: Tensor) -> dict[str, Tensor]:
    """The tensors of a site with these branches, by the ends of their names; `weight` is our layer's."""
    weight = weight.detach()
    if branches[0].input_gain is not None:
        return {"ia3_l": branches[0].input_gain.detach()[None]}
    if branches[0].gain is not None:
        gain = _overlaid(site, torch.ones(len(site.rows), device=weight.device), branches, "gain")
        return {"ia3_l": gain[:, None]}
    return _write_low_rank(site, branches, weight)


def _overlaid(site: Site, rows: Tensor, branches: Sequence[Branch], name: str) -> Tensor:
    """Numbers of a site's rows, those of branches in place of the given ones, as published."""
    for branch in branches:
        rows[_rows_in(site, branch)] = getattr(branch, name).detach()
    return site.to_published(rows)


def _write_low_rank(site: Site, branches: Sequence[Branch], weight: Tensor) -> dict[str, Tensor]:
    products = [tuple(factor.detach() for factor in branch.factors()) for branch in branches]
    up = torch.zeros(len(site.rows), sum(len(down) for down, _ in products), device=weight.device)
    column = 0
    for branch, (down, part) in zip(branches, products, strict=True):
        up[_rows_in(site, branch), column : column + len(down)] = part
        column += len(down)
    tensors = {"lora_A": torch.cat([down for down, _ in products]), "lora_B": site.to_published(up)}
    values = [branch.values.detach() for branch in branches if branch.values is not None]
    if values:
        kept = kept_ranks(branches)
        tensors["lora_E"] = torch.cat(values)[:, None]
        return {name: t[:, kept] if name == "lora_B" else t[kept] for name, t in tensors.items()}
    named = {name: tensors[plain] for name, plain in _PLAIN.items()}
    if branches[0].magnitude is not None:
        # Rows without a branch keep their norm.
        norms = weight[site.rows.start : site.rows.stop].float().norm(dim=1)
        named["lora_magnitude_vector"] = _overlaid(site, norms, branches, "magnitude")
    return named


def shapes(rank: int, width: int, rows: int, feedforward: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a module of `width` inputs and so many output rows."""
    down, up = (rank, width), (rows, rank)
    return {
        "lora_A.weight": down,
        "lora_B.weight": up,
        "lora_magnitude_vector": (rows,),
        "lora_A": down,
        "lora_B": up,
        "lora_E": (rank, 1),
        "ia3_l": (1, width) if feedforward else (rows, 1),
    }


def kept_ranks(branches: Sequence[Branch]) -> Tensor:
    """Which ranks of branches with values are not masked, (ranks of all branches,) bool."""
    return torch.cat([branch.mask for branch in branches if branch.mask is not None])


def read_branches(
    site: Site,
    tensors: Mapping[str, Tensor],
    spans: Sequence[range],
    *,
    scale: float,
    kept: Sequence[bool] | None = None,
    feedforward: bool = False,
) -> list[Branch]:
    """Branches for some spans of a site's rows from the tensors of its module, float32.

    `kept` says which ranks of a method with values are in the file, `feedforward` whether a factor is on the
    input. Raises CheckpointError for numbers outside the blocks of the spans.
    """
    if "ia3_l" in tensors:
        factors = tensors["ia3_l"].flatten()
        if feedforward:
            return [Branch(site.rows, input_gain=factors)]
        gain = site.to_ours(factors)
        return [Branch(span, gain=gain[_rows_of(site, span)].clone()) for span in spans]
    named = {_PLAIN.get(name, name): tensor for name, tensor in tensors.items()}
    if kept is not None:
        named = _spread_ranks(named, torch.tensor(kept, dtype=torch.bool))
    rank = len(named["lora_A"]) // len(spans)
    up, magnitude = site.to_ours(named["lora_B"]), named.get("lora_magnitude_vector")
    branches = []
    for index, span in enumerate(spans):
        columns, rows = slice(index * rank, (index + 1) * rank), _rows_of(site, span)
        if up[:, columns].count_nonzero() != up[rows, columns].count_nonzero():
            raise CheckpointError(f"{site.module}: lora_B has numbers outside the rows of its roles")
        branch = Branch(
            span,
            scale=scale,
            down=named["lora_A"][columns].clone(),
            up=up[rows, columns].clone(),
            values=named["lora_E"][columns, 0].clone() if "lora_E" in named else None,
            magnitude=site.to_ours(magnitude)[rows].clone() if magnitude is not None else None,
        )
        if kept is not None and branch.mask is not None:
            branch.mask.copy_(torch.tensor(kept[columns], dtype=torch.bool))
        branches.append(branch)
    return branches


def _spread_ranks(named: Mapping[str, Tensor], kept: Tensor) -> dict[str, Tensor]:
    """Tensors without their masked ranks -> with zeros for them."""
    spread = {}
    for name, tensor in named.items():
        along = 1 if name == "lora_B" else 0
        shape = list(tensor.shape)
        shape[along] = len(kept)
        full = tensor.new_zeros(shape)
        full[(slice(None),) * along + (kept,)] = tensor
        spread[name] = full
    return spread


def _rows_of(site: Site, span: range) -> slice:
    return slice(span.start - site.rows.start, span.stop - site.rows.start)


def _rows_in(site: Site, branch: Branch) -> slice:
    return _rows_of(site, range(branch.start, branch.stop))
