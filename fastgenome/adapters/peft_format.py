"""Adapters in the files of PEFT: adapter_config.json and adapter_model.safetensors, in published names.

Files of PEFT itself are read too. Ours hold in the metadata of the tensors, where PEFT does not look, the
roles that were adapted, settings that PEFT has no fields for, the digest of the base model's weights and that
of the tensors.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastgenome.adapters.attach import attach_branches, check_new, check_not_merged
from fastgenome.adapters.branch import ROLES, Branch
from fastgenome.adapters.linear import AdapterLinear
from fastgenome.adapters.peft_fields import (
    Fields,
    adapted_modules,
    check_fields,
    kept_in_file,
    make_config,
    matches,
    own_settings,
    per_branch,
    rank_and_scale,
    tensor_names,
    with_own_settings,
)
from fastgenome.adapters.peft_tensors import kept_ranks, read_branches, shapes, write_branches
from fastgenome.adapters.sites import Site, adapter_sites
from fastgenome.atomic import atomic_folder
from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.models.checkpoint import check_links, describe_difference, read_json, write_tensors
from fastgenome.models.mamba import BidirectionalMamba

if TYPE_CHECKING:
    from fastgenome.models.model import Model

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."

# Fields that may be edited: they change nothing.
_PROVENANCE = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type",
}  # fmt: skip


def save_adapter(model: "Model", directory: str | Path, *, name: str = "default") -> None:
    """Write an adapter into a folder that appears only when it is complete; one with an adapter is replaced.

    Raises ArgumentError for a name that the model does not have, while an adapter is merged, or for a folder
    with other content.
    """
    if name not in model.adapters.configs:
        raise ArgumentError(f"model {model.name!r} has no adapter {name!r} to save")
    check_not_merged(model, "saving an adapter")
    adapted = _adapted(model, name)
    tensors = {
        f"{_PREFIX}{site.module}.{end}": tensor
        for site, branches in adapted
        for end, tensor in write_branches(site, branches, _layer(model, site).weight).items()
    }
    config = model.adapters.configs[name]
    fields = _fields(model, config.peft_fields(), adapted)
    settings = own_settings(config)
    metadata = {
        "targets": ",".join(config.targets),
        "settings": settings,
        "tensors_sha256": _digest(tensors),
        "config_sha256": _digest_of_fields(fields, settings),
        "base_sha256": model.sha256 or "none",
    }
    with atomic_folder(directory, marker=CONFIG) as folder:
        (folder / CONFIG).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        write_tensors(folder / WEIGHTS, tensors, metadata=metadata)


def _adapted(model: "Model", name: str) -> list[tuple[Site, list[Branch]]]:
    """The sites that an adapter touches, with its branches there."""
    found = []
    for site in adapter_sites(model):
        layer = _layer(model, site)
        branches = layer.branches(name) if isinstance(layer, AdapterLinear) else []
        here = [branch for branch in branches if branch.start in site.rows]
        if here:
            found.append((site, here))
    return found


def _layer(model: "Model", site: Site) -> nn.Linear:
    layer = model.network.get_submodule(site.layer)
    assert isinstance(layer, nn.Linear)
    return layer


def _fields(
    model: "Model", own: dict[str, Any], adapted: Sequence[tuple[Site, list[Branch]]]
) -> dict[str, Any]:
    """The content of adapter_config.json; `own` are the method's fields."""
    fields = {
        "auto_mapping": None,
        "base_model_name_or_path": model.name,
        "inference_mode": True,
        "modules_to_save": None,
        "revision": None,
        "target_modules": sorted(site.module for site, _ in adapted),
        "task_type": None,
        **own,
    }
    if own["peft_type"] == "IA3":
        inputs = [site.module for site, branches in adapted if branches[0].input_gain is not None]
        return fields | {"feedforward_modules": sorted(inputs)}
    fields["bias"] = "none"
    if own["peft_type"] == "ADALORA":
        return fields | _rank_fields(adapted)
    fields["rank_pattern"], fields["alpha_pattern"] = {}, {}
    for site, branches in adapted:
        rank = sum(len(branch.factors()[0]) for branch in branches)
        alpha = branches[0].scale * (rank**0.5 if own["use_rslora"] else rank)
        if rank != own["r"]:
            fields["rank_pattern"][site.module] = rank
        if abs(alpha - own["lora_alpha"]) > 1e-9 * alpha:
            fields["alpha_pattern"][site.module] = round(alpha, 9)
    return fields


def _rank_fields(adapted: Sequence[tuple[Site, list[Branch]]]) -> dict[str, Any]:
    """The fields of AdaLoRA that say which ranks are in the file; all modules start from one rank there."""
    kept = {site.module: kept_ranks(branches).tolist() for site, branches in adapted}
    most = max(map(len, kept.values()))
    return {
        "init_r": most,
        "lora_alpha": round(adapted[0][1][0].scale * (most + 1e-5), 9),
        "rank_pattern": {f"{module}.lora_E": k + [False] * (most - len(k)) for module, k in kept.items()},
    }


def load_adapter(model: "Model", directory: str | Path, *, name: str = "default") -> None:
    """Attach and activate an adapter from files of `save_adapter` or of PEFT.

    Raises CheckpointError for files that are missing or damaged, that belong to another base, hold options
    that are not supported, or lack or have too much of what the base takes; ArgumentError as `add_adapter`.
    """
    check_new(model, name)
    fields, tensors, metadata = _read(Path(directory))
    check_fields(fields)
    _check_origin(model, metadata, fields, tensors)
    sites = _by_file_name(adapter_sites(model), {key.removeprefix(_PREFIX) for key in tensors})
    modules = sorted(adapted_modules(fields, sites))
    wanted = {f"{_PREFIX}{module}.{end}" for module in modules for end in tensor_names(fields)}
    if wanted != tensors.keys() or not wanted:
        raise CheckpointError(describe_difference(f"{WEIGHTS} against {CONFIG}", wanted, set(tensors)))
    targets = _targets(metadata, [sites[module] for module in modules])
    blocks = max(len(sites[module].chosen(targets)) for module in modules)
    config = make_config(per_branch(fields, blocks), targets)
    if "settings" in metadata:
        config = with_own_settings(config, metadata["settings"])
    branches: dict[str, list[Branch]] = {}
    with torch.inference_mode(False):
        for module in modules:
            site = sites[module]
            found = {end: tensors[f"{_PREFIX}{module}.{end}"].float() for end in sorted(tensor_names(fields))}
            made = _site_branches(fields, module, site, found, _layer(model, site), targets, blocks)
            branches.setdefault(site.layer, []).extend(made)
    attach_branches(model, config, branches, name=name)


def _site_branches(
    fields: Fields,
    module: str,
    site: Site,
    tensors: Mapping[str, Tensor],
    layer: nn.Linear,
    targets: tuple[str, ...],
    blocks: int,
) -> list[Branch]:
    """The branches of one module of a file; CheckpointError for wrong shapes."""
    feedforward = matches(fields.get("feedforward_modules"), module)
    if feedforward and len(site.rows) != layer.out_features:
        raise CheckpointError(
            f"{module} is one of the feedforward_modules, but its input is that of other modules here"
        )
    spans = [span for span, _ in site.chosen(targets)]
    rank, scale = rank_and_scale(fields, module)
    kept = kept_in_file(fields, module)
    expected = shapes(rank if kept is None else sum(kept), layer.in_features, len(site.rows), feedforward)
    for end, tensor in tensors.items():
        if tensor.shape != expected[end]:
            raise CheckpointError(
                f"{module}.{end}: shape {tuple(tensor.shape)}, expected {expected[end]} by {CONFIG}"
            )
    if kept is not None:
        # Behind the ranks of a module with fewer roles than others there is nothing.
        kept = kept[: len(kept) // blocks * len(spans)]
    made = read_branches(site, tensors, spans, scale=scale, kept=kept, feedforward=feedforward)
    return [branch.to(layer.weight.device) for branch in made]


def _read(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, str]]:
    """Fields, tensors and metadata of an adapter's folder."""
    from safetensors import SafetensorError, safe_open

    if not directory.is_dir():
        raise CheckpointError(f"{directory} is not a folder with an adapter")
    check_links(directory)
    if not (directory / WEIGHTS).is_file():
        pickled = (directory / "adapter_model.bin").exists()
        hint = (
            "; adapter_model.bin is a pickle, which is not opened: save it as safetensors" if pickled else ""
        )
        raise CheckpointError(f"{directory} holds no {WEIGHTS}{hint}")
    fields = read_json(directory, CONFIG)
    try:
        with safe_open(str(directory / WEIGHTS), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            return fields, tensors, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{directory / WEIGHTS} cannot be read as safetensors: {error}") from error


def _check_origin(
    model: "Model", metadata: Mapping[str, str], fields: Fields, tensors: Mapping[str, Tensor]
) -> None:
    """CheckpointError for files of ours that are not as written, or an adapter of another base."""
    if set(metadata) <= {"format"}:
        _check_ways(model)
        return
    if missing := {"targets", "tensors_sha256", "config_sha256", "base_sha256"} - set(metadata):
        raise CheckpointError(f"{WEIGHTS} is damaged: its metadata lack {', '.join(sorted(missing))}")
    if metadata["tensors_sha256"] != _digest(tensors):
        raise CheckpointError(f"{WEIGHTS} is damaged: its tensors do not have the digest stored with them")
    if metadata["config_sha256"] != _digest_of_fields(fields, metadata.get("settings", "")):
        raise CheckpointError(f"{CONFIG} is damaged or was changed: it does not have the digest in {WEIGHTS}")
    base = metadata["base_sha256"]
    if base != (model.sha256 or "none"):
        raise CheckpointError(
            f"the adapter was trained on a base with sha256 {base}; model {model.name!r} has {model.sha256}"
        )


def _check_ways(model: "Model") -> None:
    """CheckpointError for a file of PEFT's on a network that runs one product both ways."""
    if any(isinstance(part, BidirectionalMamba) for part in model.network.modules()):
        raise CheckpointError(
            "PEFT adapts one way of a Caduceus model at a time, here both ways share their products: such an "
            "adapter would be another function"
        )


def _digest_of_fields(fields: Fields, settings: str) -> str:
    """SHA-256 of what adapter_config.json says of the function, and of the settings beside it."""
    meant = {name: value for name, value in fields.items() if name not in _PROVENANCE}
    return hashlib.sha256((json.dumps(meant, sort_keys=True) + settings).encode()).hexdigest()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and float32 numbers."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _by_file_name(sites: Sequence[Site], keys: set[str]) -> dict[str, Site]:
    """The sites by the names of their modules in a file, whose prefix may be longer or shorter than ours."""
    for key in sorted(keys):
        places = [place for place in range(len(key)) if key[place] == "."]
        for module in (key[:place] for place in reversed(places)):
            found = [s.module for s in sites if _is_end(module, s.module) or _is_end(s.module, module)]
            if len(found) == 1:
                ours, common = found[0], min(found[0], module, key=len)
                ahead, before = ours.removesuffix(common), module.removesuffix(common)
                return {before + site.module.removeprefix(ahead): site for site in sites}
    raise CheckpointError(
        f"no module of {WEIGHTS} is one of the model's, as {sites[0].module} is; it has {sorted(keys)[:3]}"
    )


def _is_end(end: str, name: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _targets(metadata: Mapping[str, str], sites: Sequence[Site]) -> tuple[str, ...]:
    """The roles that were adapted: as stored, else all of the modules in the file."""
    there = {role for site in sites for role in site.roles}
    stored = metadata.get("targets")
    if stored is None:
        return tuple(role for role in ROLES if role in there)
    targets = tuple(stored.split(","))
    if not set(targets) <= there or any(not site.chosen(targets) for site in sites):
        raise CheckpointError(f"{WEIGHTS} is of the roles {stored}, but its modules are of {sorted(there)}")
    return targets
