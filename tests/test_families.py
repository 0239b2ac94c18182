"""Published families: what they refuse, what they write, and how their embeddings are defined."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

import fastgenome as fg
from fastgenome.cli import app
from fastgenome.errors import ArgumentError, CheckpointError, SequenceTooLongError
from fastgenome.models.model import Model

PARITY = Path(__file__).resolve().parents[2] / "shared" / "parity"
FIXTURES = sorted(path.parent for path in PARITY.glob("*/model.safetensors"))
if not FIXTURES:
    pytest.skip("needs the fixtures of ../shared/parity", allow_module_level=True)


def load(directory: Path, **options: Any) -> Model:
    return fg.load(directory, device="cpu", dtype="float32", **options)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a directory of one's own of a fixture's model."""

    def copy(name: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for path in (PARITY / name).iterdir():
            if path.name not in ("expected.safetensors", "inputs.json", "meta.json", "tokenization.json"):
                shutil.copyfile(path, target / path.name)
        return target

    return copy


def change_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(directory: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.name)
def test_saved_model_has_the_published_tensors_and_loads_again(fixture: Path, tmp_path: Path) -> None:
    model = load(fixture)
    model.save(tmp_path)
    published, saved = load_file(fixture / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    for name, tensor in saved.items():
        torch.testing.assert_close(tensor, published[name], rtol=0, atol=0)
    sequences = ["ACGTACGTTTGACCA" * 4, "GGGATTTACAC"]
    np.testing.assert_array_equal(load(tmp_path).embed(sequences), model.embed(sequences))


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.name)
def test_unknown_field_of_a_config_is_refused(fixture: Path, copied: Callable[[str], Path]) -> None:
    directory = copied(fixture.name)
    change_config(directory, attention_twist=True)
    with pytest.raises(CheckpointError, match="effect is not known: attention_twist"):
        load(directory)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("dnabert_1", {"hidden_act": "tanh"}, "hidden_act is 'tanh'; supported is gelu"),
        ("dnabert_1", {"position_embedding_type": "relative_key"}, "supported is 'absolute'"),
        ("dnabert_1", {"is_decoder": True}, "is_decoder is True; supported is False"),
        ("dnabert_1", {"hidden_size": "32"}, "hidden_size is '32', expected int"),
        ("dnabert_1", {"hidden_size": None}, "lacks the field 'hidden_size'"),
        ("dnabert_1", {"num_attention_heads": 0}, "num_attention_heads is 0, expected at least 1"),
        ("dnabert_1", {"num_attention_heads": 5}, "dim must be a multiple of heads"),
        ("dnabert_1", {"vocab_size": 100}, "4101 ids, the model 100 embeddings"),
        ("dnabert2_1", {"hidden_act": "relu"}, "hidden_act is 'relu'; supported is 'gelu'"),
        ("nt_v2_1", {"emb_layer_norm_before": True}, "emb_layer_norm_before is True"),
        ("nt_v2_1", {"position_embedding_type": "alibi"}, "'alibi'; supported is absolute, rotary"),
        ("nt_v2_1", {"hidden_size": 36, "num_attention_heads": 4}, "rotary positions need an even"),
        ("opt_1", {"activation_function": "gelu"}, "activation_function is 'gelu'"),
        ("opt_1", {"_remove_final_layer_norm": True}, "_remove_final_layer_norm is True"),
    ],
)
def test_config_that_is_not_supported_is_refused(
    copied: Callable[[str], Path], name: str, changes: dict[str, object], message: str
) -> None:
    directory = copied(name)
    change_config(directory, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(directory)


def test_missing_and_unexpected_tensors_are_listed(copied: Callable[[str], Path]) -> None:
    directory = copied("nt_v2_1")

    def rename(tensors: dict[str, Tensor]) -> None:
        tensors["esm.encoder.layer.1.attention.self.qry.weight"] = tensors.pop(
            "esm.encoder.layer.1.attention.self.query.weight"
        )

    change_tensors(directory, rename)
    with pytest.raises(
        CheckpointError,
        match=r"missing esm\.encoder\.layer\.1\.attention\.self\.query\.weight; unexpected .*qry",
    ):
        load(directory)


@pytest.mark.parametrize("part", ["query", "key", "value"])
def test_parts_of_a_fused_tensor_must_have_their_own_shapes(copied: Callable[[str], Path], part: str) -> None:
    directory = copied("dnabert_1")
    stem = "bert.encoder.layer.0.attention.self"

    def move_a_row(tensors: dict[str, Tensor]) -> None:
        other = "value" if part == "query" else "query"
        moved = tensors[f"{stem}.{part}.weight"]
        tensors[f"{stem}.{other}.weight"] = torch.cat([tensors[f"{stem}.{other}.weight"], moved[-1:]])
        tensors[f"{stem}.{part}.weight"] = moved[:-1].clone()

    change_tensors(directory, move_a_row)
    with pytest.raises(CheckpointError, match=rf"{part}\.weight: shape \(31, 32\)"):
        load(directory)


def test_integers_for_weights_are_refused(copied: Callable[[str], Path]) -> None:
    directory = copied("opt_1")
    name = "model.decoder.layers.0.fc1.weight"
    change_tensors(directory, lambda tensors: tensors.update({name: tensors[name].long()}))
    with pytest.raises(CheckpointError, match=r"fc1\.weight: type torch\.int64"):
        load(directory)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_floating_type_load_as_float32(
    copied: Callable[[str], Path], dtype: torch.dtype
) -> None:
    directory = copied("opt_1")
    change_tensors(directory, lambda tensors: tensors.update({k: v.to(dtype) for k, v in tensors.items()}))
    model = load(directory)
    expected = load_file(PARITY / "opt_1" / "model.safetensors")["model.decoder.embed_tokens.weight"]
    found = model.encoder.stem.embedding.weight  # type: ignore[attr-defined]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.detach(), expected.to(dtype).float(), rtol=0, atol=0)


def test_a_copy_that_differs_from_what_it_is_tied_to_is_refused(copied: Callable[[str], Path]) -> None:
    directory = copied("dnabert_1")
    change_tensors(directory, lambda tensors: tensors["cls.predictions.decoder.weight"].add_(1))
    with pytest.raises(CheckpointError, match=r"decoder\.weight must be the same as .*word_embeddings"):
        load(directory)


def test_tied_weights_are_one_parameter_in_float32_and_apart_in_bfloat16() -> None:
    model = load(PARITY / "opt_1")
    network: Any = model.network
    assert network.head.decoder.weight is network.encoder.stem.embedding.weight
    rounded: Any = fg.load(PARITY / "opt_1", device="cpu", dtype="bfloat16").network
    assert rounded.head.decoder.weight.dtype == torch.bfloat16
    assert rounded.encoder.stem.embedding.weight.dtype == torch.float32


def test_old_names_of_norms_are_read(copied: Callable[[str], Path]) -> None:
    directory = copied("dnabert_1")

    def rename(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if "LayerNorm" in name]:
            old = name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")
            tensors[old] = tensors.pop(name)

    change_tensors(directory, rename)
    sequences = ["ACGTACGTTTGACCA"]
    np.testing.assert_array_equal(
        load(directory).embed(sequences), load(PARITY / "dnabert_1").embed(sequences)
    )


def test_options_are_for_the_families_that_take_them() -> None:
    with pytest.raises(ArgumentError, match="models of the family dnabert take none"):
        load(PARITY / "dnabert_1", species="candida_glabrata")
    prompted = load(PARITY / "opt_1", prompt="DNA Promoter")
    assert prompted.tokenizer.prefix_length > load(PARITY / "opt_1").tokenizer.prefix_length == 1


def test_sequence_beyond_the_limit_names_window() -> None:
    model = load(PARITY / "dnabert_1")
    assert model.max_length == 512
    model.embed(["A" * 515])
    with pytest.raises(SequenceTooLongError, match="window="):
        model.embed(["ACGTACGT", "A" * 516])
    assert load(PARITY / "nt_v1_1").max_length == 1000
    assert load(PARITY / "nt_v2_1").max_length == 2048
    assert load(PARITY / "dnabert2_1").max_length is None


def test_specieslm_averages_late_layers_and_all_tokens() -> None:
    from transformers import BertConfig, BertModel

    directory = PARITY / "specieslm_1"
    values = json.loads((directory / "config.json").read_text())
    reference = BertModel(BertConfig(**values))
    weights = load_file(directory / "model.safetensors")
    stripped = {k.removeprefix("bert."): v for k, v in weights.items() if k.startswith("bert.")}
    stripped.pop("embeddings.position_ids", None)
    reference.load_state_dict(stripped)
    model = load(directory, species="saccharomyces_cerevisiae")
    sequences = ["ACGTTGCAACGGT", "TTTACCGAGATAACCCATG"]
    for sequence, embedding in zip(sequences, model.embed(sequences), strict=True):
        ids = torch.from_numpy(model.tokenizer([sequence]).ids).long()[None]
        assert ids[0, 1] == model.tokenizer.vocabulary["saccharomyces_cerevisiae"]
        with torch.no_grad():
            states = reference.eval()(input_ids=ids, output_hidden_states=True).hidden_states
        # Of 12 layers these are 8 … 12; of the 4 here, 2 … 4.
        expected = torch.stack(states[2:]).mean(0)[0].mean(0)
        np.testing.assert_allclose(embedding, expected.numpy(), rtol=0, atol=1e-5)
    assert model.embed(sequences, average_layers=False).shape[1] == 3 * model.dim


BERT = {"vocab_size": 4101, "hidden_size": 30, "num_hidden_layers": 1, "num_attention_heads": 3}
BERT |= {"intermediate_size": 50, "max_position_embeddings": 64}
ESM = BERT | {"vocab_size": 4105, "pad_token_id": 1, "mask_token_id": 2}
OPT = {"vocab_size": 512, "hidden_size": 30, "num_hidden_layers": 2, "num_attention_heads": 5, "ffn_dim": 50}


@pytest.mark.parametrize(
    ("kind", "values", "vocabulary"),
    [
        *(
            ("BertForMaskedLM", BERT | {"hidden_act": act}, "dnabert_1")
            for act in ("gelu", "relu", "gelu_new")
        ),
        ("BertForMaskedLM", BERT | {"tie_word_embeddings": False}, "dnabert_1"),
        ("BertModel", BERT | {"tie_word_embeddings": False}, "dnabert_1"),
        ("EsmForMaskedLM", ESM | {"position_embedding_type": "absolute"}, "nt_v1_1"),
        ("EsmForMaskedLM", ESM | {"position_embedding_type": "rotary", "token_dropout": True}, "nt_v1_1"),
        ("EsmForMaskedLM", ESM | {"tie_word_embeddings": False}, "nt_v1_1"),
        ("EsmModel", ESM | {"position_embedding_type": "absolute"}, "nt_v1_1"),
        ("OPTForCausalLM", OPT | {"word_embed_proj_dim": 12, "do_layer_norm_before": False}, "opt_1"),
        ("OPTForCausalLM", OPT | {"word_embed_proj_dim": 30, "enable_bias": False}, "opt_1"),
        ("OPTForCausalLM", OPT | {"word_embed_proj_dim": 30, "tie_word_embeddings": False}, "opt_1"),
        ("OPTModel", OPT | {"word_embed_proj_dim": 30, "tie_word_embeddings": False}, "opt_1"),
    ],
    ids=lambda value: ",".join(map(str, list(value.values())[-2:])) if isinstance(value, dict) else value,
)
def test_model_that_transformers_made_and_saved_equals_it(
    kind: str, values: dict[str, Any], vocabulary: str, tmp_path: Path
) -> None:
    import transformers

    torch.manual_seed(0)
    cls = getattr(transformers, kind)
    reference = cls(cls.config_class(**values)).eval()
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    reference.save_pretrained(tmp_path)
    for file in ("vocab.txt", "vocab.json", "merges.txt"):
        if (PARITY / vocabulary / file).exists():
            shutil.copyfile(PARITY / vocabulary / file, tmp_path / file)
    model = load(tmp_path)
    tokens = model.tokenizer(["ACGTACGTTTGACCA"])
    with torch.no_grad():
        output = reference(torch.from_numpy(tokens.ids).long()[None], output_hidden_states=True)
        states = model.hidden_states(tokens, layers="all")
        for found, expected in zip(states, output.hidden_states, strict=True):
            torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-4)
        if "logits" in output:
            torch.testing.assert_close(model.logits(tokens), output.logits[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "option", "other"),
    [
        ("specieslm_1", {"species": "saccharomyces_cerevisiae"}, {}),
        ("opt_1", {"prompt": "DNA Promoter"}, {"prompt": "DNA Enhancer"}),
    ],
)
def test_predictor_loads_its_model_with_the_same_options(
    name: str, option: dict[str, str], other: dict[str, str], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    sequences = ["".join(random.choice(list("ACGT"), 40)) for _ in range(30)]
    labels = [sequence.count("G") > 10 for sequence in sequences]
    predictor = fg.finetune((sequences, labels), model=load(PARITY / name, **option))
    predictor.save(tmp_path / "run")
    expected = predictor.predict_proba(sequences)
    for model in (None, PARITY / name, load(PARITY / name, **option)):
        again = fg.Predictor.load(tmp_path / "run", model=model)
        np.testing.assert_array_equal(again.predict_proba(sequences), expected)
    with pytest.raises(CheckpointError, match="its tokens are not the same"):
        fg.Predictor.load(tmp_path / "run", model=load(PARITY / name, **other))


def test_command_line_takes_species_and_prompt(tmp_path: Path) -> None:
    fasta, out = tmp_path / "in.fa", tmp_path / "out.npy"
    fasta.write_text(">a\nACGTTTGACCA\n")
    common = ["embed", str(fasta), "-o", str(out), "--dtype", "float32", "--device", "cpu"]
    for name, option in (("specieslm_1", "species"), ("opt_1", "prompt")):
        value = "saccharomyces_cerevisiae" if option == "species" else "DNA Promoter"
        result = CliRunner().invoke(app, [*common, "--model", str(PARITY / name), f"--{option}", value])
        assert result.exit_code == 0, result.output
        expected = load(PARITY / name, **{option: value}).embed(["ACGTTTGACCA"])
        np.testing.assert_array_equal(np.load(out), expected)


@pytest.mark.parametrize("name", ["dnabert_1", "dnabert2_1", "nt_v2_1", "opt_1"])
def test_model_in_bfloat16_saves_its_embeddings_unrounded(name: str, tmp_path: Path) -> None:
    model = fg.load(PARITY / name, device="cpu", dtype="bfloat16")
    model.save(tmp_path)
    network: Any = load(tmp_path).network
    expected: Any = load(PARITY / name).network
    assert torch.equal(network.encoder.stem.embedding.weight, expected.encoder.stem.embedding.weight)
    changed: Any = model.network
    if name == "opt_1":
        with torch.no_grad():
            changed.encoder.stem.embedding.weight += 1
        with pytest.raises(CheckpointError, match="not the same any more"):
            model.save(tmp_path)


def test_records_too_short_for_a_kmer_are_accounted_for(tmp_path: Path) -> None:
    fasta = tmp_path / "in.fa"
    fasta.write_text(">a\nACGTTTGACCA\n>b\nACG\n")
    report = fg.embed(fasta, model=load(PARITY / "dnabert_1"), out=tmp_path / "out.npy")
    assert (report.rows, report.reading.n_in, report.reading.n_rejected) == (1, 2, 1)


def test_tokens_without_special_ones_are_not_cut() -> None:
    model = load(PARITY / "dnabert_1")
    bare = model.tokenizer(["ACGTTTGACCA", "ACGTTTGACC"], special_tokens=False)
    for embed in (model.embed, model.token_embeddings):
        with pytest.raises(ArgumentError, match="sequence 0 do not have the special tokens"):
            embed(bare)
    states = model.hidden_states(bare).detach().numpy()
    mean = np.stack([rows.mean(0) for rows in np.split(states, bare.offsets[1:-1])])
    np.testing.assert_allclose(model.embed(bare, special_tokens=True), mean, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (np.zeros(1, int), "one number below 2 for each of 8"),
        (np.zeros(9, int), "one number below 2 for each of 8"),
        (np.full(8, 2), "below 2"),
        (np.full(8, -1), "below 2"),
        (np.zeros(8), "whole numbers, got float64"),
    ],
)
def test_token_types_that_do_not_fit_are_refused(types: Any, message: str) -> None:
    model = load(PARITY / "dnabert_1")
    tokens = model.tokenizer(["ACGTTTGACCA"])
    assert len(tokens.ids) == 8
    with pytest.raises(ArgumentError, match=message):
        model.hidden_states(tokens, token_types=types)
    with pytest.raises(ArgumentError, match="no token types"):
        load(PARITY / "nt_v2_1").hidden_states(tokens, token_types=np.zeros(8, int))


def test_pooling_that_means_nothing_is_refused() -> None:
    with pytest.raises(ArgumentError, match="first special token that was trained"):
        load(PARITY / "opt_1").embed(["ACGTTTGACCA"], pooling="cls")
    bert = load(PARITY / "dnabert_1")
    with pytest.raises(ArgumentError, match="last layer alone"):
        bert.embed(["ACGTTTGACCA"], pooling="pooler", layer=0)
    pooled = bert.embed(["ACGTTTGACCA"], pooling="pooler")
    np.testing.assert_array_equal(bert.embed(["ACGTTTGACCA"], pooling="pooler", layer=2), pooled)
    with pytest.raises(ArgumentError, match=r"needs out=, or use Model\.token_embeddings"):
        fg.embed(["ACGTTTGACCA"], model=bert, pooling="token")
    with pytest.raises(ArgumentError, match="has no attention"):
        load(PARITY / "hyenadna_1").embed(["ACGT"], pooling="attention")


@pytest.mark.parametrize(("name", "most"), [("dnabert_1", 515), ("hyenadna_1", 1025), ("nt_v1_1", 5994)])
def test_window_is_checked_in_tokens(name: str, most: int) -> None:
    model = load(PARITY / name)
    model.check_window(most)
    assert model.embed(["A" * most]).shape == (1, model.dim)
    for window in (most + 6, 10**12):
        with pytest.raises(ArgumentError, match="takes at most"):
            model.check_window(window)


def test_layer_may_be_a_number_of_numpy() -> None:
    model = load(PARITY / "dnabert_1")
    tokens = model.tokenizer(["ACGTTTGACCA"])
    found = model.hidden_states(tokens, layers=np.int64(1))
    assert isinstance(found, Tensor)
    assert torch.equal(found, model.hidden_states(tokens, layers=1))


def test_hooks_on_a_layer_are_called() -> None:
    model = load(PARITY / "dnabert2_1")
    layer: Any = model.encoder.layers[0]  # type: ignore[attr-defined]
    seen = []
    for part in (layer.qkv, layer.up):
        part.register_forward_hook(lambda *_: seen.append(1))
    hooked = model.embed(["ACGTTTGACCA"])
    assert len(seen) == 2
    np.testing.assert_allclose(hooked, load(PARITY / "dnabert2_1").embed(["ACGTTTGACCA"]), atol=1e-5)


def test_filters_follow_weights_that_change_behind_the_back(tmp_path: Path) -> None:
    model = load(PARITY / "hyenadna_1")
    sequence = "ACGTTTGACCA" * 9
    before = model.embed([sequence])
    weight: Any = dict(model.network.named_parameters())["encoder.layers.0.mixer.long.last.weight"]
    weight.data.mul_(3)
    model.save(tmp_path)
    after = model.embed([sequence])
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, load(tmp_path).embed([sequence]), rtol=0, atol=1e-6)


def test_token_rows_are_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastgenome import embedding

    model = load(PARITY / "dnabert_1")
    sequences = ["ACGTTTGACCA" * n for n in range(1, 9)]
    counts: list[int] = []
    token_embeddings = model.token_embeddings

    def counted(given: list[str], **options: Any) -> Any:
        counts.append(len(given))
        return token_embeddings(given, **options)

    monkeypatch.setattr(embedding, "_TOKEN_BYTES", 4 * model.dim * 100)
    monkeypatch.setattr(model, "token_embeddings", counted)
    report = fg.embed(sequences, model=model, pooling="token", out=tmp_path / "e.npy")
    assert counts == [4, 2, 2]
    np.testing.assert_allclose(np.load(tmp_path / "e.npy"), token_embeddings(sequences).values, atol=1e-5)
    assert report.rows == len(np.load(tmp_path / "e.npy"))
