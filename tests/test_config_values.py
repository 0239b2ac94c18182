"""Values of config.json that no network has: refused at once with a CheckpointError, in every family."""

import json
import shutil
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_checkpoints import write_tiny

import fastgenome as fg
from fastgenome.errors import CheckpointError
from fastgenome.models import convnova, unet
from fastgenome.models.published_config import PublishedConfig

BERT = {
    "model_type": "bert", "vocab_size": 70, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip
HYENA = {
    "model_type": "hyenadna", "vocab_size": 12, "d_model": 16, "n_layer": 2, "d_inner": 32,
    "max_seq_len": 64, "emb_dim": 5, "filter_order": 8,
}  # fmt: skip
OPT = {
    "model_type": "opt", "vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "ffn_dim": 48, "max_position_embeddings": 64,
}  # fmt: skip
ESM = BERT | {"model_type": "esm", "vocab_size": 4105}
CADUCEUS = {"model_type": "caduceus", "vocab_size": 12, "d_model": 16, "n_layer": 2}
LLAMA = BERT | {"model_type": "llama", "vocab_size": 20}

# A config of each family, and what stands in its vocab.txt besides special tokens and 3-mers.
CONFIGS: dict[str, tuple[dict[str, Any], tuple[str, ...] | None]] = {
    "dnabert": (BERT, ()),
    "specieslm": (BERT, ("candida_glabrata",)),
    "dnabert2": (BERT | {"alibi_starting_size": 64}, None),
    "nucleotide_transformer": (ESM, None),
    "opt": (OPT, None),
    "hyenadna": (HYENA, None),
    "caduceus": (CADUCEUS, None),
    "bert": (BERT, None),
    "llama": (LLAMA, None),
    "modernbert": (BERT | {"model_type": "modernbert"}, None),
    "xlnet": ({"model_type": "xlnet", "vocab_size": 20, "d_model": 32, "n_layer": 1, "n_head": 4}, None),
}


def write(directory: Path, config: dict[str, Any], words: tuple[str, ...] | None) -> Path:
    """A directory with a config, weights of no network and perhaps a vocabulary of 3-mers."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file({"x": torch.ones(2)}, directory / "model.safetensors")
    if words is not None:
        special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        tokens = (*special, *map("".join, product("ACGT", repeat=3)), *words)
        (directory / "vocab.txt").write_text("\n".join(tokens) + "\n")
    return directory


def refused(directory: Path, message: str = ".") -> None:
    """Loading is refused within a second of the processor's time."""
    before = time.process_time()
    with pytest.raises(CheckpointError, match=message):
        fg.load(directory, device="cpu", dtype="float32")
    assert time.process_time() - before < 1


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """What is imported at the first load takes time that is not meant here."""
    import transformers

    assert transformers.MODEL_MAPPING
    for config in (transformers.BertConfig, transformers.LlamaConfig, transformers.XLNetConfig):
        assert transformers.MODEL_MAPPING[config]


LAYERS = {"hyenadna": ("n_layer", "num_inner_mlps"), "caduceus": ("n_layer",), "xlnet": ("n_layer",)}


@pytest.mark.parametrize("count", [3000, 10**11, 2**70])
@pytest.mark.parametrize("family", CONFIGS)
def test_layers_that_nobody_publishes_are_refused_at_once(family: str, count: int, tmp_path: Path) -> None:
    config, words = CONFIGS[family]
    for field in LAYERS.get(family, ("num_hidden_layers",)):
        refused(write(tmp_path, config | {field: count}, words), rf"{field} .*layers")


@pytest.mark.parametrize("count", [3000, 10**11])
def test_layers_of_our_own_families_are_bounded_too(count: int, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny") / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"transformer": content["transformer"] | {"layers": count}}))
    refused(path.parent, "layers")
    wide = 2 * min(count, 3000)
    for model, changes in (
        (convnova.create(convnova.ConvNovaConfig(dim=8)), {"stacks": count}),
        (convnova.create(convnova.ConvNovaConfig(dim=8)), {"stacks": 600, "dilations": [4, 16]}),
        (convnova.create(convnova.ConvNovaConfig(dim=8)), {"dilations": [4] * wide}),
        (unet.create(unet.UNetConfig(level_dims=(8,))), {"level_dims": [8] * wide}),
    ):
        path = tmp_path / model.name / "config.json"
        model.save(path.parent)
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        refused(path.parent, "layers")


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(
    "value", [10**9, 2**70, 10**400, -1, 0, [1], {}, "x", True], ids=lambda v: str(v)[:20]
)
def test_sizes_that_no_network_has_are_refused_at_once(family: str, value: Any, tmp_path: Path) -> None:
    config, words = CONFIGS[family]
    for field, usual in config.items():
        if isinstance(usual, int) and field != "alibi_starting_size":
            refused(write(tmp_path, config | {field: value}, words))


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": 5},
        {"architectures": [[1]], "model_type": "esm"},
        {"architectures": {"EsmForMaskedLM": 1}, "vocab_size": 4105},
        {"model_type": "esm", "vocab_size": [1]},
        {"model_type": "esm", "vocab_size": {}},
        {"model_type": {}, "architectures": None},
        {"model_type": "caduceus", "ssm_cfg": 5},
        {"model_type": "caduceus", "ssm_cfg": [1]},
        {"family": ["tiny"]},
        {"family": "tiny", "transformer": 5},
        {"family": "convnova", "dilations": 5},
        {"layer": {"l_max": "x"}, "d_model": []},
        {"layer": {"l_max": 5}, "n_layer": None},
        {"alibi_starting_size": None},
        {"model_type": "bert", "num_hidden_layers": {"a": 1}},
        {"model_type": "llama", "rope_parameters": 5},
        {"model_type": "llama", "rope_scaling": [1]},
        {"model_type": "modernbert", "layer_types": 7},
    ],
    ids=json.dumps,
)
def test_values_of_other_types_are_refused(config: dict[str, Any], tmp_path: Path) -> None:
    refused(write(tmp_path, config, None))


NUMBERS = {
    "dnabert": "layer_norm_eps", "specieslm": "layer_norm_eps", "dnabert2": "layer_norm_eps",
    "nucleotide_transformer": "layer_norm_eps", "hyenadna": "layer_norm_epsilon", "caduceus": "norm_epsilon",
    "bert": "layer_norm_eps", "llama": "rms_norm_eps", "modernbert": "norm_eps", "xlnet": "layer_norm_eps",
}  # fmt: skip


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), float("-inf"), 10**400], ids=lambda v: str(v)[:9]
)
@pytest.mark.parametrize("family", NUMBERS)
def test_numbers_that_are_not_finite_are_refused(family: str, value: Any, tmp_path: Path) -> None:
    config, words = CONFIGS[family]
    field = NUMBERS[family]
    refused(write(tmp_path, config | {field: value}, words), field)


@pytest.mark.parametrize("value", [0, 0.0, -1e-5])
def test_numbers_of_the_adapter_that_must_be_above_0_are(value: float, tmp_path: Path) -> None:
    for family, field in (("bert", "layer_norm_eps"), ("llama", "rope_theta"), ("modernbert", "norm_eps")):
        refused(write(tmp_path, CONFIGS[family][0] | {field: value}, None), f"{field} .*more than 0")
    rope = {"rope_type": "default", "rope_theta": value}
    refused(write(tmp_path, LLAMA | {"rope_parameters": rope}, None), "rope_theta .*more than 0")


def test_published_config_takes_finite_and_positive_numbers() -> None:
    fields = PublishedConfig({"a": 2, "b": 1e-12, "c": 0.0, "d": float("nan"), "e": 10**400}, name="x")
    assert fields.take("a", 1.0) == fields.positive("a", 1.0) == 2.0
    assert isinstance(fields.positive("a", 1.0), float)
    assert fields.positive("b", 1.0) == 1e-12
    assert fields.positive("missing", 0.5) == 0.5
    assert fields.take("c", 1.0) == 0.0
    with pytest.raises(CheckpointError, match=r"c is 0\.0, expected more than 0"):
        fields.positive("c", 1.0)
    for field in ("d", "e"):
        for read in (fields.take, fields.positive):
            with pytest.raises(CheckpointError, match=f"{field} is .*, expected a finite number"):
                read(field, 1.0)


def test_fields_of_special_tokens_and_of_generation_change_nothing() -> None:
    from transformers import GenerationConfig

    old = {"cls_token_id": 2, "unk_token_id": 1, "mask_token_id": 4, "sep_token_id": 3, "pad_token_id": 0,
           "decoder_start_token_id": None, "task_specific_params": None, "tf_legacy_loss": False,
           "tie_encoder_decoder": False, "cross_attention_hidden_size": None}  # fmt: skip
    written = {
        name: value
        for name, value in GenerationConfig._get_default_generation_params().items()
        if "assistant" not in name and "lookbehind" not in name
    }
    assert {"forced_eos_token_id", "early_stopping", "typical_p", "max_length"} <= written.keys()
    PublishedConfig(old | written, name="x").finish()
    with pytest.raises(CheckpointError, match="not known: new"):
        PublishedConfig(old | written | {"new": 1}, name="x").finish()


def test_published_fields_of_special_tokens_are_no_obstacle(parity_dir: Path, tmp_path: Path) -> None:
    for name in ("dnabert_1", "nt_v1_1", "opt_1"):
        shutil.copytree(parity_dir / name, tmp_path / name)
        path = tmp_path / name / "config.json"
        content = json.loads(path.read_text())
        expected = fg.load(tmp_path / name, device="cpu", dtype="float32").embed(["ACGTTGCA" * 3])
        path.write_text(
            json.dumps({"cls_token_id": 3, "mask_token_id": 2, "forced_eos_token_id": 1} | content)
        )
        found = fg.load(tmp_path / name, device="cpu", dtype="float32").embed(["ACGTTGCA" * 3])
        assert (found == expected).all()
