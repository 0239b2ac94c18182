"""What the fields of PEFT's adapter_config.json mean, and which of them are understood."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastgenome.adapters import peft_tensors
from fastgenome.adapters.adalora import AdaLoRA
from fastgenome.adapters.branch import AdapterConfig
from fastgenome.adapters.dora import DoRA
from fastgenome.adapters.ia3 import IA3
from fastgenome.adapters.lora import LoRA
from fastgenome.adapters.rank_sampling import ARS
from fastgenome.errors import ArgumentError, CheckpointError

Fields = Mapping[str, Any]

# Fields that say nothing of the function, or whose say is seen from the names of the tensors.
_FREE = {
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "eva_config", "exclude_modules",
    "inference_mode", "init_ia3_weights", "layers_pattern", "layers_to_transform", "megatron_core",
    "peft_type", "peft_version", "qalora_group_size", "revision", "target_modules", "task_type",
}  # fmt: skip
# Other ways to start change the weights of the base as well.
_STARTS = (True, False, "gaussian", "orthogonal", "eva", None)

# PEFT has no type for ARS, which it takes for AdaLoRA.
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (LoRA, DoRA, IA3, AdaLoRA, ARS)}
_IN_PEFT_FIELDS = {
    "rank", "alpha", "targets", "dropout", "use_rslora", "initial_rank", "target_rank", "beta1", "beta2",
    "orthogonality",
}  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A `peft_type` that is read: its own fields, and how they make our settings for some targets."""

    fields: frozenset[str]
    config: Callable[[Fields, tuple[str, ...]], AdapterConfig]


def _low_rank_config(fields: Fields, targets: tuple[str, ...]) -> AdapterConfig:
    return (DoRA if fields.get("use_dora") else LoRA)(
        rank=fields.get("r", 8),
        alpha=fields.get("lora_alpha", 8),
        targets=targets,
        dropout=fields.get("lora_dropout", 0.0),
        use_rslora=fields.get("use_rslora", False),
    )


def _ia3_config(fields: Fields, targets: tuple[str, ...]) -> AdapterConfig:
    return IA3(targets=targets)


def _rank_config(fields: Fields, targets: tuple[str, ...]) -> AdapterConfig:
    initial = fields.get("init_r", 12)
    target = fields.get("target_r", 8)
    return AdaLoRA(
        initial_rank=initial,
        # PEFT lets the target lie above, where it means nothing.
        target_rank=target if initial is None else min(target, initial),
        alpha=fields.get("lora_alpha", 8),
        dropout=fields.get("lora_dropout", 0.0),
        targets=targets,
        beta1=fields.get("beta1", 0.85),
        beta2=fields.get("beta2", 0.85),
        orthogonality=fields.get("orth_reg_weight", 0.5),
    )


METHODS: dict[str, Method] = {
    "LORA": Method(
        frozenset(
            {"r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern"}
        ),
        _low_rank_config,
    ),
    # Of a schedule only the result is in a file; its steps are those of another run.
    "ADALORA": Method(
        frozenset(
            {"init_r", "target_r", "lora_alpha", "lora_dropout", "beta1", "beta2", "orth_reg_weight"}
            | {"rank_pattern", "r", "tinit", "tfinal", "deltaT", "total_step"}
        ),
        _rank_config,
    ),
    "IA3": Method(frozenset({"feedforward_modules"}), _ia3_config),
}


def check_fields(fields: Fields) -> None:
    """CheckpointError that names a method or options that are not understood, or damaged values."""
    kind = fields.get("peft_type")
    if kind not in METHODS:
        raise CheckpointError(f"peft_type is {kind!r}; adapters of {', '.join(METHODS)} can be loaded")
    known = _FREE | METHODS[kind].fields
    neutral = {"bias": ("none",), "init_lora_weights": _STARTS}
    wrong = [
        f"{name}={value!r}"
        for name, value in fields.items()
        if name not in known and value not in neutral.get(name, (None, False, [], {}, ""))
    ]
    if wrong:
        raise CheckpointError(f"adapter_config.json has options that are not supported: {', '.join(wrong)}")
    for name in ("use_rslora", "use_dora"):
        if not isinstance(fields.get(name, False), bool):
            raise CheckpointError(f"adapter_config.json: {name} is {fields[name]!r}, expected true or false")
    for name in ("rank_pattern", "alpha_pattern"):
        if not isinstance(fields.get(name) or {}, dict):
            raise CheckpointError(f"adapter_config.json: {name} is {fields[name]!r}, expected an object")


def make_config(fields: Fields, targets: tuple[str, ...]) -> AdapterConfig:
    """Our settings of the method; CheckpointError for values that it does not accept."""
    try:
        return METHODS[fields["peft_type"]].config(fields, targets)
    except (ArgumentError, TypeError) as error:
        raise CheckpointError(f"adapter_config.json: {error}") from error


def own_settings(config: AdapterConfig) -> str:
    """The method's name and those settings that PEFT has no fields for, as JSON."""
    own = {name: value for name, value in _settings(config).items() if name not in _IN_PEFT_FIELDS}
    return json.dumps({"method": type(config).__name__, **own})


def with_own_settings(config: AdapterConfig, stored: str) -> AdapterConfig:
    """The settings made of PEFT's fields with those of `own_settings`; CheckpointError for others."""
    try:
        own = json.loads(stored)
        if not _IN_PEFT_FIELDS.isdisjoint(own):
            raise ValueError("they repeat fields of PEFT")
        made: AdapterConfig = _KINDS[own.pop("method")](**(_settings(config) | own))
        if made.peft_fields() != config.peft_fields():
            raise ValueError("they contradict the fields of PEFT")
    except (ArgumentError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"the adapter's own settings {stored!r} are damaged: {error!r}") from error
    return made


def _settings(config: AdapterConfig) -> dict[str, Any]:
    settings: dict[str, Any] = dataclasses.asdict(config)  # type: ignore[call-overload]
    return settings


def tensor_names(fields: Fields) -> frozenset[str]:
    """The tensors that each module has."""
    match fields["peft_type"]:
        case "IA3":
            return peft_tensors.IA3
        case "ADALORA":
            return peft_tensors.ADALORA
        case _:
            return peft_tensors.DORA if fields.get("use_dora") else peft_tensors.LORA


def adapted_modules(fields: Fields, names: Iterable[str]) -> set[str]:
    """Those of the modules in `names` that PEFT would adapt."""
    target, excluded = fields.get("target_modules"), fields.get("exclude_modules")
    chosen = {name for name in names if matches(target, name) and not matches(excluded, name)}
    layers = fields.get("layers_to_transform")
    if layers is None or isinstance(target, str):
        return chosen
    wanted = [layers] if isinstance(layers, int) else layers
    patterns = fields.get("layers_pattern") or r"[^.]*"
    places = (
        (name, re.match(rf".*\.{pattern}\.(\d+)\.", name))
        for name in chosen
        for pattern in ([patterns] if isinstance(patterns, str) else patterns)
    )
    return {name for name, place in places if place and int(place[1]) in wanted}


def matches(pattern: Any, name: str) -> bool:
    """Whether PEFT's list of names or regular expression of whole names takes a module."""
    if isinstance(pattern, str):
        try:
            return re.fullmatch(pattern, name) is not None
        except re.error as error:
            raise CheckpointError(f"adapter_config.json: {pattern!r} is no pattern: {error}") from error
    if not isinstance(pattern, list | None) or not all(isinstance(end, str) for end in pattern or ()):
        raise CheckpointError(f"adapter_config.json: {pattern!r} should be a list of modules or a pattern")
    return any(name == end or name.endswith(f".{end}") for end in pattern or ())


def rank_and_scale(fields: Fields, module: str) -> tuple[int, float]:
    """Rank of a module, 0 for a method without one, and s."""
    match fields["peft_type"]:
        case "IA3":
            return 0, 1.0
        case "ADALORA":
            rank = _initial_rank(fields)
            return rank, _positive("lora_alpha", fields.get("lora_alpha", 8)) / (rank + 1e-5)
    rank = int(_of_pattern(fields, "rank_pattern", module, fields.get("r", 8)))
    alpha = _of_pattern(fields, "alpha_pattern", module, fields.get("lora_alpha", 8))
    return rank, alpha / (math.sqrt(rank) if fields.get("use_rslora") else rank)


def kept_in_file(fields: Fields, module: str) -> list[bool] | None:
    """Which ranks of a module AdaLoRA has kept; None for other methods."""
    if fields["peft_type"] != "ADALORA":
        return None
    rank = _initial_rank(fields)
    kept = (fields.get("rank_pattern") or {}).get(f"{module}.lora_E", [True] * rank)
    if not isinstance(kept, list) or len(kept) != rank or not all(isinstance(flag, bool) for flag in kept):
        raise CheckpointError(f"adapter_config.json: rank_pattern of {module} is not a list of {rank} truths")
    return kept


def per_branch(fields: Fields, blocks: int) -> Fields:
    """The fields with the rank of one branch, where AdaLoRA's initial one counts `blocks` of them."""
    if fields["peft_type"] != "ADALORA" or blocks == 1:
        return fields
    initial, scale = rank_and_scale(fields, "")
    rank = initial // blocks
    return {**fields, "init_r": rank, "lora_alpha": round(scale * (rank + 1e-5), 9)}


def _initial_rank(fields: Fields) -> int:
    return int(_positive("init_r", fields.get("init_r", 12)))


def _positive(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise CheckpointError(f"adapter_config.json: {name} is {value!r}, expected a number above 0")
    return value


def _of_pattern(fields: Fields, patterns: str, module: str, usual: Any) -> float:
    """The number of the first of some patterns that takes the end of a module's name, else the usual one."""
    for pattern, value in (fields.get(patterns) or {}).items():
        try:
            found = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error as error:
            raise CheckpointError(f"adapter_config.json: {pattern!r} is no pattern: {error}") from error
        if found:
            return _positive(f"{patterns}[{pattern!r}]", value)
    return _positive("r" if patterns == "rank_pattern" else "lora_alpha", usual)
