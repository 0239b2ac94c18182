"""Any encoder or decoder that transformers has itself, behind the interface of the native families.

The network is the class that transformers has for the checkpoint's `model_type`; code that a checkpoint
brings is never looked at. Such code often stands for a network that differs in what its tensors do, not in
their names: so a field of config.json that transformers does not know is an error too.
"""

import inspect
import math
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from fastgenome.errors import CheckpointError
from fastgenome.models.checkpoint import WeightFiles, read_tensors, vocabulary_files
from fastgenome.models.key_map import KeyMap, assign_published, parts
from fastgenome.models.model import Model, Network
from fastgenome.models.published_config import PublishedConfig
from fastgenome.models.transformers_encoder import (
    TransformersEncoder,
    TransformersHead,
    TransformersPooler,
    cast_around_products,
)
from fastgenome.tokenizers.transformers_tokenizer import TransformersTokenizer

FAMILY = "transformers"

# Fields that older releases of transformers wrote, without effect on hidden states and logits.
_DEAD = ("reference_compile", "repad_logits_with_grad")

# Fields that say how to run a network, which is decided here: some would fetch code. Nor are there labels.
_OURS = {
    "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
    "_experts_implementation", "_experts_implementation_internal", "attn_implementation", "auto_map",
    "dtype", "experts_implementation", "id2label", "label2id", "num_labels", "output_attentions",
    "output_hidden_states", "return_dict", "torch_dtype", "torchscript", "use_cache",
}  # fmt: skip

# A table of as many positions would have half a gigabyte.
_LARGEST_SIZE = 1 << 26
# Whole numbers that are no sizes of anything.
_NO_SIZE = re.compile(r".*(theta|base|token_id)|(max|min)_length")
_POSITIVE = re.compile(r".*(eps|epsilon|theta)")


# How the config classes of transformers read what they do not declare.
_READING = re.compile(r"""\bkwargs\.(?:get|pop)\(\s*["'](\w+)["']""")


def recognises(config: Mapping[str, Any], directory: Path) -> bool:
    """Whether transformers itself has a network of the `model_type` of config.json."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        return False
    from transformers import CONFIG_MAPPING, MODEL_MAPPING

    return model_type in CONFIG_MAPPING and CONFIG_MAPPING[model_type] in MODEL_MAPPING


def load_directory(directory: Path, values: Mapping[str, Any]) -> Model:
    """The model in `directory`, float32 on the CPU; `values` is its config.json.

    Raises CheckpointError for what does not fit: a field of config.json that transformers does not know,
    tensors too many or too few, a tokenizer that cannot be used or has more ids than the embeddings.
    """
    tensors = read_tensors(directory)
    try:
        config = _config(values)
        network, names, unused, copies = _lay_out(config, _stored_class(config, values), tensors)
        assign_published(network, tensors, names, unused=unused, copies=copies)
        _try_out(network)
    except CheckpointError:
        raise
    except Exception as error:
        # transformers refuses configs and inputs in many ways.
        raise CheckpointError(
            f"transformers cannot run the model in {directory} ({type(error).__name__}: {error})"
        ) from error
    encoder = cast(TransformersEncoder, network.encoder)
    tokenizer = TransformersTokenizer(directory, config, files=vocabulary_files(directory))
    if tokenizer.vocabulary_size > encoder.vocabulary_size:
        raise CheckpointError(
            f"the tokenizer in {directory} has ids up to {tokenizer.vocabulary_size - 1}, the embeddings of "
            f"the model end at {encoder.vocabulary_size - 1}"
        )
    limits = [limit for limit in (tokenizer.max_length, _longest(config, encoder.body)) if limit]
    return Model(
        name=config.model_type,
        network=network,
        tokenizer=tokenizer,
        licence="not known here: see where the model is published",
        max_length=min(limits, default=None),
        config=dict(values),
        key_map=names,
        files=WeightFiles(directory),
    )


def _config(values: Mapping[str, Any]) -> Any:
    """The config as transformers holds it; CheckpointError for fields that it does not know."""
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[values["model_type"]]
    stated = _without_ours(values)
    _check_numbers(stated, name=values["model_type"])
    config = kind.from_dict(stated)
    # What is neither declared nor read is kept as it is.
    undeclared = config.to_dict().keys() & values.keys() - kind().to_dict().keys() - _read_by(kind)
    fields = PublishedConfig({name: values[name] for name in undeclared}, name=config.model_type)
    fields.ignore(*_DEAD, *_OURS)
    fields.expect("position_embedding_type", "absolute")
    if hasattr(config, "norm_eps"):
        # The first release of ModernBERT wrote both.
        fields.expect("layer_norm_eps", config.norm_eps)
    fields.finish()
    if config.is_encoder_decoder or getattr(config, "add_cross_attention", False):
        raise CheckpointError(f"{config.model_type}: models that read two texts at once are not supported")
    if "dynamic" in _rope_types(getattr(config, "rope_parameters", None) or {}):
        raise CheckpointError(
            f"{config.model_type}: with dynamic rotary positions a sequence's states depend on what was "
            "computed before; it is not supported"
        )
    config.use_cache = False
    return config


def _without_ours(value: Any) -> Any:
    """The values of a config, at every depth without those that are decided here."""
    if isinstance(value, Mapping):
        return {name: _without_ours(inner) for name, inner in value.items() if name not in _OURS}
    return [_without_ours(inner) for inner in value] if isinstance(value, list) else value


def _check_numbers(values: Mapping[str, Any], *, name: str) -> None:
    """CheckpointError for a number with which transformers makes tables without end, or states of NaN."""
    for field, value in values.items():
        if isinstance(value, Mapping):
            _check_numbers(value, name=name)
        elif isinstance(value, int) and value > _LARGEST_SIZE and not _NO_SIZE.fullmatch(field):
            raise CheckpointError(f"{name}: {field} is above {_LARGEST_SIZE}, which no size of a network is")
        elif isinstance(value, float) and not math.isfinite(value):
            raise CheckpointError(f"{name}: {field} is {value}, expected a finite number")
        elif isinstance(value, int | float) and value <= 0 and _POSITIVE.fullmatch(field):
            raise CheckpointError(f"{name}: {field} is {value}, expected more than 0")


def _read_by(kind: type) -> set[str]:
    """The fields that a config class reads without declaring them: those of older releases, as a rule."""
    from transformers import PreTrainedConfig

    found: set[str] = set()
    for part in kind.__mro__[: kind.__mro__.index(PreTrainedConfig)]:
        with suppress(OSError, TypeError):
            found.update(_READING.findall(inspect.getsource(part)))
    return found


def _rope_types(rope: Mapping[str, Any]) -> set[Any]:
    """The kinds of rotary positions, of all layers or by the type of layer."""
    inner = [part for part in rope.values() if isinstance(part, Mapping)]
    return {rope.get("rope_type")}.union(*map(_rope_types, inner))


class _Layout(NamedTuple):
    """A network without weights, and what `assign_published` needs to fill it."""

    network: Network
    names: KeyMap
    unused: list[str]
    copies: dict[str, str]


def _stored_class(config: Any, values: Mapping[str, Any]) -> Any:
    """The class of transformers whose tensors a checkpoint holds; the body alone where it names no other."""
    body = _mapped("MODEL_MAPPING", config)
    named = (values.get("architectures") or [""])[0]
    stored = getattr(sys.modules[body.__module__], str(named), None)
    return stored if isinstance(stored, type) and issubclass(stored, nn.Module) else body


def _class_with_head(config: Any, stored: Any) -> Any | None:
    """The class with a language-model head that the tensors of the class `stored` fill, if there is one."""
    masked = _mapped("MODEL_FOR_MASKED_LM_MAPPING", config)
    causal = _mapped("MODEL_FOR_CAUSAL_LM_MAPPING", config)
    if stored in (masked, causal):
        return stored
    if masked and stored is _mapped("MODEL_FOR_PRETRAINING_MAPPING", config):
        with torch.device("meta"):
            if set(masked(config).state_dict()) <= set(stored(config).state_dict()):
                return masked
    return None


def _mapped(mapping: str, config: Any) -> Any:
    import transformers

    found = getattr(transformers, mapping).get(type(config), None)
    return found[0] if isinstance(found, tuple) else found


def _lay_out(config: Any, stored: Any, tensors: Mapping[str, Tensor]) -> _Layout:
    """The network for the tensors of a checkpoint of the class `stored`."""
    whole, pooler, place = _make(config, stored)
    prefix = f"{place}." if whole is not whole.base_model else ""
    wanted = dict(_named_tensors(whole))
    if pooler is not None:
        wanted |= {f"{prefix}pooler.{name}": tensor for name, tensor in _named_tensors(pooler).items()}
    renamed = _renamed(whole, wanted, tensors)
    if not any(name.startswith(f"{prefix}pooler.") for name in renamed):
        pooler = None
        wanted = _named_tensors(whole)
    sources, copies = _sources(wanted, renamed)
    unused = _unused(whole, stored, renamed.keys() - wanted.keys())
    encoder = TransformersEncoder(whole.base_model)
    network = Network(
        encoder,
        TransformersHead(whole, encoder, place) if prefix else None,
        TransformersPooler(pooler) if pooler is not None else None,
    )
    cast_around_products(network)
    places = {"encoder.body.": prefix, "head.model.": "", "pooler.pooler.": f"{prefix}pooler."}
    key_map = {}
    for name in network.state_dict():
        ours = next(start for start in places if name.startswith(start))
        key_map[name] = parts(sources[places[ours] + name.removeprefix(ours)])
    return _Layout(network, key_map, [re.escape(renamed[name]) for name in unused], copies)


def _make(config: Any, stored: Any) -> tuple[Any, nn.Module | None, str]:
    """Network without a pooler, the pooler that it might have, and what the network calls its body."""
    from transformers.initialization import no_init_weights

    with_head = _class_with_head(config, stored)
    with no_init_weights():
        plain = _mapped("MODEL_MAPPING", config)._from_config(config, dtype=torch.float32)
        whole = with_head._from_config(config, dtype=torch.float32) if with_head else plain
    whole.tie_weights()
    pooler = getattr(plain, "pooler", None)
    if pooler is not None:
        whole.base_model.pooler = None
    return whole, pooler, whole.base_model_prefix


def _renamed(whole: Any, wanted: dict[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Name in `wanted` -> name in the file: transformers renames some, and adds or takes away a prefix."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    rules = [rule for rule in get_model_conversion_mapping(whole) if isinstance(rule, WeightRenaming)]
    found: dict[str, str] = {}
    for name in sorted(tensors):
        ours, _ = rename_source_key(name, rules, [], whole.base_model_prefix, wanted)
        if ours in found:
            raise CheckpointError(f"the checkpoint holds {ours} twice, as {found[ours]} and as {name}")
        found[ours] = name
    return found


def _named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint of `module` holds, tied tensors under each of their names."""
    return module.state_dict(keep_vars=True)


def _sources(
    wanted: Mapping[str, Tensor], renamed: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Name in the network -> name in the file, one for all that are tied; and the further copies of these."""
    tied: dict[int, list[str]] = {}
    for name, tensor in wanted.items():
        tied.setdefault(id(tensor), []).append(name)
    sources: dict[str, str] = {}
    copies: dict[str, str] = {}
    for group in tied.values():
        files = [renamed[name] for name in group if name in renamed] or group[:1]
        sources |= dict.fromkeys(group, files[0])
        copies |= dict.fromkeys(files[1:], files[0])
    return sources, copies


def _unused(whole: Any, stored: Any, others: set[str]) -> set[str]:
    """Which of the tensors left over are computed by the network or belong to other heads."""
    patterns = [re.compile(pattern) for pattern in whole._keys_to_ignore_on_load_unexpected or ()]
    computed = {name for name, _ in whole.named_buffers()}
    heads: set[str] = set()
    if not isinstance(whole, stored):
        with torch.device("meta"):
            heads = set(stored(whole.config).state_dict())
    return {
        name
        for name in others
        if name in computed or name in heads or any(pattern.search(name) for pattern in patterns)
    }


def _try_out(network: Network) -> None:
    """Run one token, from which the widths are known; CheckpointError where that is not a text model."""
    encoder = cast(TransformersEncoder, network.encoder.eval())
    encoder.measure()
    if network.head is not None:
        head = cast(TransformersHead, network.head.eval())
        head.outputs_like(encoder)
        with torch.no_grad():
            head(torch.zeros(1, encoder.widths[-1]))


def _longest(config: Any, body: nn.Module) -> int | None:
    """Most tokens of a sequence, None where the network has no limit."""
    limit = getattr(config, "max_position_embeddings", None)
    # XLNet's is -1.
    if not isinstance(limit, int) or limit < 1:
        limit = None
    for name, part in body.named_modules():
        # RoBERTa and ESM count positions from behind the padding's.
        if name.endswith("position_embeddings") and isinstance(part, nn.Embedding):
            first = 0 if part.padding_idx is None else part.padding_idx + 1
            limit = min(limit or part.num_embeddings, part.num_embeddings - first)
    return limit
