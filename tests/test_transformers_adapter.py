"""Models of transformers behind our interface, against transformers run on each sequence alone."""

import json
import pickle
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_hostile_models import Opened
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import fastgenome as fg
from fastgenome.errors import ArgumentError, CheckpointError, InputError, ModelError, SequenceTooLongError
from fastgenome.models.model import Model

SIZES = {
    "vocab_size": 20,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 300,
}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
SPARSE = {"block_size": 4, "num_random_blocks": 1}
LOCAL = {"local_attention": 8, "cls_token_id": 2, "sep_token_id": 3}
KINDS: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "bert": (transformers.BertConfig, {}, "BertForMaskedLM"),
    "bert-pretraining": (transformers.BertConfig, {}, "BertForPreTraining"),
    "bert-body": (transformers.BertConfig, {}, "BertModel"),
    "bert-classifier": (transformers.BertConfig, {}, "BertForSequenceClassification"),
    "roberta": (transformers.RobertaConfig, SPECIAL, "RobertaForMaskedLM"),
    "modernbert": (transformers.ModernBertConfig, SPECIAL | LOCAL, "ModernBertForMaskedLM"),
    "esm": (
        transformers.EsmConfig,
        {"pad_token_id": 0, "mask_token_id": 4, "token_dropout": True, "position_embedding_type": "rotary"},
        "EsmForMaskedLM",
    ),
    "bigbird": (transformers.BigBirdConfig, SPARSE, "BigBirdForMaskedLM"),
    "gpt-neox": (transformers.GPTNeoXConfig, SPECIAL, "GPTNeoXForCausalLM"),
    "llama": (transformers.LlamaConfig, SPECIAL, "LlamaForCausalLM"),
    "mistral": (
        transformers.MistralConfig,
        SPECIAL | {"num_key_value_heads": 2, "sliding_window": 8},
        "MistralForCausalLM",
    ),
}
WITHOUT_HEAD = ("bert-body", "bert-classifier")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "A", "C", "G", "T", "N", "AC", "GT", "ACGT")


def write_tokenizer(directory: Path) -> None:
    """A small BPE tokenizer with the truncation and padding that some published files have baked in."""
    ids = {token: number for number, token in enumerate(VOCABULARY)}
    merges = [("A", "C"), ("G", "T"), ("AC", "GT")]
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=6)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(directory)


def write_checkpoint(directory: Path, kind: str, **changes: Any) -> Any:
    """Save a random model of transformers and a tokenizer; returns the model."""
    make_config, fields, architecture = KINDS[kind]
    torch.manual_seed(0)
    model = getattr(transformers, architecture)(make_config(**SIZES, **(fields | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(directory)
    write_tokenizer(directory)
    return model


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def load(directory: Path, **options: Any) -> Model:
    return fg.load(directory, **({"device": "cpu", "dtype": "float32"} | options))


@pytest.fixture(scope="module")
def sequences() -> list[str]:
    """Short and long ones, some of equal length; long after short and short after long."""
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("ACGTN"), n)) for n in (3, 1, 70, 20, 20, 200, 7, 64, 64, 2)]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("kind", KINDS)
def test_model_equals_transformers_on_each_sequence_alone(
    kind: str, tmp_path: Path, sequences: list[str]
) -> None:
    reference = write_checkpoint(tmp_path, kind)
    attention_type = getattr(reference.base_model, "attention_type", None)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    model = load(tmp_path)
    tokens = model.tokenizer(sequences)
    found = model.hidden_states(tokens, layers="all")
    logits = None if kind in WITHOUT_HEAD else model.logits(tokens)
    embeddings = model.embed(sequences, batch_tokens=100)
    for index, sequence in enumerate(sequences):
        rows = slice(*tokens.offsets[index : index + 2])
        ids = tokenizer(sequence, truncation=False, padding=False).input_ids
        assert tokens.ids[rows].tolist() == ids
        if attention_type:
            reference.base_model.set_attention_type(attention_type)
        with torch.no_grad():
            expected = reference(torch.tensor([ids]), output_hidden_states=True)
        assert len(found) == len(expected.hidden_states) == len(model.encoder.widths)
        for states, whole in zip(found, expected.hidden_states, strict=True):
            torch.testing.assert_close(states[rows], whole[0, : len(ids)], rtol=0, atol=1e-5)
        mean = expected.hidden_states[-1][0, 1 : len(ids) - 1].mean(0)
        np.testing.assert_allclose(embeddings[index], mean.numpy(), rtol=0, atol=1e-5)
        if logits is not None:
            scores = expected[0] if kind != "bert-pretraining" else expected.prediction_logits
            torch.testing.assert_close(logits[rows], scores[0], rtol=0, atol=1e-5)


def test_pooler_equals_transformers(tmp_path: Path, sequences: list[str]) -> None:
    reference = write_checkpoint(tmp_path, "bert-pretraining")
    model = load(tmp_path)
    found = model.embed(sequences, pooling="pooler")
    for row, sequence in zip(found, sequences, strict=True):
        ids = torch.tensor([model.tokenizer([sequence]).ids.tolist()])
        with torch.no_grad():
            expected = reference.bert(ids).pooler_output[0]
        np.testing.assert_allclose(row, expected.numpy(), rtol=0, atol=1e-5)


def test_heads_and_poolers_are_there_where_the_checkpoint_has_them(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "masked", "bert")
    write_checkpoint(tmp_path / "body", "bert-body")
    with pytest.raises(ArgumentError, match="has no pooler"):
        load(tmp_path / "masked").embed(["ACGT"], pooling="pooler")
    body = load(tmp_path / "body")
    assert body.embed(["ACGT"], pooling="pooler").shape == (1, 32)
    with pytest.raises(ModelError, match="no language-model head"):
        body.logits(body.tokenizer(["ACGT"]))


@pytest.mark.parametrize("kind", ["bert-pretraining", "gpt-neox", "llama"])
def test_model_saves_what_transformers_loads(kind: str, tmp_path: Path, sequences: list[str]) -> None:
    reference = write_checkpoint(tmp_path / "published", kind)
    model = load(tmp_path / "published")
    with torch.no_grad():
        next(model.network.parameters()).mul_(1.5)
    model.save(tmp_path / "saved")
    write_tokenizer(tmp_path / "saved")
    again = load(tmp_path / "saved")
    np.testing.assert_array_equal(again.embed(sequences), model.embed(sequences))
    theirs, report = type(reference).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["unexpected_keys"]
    ids = torch.tensor([model.tokenizer(sequences[2:3]).ids.tolist()])
    with torch.no_grad():
        expected = theirs.eval().base_model(ids)[0][0]
    found = model.hidden_states(model.tokenizer(sequences[2:3]))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_token_types_reach_the_network(tmp_path: Path) -> None:
    reference = write_checkpoint(tmp_path / "bert", "bert")
    model = load(tmp_path / "bert")
    tokens = model.tokenizer(["ACGTA", "AAA"])
    types = np.arange(len(tokens.ids)) % 2
    found = model.hidden_states(tokens, token_types=types)
    first = slice(0, tokens.offsets[1])
    batch = {"input_ids": tokens.ids[first], "token_type_ids": types[first]}
    with torch.no_grad():
        expected = reference.bert(**{k: torch.from_numpy(v)[None].long() for k, v in batch.items()})[0][0]
    torch.testing.assert_close(found[first], expected, rtol=0, atol=1e-5)
    write_checkpoint(tmp_path / "llama", "llama")
    with pytest.raises(ArgumentError, match="no token types"):
        load(tmp_path / "llama").hidden_states(tokens, token_types=types)


def test_gradients_reach_every_parameter(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bert")
    model = load(tmp_path)
    model.logits(model.tokenizer(["ACGTTGCA", "AC"])).square().sum().backward()
    assert [name for name, p in model.network.named_parameters() if p.grad is None] == []


def test_bfloat16_stays_close(tmp_path: Path, sequences: list[str]) -> None:
    for kind in ("bert", "llama", "bigbird"):
        write_checkpoint(tmp_path / kind, kind)
        model = load(tmp_path / kind, dtype="bfloat16")
        assert model.dtype == torch.bfloat16
        found, expected = model.embed(sequences), load(tmp_path / kind).embed(sequences)
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        assert ((found * expected).sum(1) / norms).min() > 0.999
        assert not np.array_equal(found, expected)
        assert model.logits(model.tokenizer(sequences)).dtype == torch.float32


def test_networks_that_compute_in_float32_alone_say_so(tmp_path: Path, sequences: list[str]) -> None:
    config = transformers.MambaConfig(vocab_size=20, hidden_size=32, num_hidden_layers=1, state_size=4)
    transformers.MambaForCausalLM(config).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    assert np.isfinite(load(tmp_path).embed(sequences)).all()
    with pytest.raises(ModelError, match="dtype='float32'"):
        load(tmp_path, dtype="bfloat16").embed(sequences)


@pytest.mark.parametrize(
    ("kind", "limit"), [("bert", 300), ("roberta", 299), ("llama", 300)], ids=["bert", "roberta", "llama"]
)
def test_sequences_beyond_the_positions_are_refused(kind: str, limit: int, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, kind)
    model = load(tmp_path)
    assert model.max_length == limit
    assert np.isfinite(model.embed(["A" * (limit - 2)])).all()
    with pytest.raises(SequenceTooLongError, match="window="):
        model.embed(["A" * (limit - 1)])


def test_old_rotary_fields_are_used(tmp_path: Path, sequences: list[str]) -> None:
    reference = write_checkpoint(
        tmp_path, "llama", rope_parameters={"rope_type": "default", "rope_theta": 50.0}
    )
    values = json.loads((tmp_path / "config.json").read_text())
    del values["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(values | {"rope_theta": 50.0}))
    model = load(tmp_path)
    tokens = model.tokenizer(sequences[5:6])
    with torch.no_grad():
        expected = reference.model(torch.from_numpy(tokens.ids)[None].long())[0][0]
    torch.testing.assert_close(model.hidden_states(tokens), expected, rtol=0, atol=1e-5)


# What the first release of ModernBERT says of itself, its sizes aside.
MODERNBERT = {
    "architectures": ["ModernBertForMaskedLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 2, "classifier_activation": "gelu", "classifier_bias": False, "classifier_dropout": 0.0,
    "classifier_pooling": "mean", "cls_token_id": 2, "decoder_bias": True, "deterministic_flash_attn": False,
    "embedding_dropout": 0.0, "eos_token_id": 3, "global_attn_every_n_layers": 2,
    "global_rope_theta": 160000.0, "gradient_checkpointing": False, "hidden_activation": "gelu",
    "initializer_cutoff_factor": 2.0, "initializer_range": 0.02, "layer_norm_eps": 1e-5,
    "local_attention": 8, "local_rope_theta": 10000.0, "mlp_bias": False, "mlp_dropout": 0.0,
    "model_type": "modernbert", "norm_bias": False, "norm_eps": 1e-5, "pad_token_id": 0,
    "position_embedding_type": "absolute", "sep_token_id": 3, "tie_word_embeddings": True,
    "torch_dtype": "float32", "transformers_version": "4.47.0.dev0",
}  # fmt: skip


def test_config_of_the_first_modernbert_is_read(tmp_path: Path, sequences: list[str]) -> None:
    types = ["full_attention", "sliding_attention", "full_attention"]
    reference = write_checkpoint(tmp_path, "modernbert", layer_types=types)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SIZES | MODERNBERT))
    model = load(tmp_path)
    tokens = model.tokenizer(sequences[5:6])
    with torch.no_grad():
        expected = reference.model(torch.from_numpy(tokens.ids)[None].long())[0][0]
    torch.testing.assert_close(model.hidden_states(tokens), expected, rtol=0, atol=1e-5)
    for field, value in (("layer_norm_eps", 1e-6), ("global_attn_every", 2), ("rope_scaled", 1)):
        config.write_text(json.dumps(SIZES | MODERNBERT | {field: value}))
        with pytest.raises(CheckpointError, match=field):
            load(tmp_path)


def test_models_without_a_limit_have_none(tmp_path: Path, sequences: list[str]) -> None:
    config = transformers.XLNetConfig(vocab_size=20, d_model=32, n_layer=1, n_head=4, d_inner=48)
    transformers.XLNetModel(config).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    assert load(tmp_path).max_length is None
    assert np.isfinite(load(tmp_path).embed(sequences)).all()
    for limit in (-1, 0):
        edit_json(tmp_path / "tokenizer_config.json", model_max_length=limit)
        assert load(tmp_path).max_length is None
    edit_json(tmp_path / "tokenizer_config.json", model_max_length="long")
    with pytest.raises(CheckpointError):
        load(tmp_path)


def test_how_to_run_a_network_is_not_left_to_inner_configs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    make = transformers.CLIPConfig.from_dict
    monkeypatch.setattr(
        transformers.CLIPConfig,
        "from_dict",
        lambda values: (seen.append(json.dumps(values)), make(values))[1],
    )
    write_checkpoint(tmp_path, "bert")
    config = json.loads(json.dumps(transformers.CLIPConfig().to_dict(), default=str))
    for field in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        config["text_config"][field] = "owner/kernels"
        config["list"] = [{field: "owner/kernels"}]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError):
        load(tmp_path)
    assert seen
    assert not any("owner/kernels" in values for values in seen)


def test_old_names_of_norms_are_read(tmp_path: Path, sequences: list[str]) -> None:
    write_checkpoint(tmp_path, "bert")
    expected = load(tmp_path).embed(sequences)

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "LayerNorm" in name]:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            )
            tensors[old] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = torch.arange(300)[None]

    edit_tensors(tmp_path, rename)
    np.testing.assert_array_equal(load(tmp_path).embed(sequences), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("bert.encoder.layer.1.output.dense.bias"),
            r"missing .*layer\.1\.output\.dense\.bias",
        ),
        (lambda t: t.update(extra=torch.zeros(2)), "unexpected extra"),
        (lambda t: t.pop("cls.predictions.transform.dense.weight"), "missing .*transform"),
        (
            lambda t: t.update({"cls.seq_relationship.weight": torch.zeros(2, 32)}),
            "unexpected .*relationship",
        ),
        (
            lambda t: t.update({"bert.encoder.layer.0.output.dense.bias": torch.zeros(3)}),
            r"shape \(3,\)",
        ),
        (
            lambda t: t.update({"cls.predictions.decoder.weight": torch.zeros(20, 32)}),
            "must be the same as",
        ),
        (
            lambda t: t.update({"embeddings.LayerNorm.bias": torch.zeros(32)}),
            "twice",
        ),
    ],
    ids=["missing", "extra", "head-missing", "head-extra", "shape", "tied", "twice"],
)
def test_tensors_that_do_not_fit_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bert")
    edit_tensors(tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("bert", {"pre_layer_norm": True}, "pre_layer_norm"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ("bert", {"hidden_act": "nothing"}, "nothing"),
        ("bert", {"num_hidden_layers": "three"}, "num_hidden_layers"),
        ("bert", {"is_encoder_decoder": True}, "two texts"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "dynamic"),
        ("bert", {"model_type": "not-one"}, "no known family"),
        ("bert", {"model_type": ["bert"]}, "no known family"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_configs_that_do_not_fit_are_refused(
    kind: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, kind)
    edit_json(tmp_path / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


def test_networks_that_read_no_tokens_are_refused(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="ViTModel of transformers does not read token ids"):
        load(tmp_path)


@pytest.mark.usefixtures("no_network")
def test_code_of_a_checkpoint_is_never_imported(tmp_path: Path, sequences: list[str]) -> None:
    write_checkpoint(tmp_path, "bert")
    expected = load(tmp_path).embed(sequences)
    witness = tmp_path / "witness"
    code = f"open({str(witness)!r}, 'w').close()\nclass M: pass\nclass C: pass\nclass K: pass\n"
    (tmp_path / "code.py").write_text(code)
    (tmp_path / "__init__.py").write_text(code)
    classes = {"AutoConfig": "code.C", "AutoModel": "code.M", "AutoModelForMaskedLM": "code.M"}
    edit_json(tmp_path / "config.json", auto_map=classes, attn_implementation="some-hub/code")
    edit_json(tmp_path / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.K", "code.K"]})
    np.testing.assert_array_equal(load(tmp_path).embed(sequences), expected)
    assert not witness.exists()
    assert not any(name.rpartition(".")[2] == "code" for name in __import__("sys").modules if "tmp" in name)


def test_tokenizer_files_elsewhere_are_not_opened(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model", "bert")
    (tmp_path / "model" / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    for place in ("../elsewhere.json", str(tmp_path / "elsewhere.json")):
        edit_json(tmp_path / "model" / "tokenizer_config.json", tokenizer_file=place)
        with pytest.raises(CheckpointError, match="names a file"):
            load(tmp_path / "model")


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("tokenizer_config.json", {"fast_tokenizer_files": ["../outside/tokenizer.1.0.0.json"]}),
        ("tokenizer_config.json", {"sp_model_kwargs": {"model_file": "../outside/secret"}}),
        ("tokenizer_config.json", {"source_spm": "../outside/secret"}),
        ("tokenizer_config.json", {"vocab": "../outside/secret"}),
        ("special_tokens_map.json", {"sp_model_kwargs": [{"model_file": "../outside/secret"}]}),
    ],
    ids=["versions", "nested", "pieces", "vocab", "special-tokens"],
)
def test_settings_of_a_tokenizer_name_no_files(file: str, fields: dict[str, Any], tmp_path: Path) -> None:
    directory, outside = tmp_path / "model", tmp_path / "outside"
    write_checkpoint(directory, "bert")
    outside.mkdir()
    (outside / "secret").write_text("secret")
    shutil.copy(directory / "tokenizer.json", outside / "tokenizer.1.0.0.json")
    (directory / file).touch()
    (directory / file).write_text(json.dumps(json.loads((directory / file).read_text() or "{}") | fields))
    watch = Opened(outside)
    try:
        with pytest.raises(CheckpointError, match="names a file"):
            load(directory)
        assert watch.names() == set()
    finally:
        watch.close()


@pytest.mark.parametrize("name", ["chat_template.jinja", "additional_chat_templates", "tekken.json"])
def test_links_that_transformers_would_follow_are_not_followed(
    name: str, tmp_path: Path, sequences: list[str]
) -> None:
    directory, outside = tmp_path / "model", tmp_path / "outside"
    write_checkpoint(directory, "bert")
    expected = load(directory).embed(sequences)
    outside.mkdir()
    (outside / "secret.jinja").write_text("secret")
    folder = name.startswith("additional")
    (directory / name).symlink_to(outside if folder else outside / "secret.jinja")
    watch = Opened(outside)
    try:
        if name.endswith(".json"):
            with pytest.raises(CheckpointError, match="nothing outside"):
                load(directory)
        else:
            np.testing.assert_array_equal(load(directory).embed(sequences), expected)
        assert watch.names() == set()
        (outside / "secret.jinja").read_text()
        assert watch.names() == {"secret.jinja"}
    finally:
        watch.close()


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"])
def test_vocabularies_that_are_links_out_of_the_directory_are_refused(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    write_checkpoint(directory, "llama")
    (directory / "tokenizer.json").unlink()
    (tmp_path / "secret").write_text("secret")
    (directory / name).symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="nothing outside of a model's directory is opened"):
        load(directory)


def test_nothing_is_left_of_the_copies_of_a_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "model", "bert")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    model = load(tmp_path / "model")
    assert list((tmp_path / "temporary").iterdir()) == []
    again = pickle.loads(pickle.dumps(model.tokenizer))
    assert again(["ACGTT"]).ids.tolist() == [2, 12, 8, 3]


def test_saved_model_brings_its_tokenizer(tmp_path: Path, sequences: list[str]) -> None:
    write_checkpoint(tmp_path / "model", "bert")
    model = load(tmp_path / "model")
    model.save(tmp_path / "saved")
    np.testing.assert_array_equal(load(tmp_path / "saved").embed(sequences), model.embed(sequences))


def test_tokenizers_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bert")
    tokenizer = tmp_path / "tokenizer.json"
    content = json.loads(tokenizer.read_text())
    words = content["model"] | {"vocab": {"[UNK]": 1, "ACG": 5}, "merges": [], "type": "WordLevel"}
    tokenizer.write_text(json.dumps(content | {"model": words}))
    with pytest.raises(CheckpointError, match="plain DNA as unknown"):
        load(tmp_path)
    wide = content["model"] | {"vocab": content["model"]["vocab"] | {"TTTT": 20}}
    tokenizer.write_text(json.dumps(content | {"model": wide}))
    with pytest.raises(CheckpointError, match="ids up to 20, the embeddings of the model end at 19"):
        load(tmp_path)
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="no tokenizer"):
        load(tmp_path)


def test_tokenizer_cleans_and_has_the_interface_of_ours(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bert")
    tokenizer = load(tmp_path).tokenizer
    assert (tokenizer.prefix_length, tokenizer.suffix_length) == (1, 1)
    assert tokenizer.special_token_ids == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    assert tokenizer.vocabulary_size == len(VOCABULARY)
    assert tokenizer.bases_per_token is None
    tokens = tokenizer(["acgu-R", b"ACGTN", ""])
    assert tokens.ids.tolist() == [2, 12, 9, 3, 2, 12, 9, 3, 2, 3]
    assert tokens.ids.dtype == np.int32
    assert tokens.offsets.tolist() == [0, 4, 8, 10]
    bare = tokenizer(["acgt", "ACGT"], special_tokens=False, clean=False, dtype="int64")
    assert bare.ids.tolist() == [1, 1, 1, 1, 12]
    assert bare.ids.dtype == np.int64
    assert tokenizer([b"AC\xe9A"], special_tokens=False, clean=False).ids.tolist() == [10, 1, 5]
    out = np.zeros(tokenizer.capacity(["ACGTT"]), np.uint8)
    assert np.shares_memory(tokenizer(["ACGTT"], out=out).ids, out)
    assert out[:4].tolist() == [2, 12, 8, 3]
    with pytest.raises(ArgumentError, match="out holds 2 values, needed are 4"):
        tokenizer(["ACGTT"], out=np.zeros(2, np.int32))
    with pytest.raises(InputError, match=r"sequences\[1\] is not DNA"):
        tokenizer(["ACGT", "ACGE"])
    assert tokenizer([]).offsets.tolist() == [0]
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again(["ACGTT"]).ids.tolist() == [2, 12, 8, 3]


def test_tokenizer_of_a_vocabulary_file_is_used(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "esm")
    for file in tmp_path.glob("*token*"):
        file.unlink()
    letters = ["<pad>", "<cls>", "<eos>", "<unk>", "<mask>", *"LAGVSERTIDPKQNF"]
    (tmp_path / "vocab.txt").write_text("\n".join(letters))
    tokens = load(tmp_path).tokenizer(["GATTACA"])
    expected = ["<cls>", *"GATTA", "<unk>", "A", "<eos>"]
    assert tokens.ids.tolist() == [letters.index(letter) for letter in expected]
