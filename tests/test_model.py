"""Model: from sequences to embeddings, alone or in any company, and loading by name or directory."""

import copy
import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fastgenome import models
from fastgenome.errors import (
    ArgumentError,
    CheckpointError,
    InputError,
    ModelError,
    SequenceTooLongError,
)
from fastgenome.models.device import choose_device, choose_dtype, native_bfloat16
from fastgenome.models.embeddings import EmbeddingDefaults
from fastgenome.models.model import Model, Network
from fastgenome.models.tiny import TinyConfig, create
from fastgenome.models.transformer import Transformer, TransformerConfig
from fastgenome.tokenizers import KmerTokenizer, Tokens

SHAPE = TransformerConfig(
    5, 32, 2, 4, 48, activation="geglu", final_norm=True, stem_stride=4, stem_k=3, stem_window=10
)
CONFIG = TinyConfig(SHAPE, max_length=400, default_pooling="mean+max", default_layers=(0, -1))


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return create(CONFIG)


@pytest.fixture(scope="module")
def bert() -> Model:
    """A model whose tokenizer puts one special token before and one after each sequence."""
    torch.manual_seed(1)
    config = TransformerConfig(69, 32, 1, 4, 48, activation="relu")
    return Model(
        name="bert",
        network=Network(Transformer(config)),
        tokenizer=KmerTokenizer(3),
        licence="none",
        config={},
    )


def random_sequences(count: int, seed: int = 0, shortest: int = 3, longest: int = 300) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), n)) for n in rng.integers(shortest, longest + 1, count)]


def rows_of(model: Model, sequence: str, layer: int) -> NDArray[np.float32]:
    with torch.no_grad():
        states = model.hidden_states(model.tokenizer([sequence]), layers=layer)
    assert isinstance(states, torch.Tensor)
    return states.numpy()


def test_embed_joins_poolings_within_layers_in_the_callers_order(model: Model) -> None:
    sequences = random_sequences(30)
    found = model.embed(sequences, batch_tokens=50)
    assert found.dtype == np.float32
    assert found.shape == (30, model.embedding_dim) == (30, 2 * 2 * 32)
    for sequence, row in zip(sequences, found, strict=True):
        parts = [f(rows_of(model, sequence, layer), axis=0) for layer in (0, -1) for f in (np.mean, np.max)]
        np.testing.assert_allclose(row, np.concatenate(parts), rtol=0, atol=1e-5)


def test_embed_pools_without_special_tokens_unless_asked(bert: Model) -> None:
    sequence = "ACGTTGCA"
    rows = rows_of(bert, sequence, -1)
    assert len(rows) == 6 + 2
    expected = {
        ("mean", False): rows[1:-1].mean(0),
        ("mean", True): rows.mean(0),
        ("max", False): rows[1:-1].max(0),
        ("last", False): rows[-2],
        ("last", True): rows[-1],
        ("cls", False): rows[0],
    }
    for (pooling, special), row in expected.items():
        found = bert.embed([sequence, "TTT"], pooling=pooling, special_tokens=special)[0]
        np.testing.assert_allclose(found, row, rtol=0, atol=1e-5, err_msg=f"{pooling} {special}")


def test_embed_ignores_company_and_order_on_real_sequences(data_dir: Path) -> None:
    sequences = []
    for task in ("prom_core_all", "prom_300_tata", "reconstructed", "H3"):
        split = next((data_dir / "gue" / task).glob("*.csv.gz"))
        with gzip.open(split, "rt") as file:
            sequences += [line.split(",")[0] for line, _ in zip(list(file)[1:], range(8), strict=False)]
    sequences += [sequence[: 5 * n + 3] for n, sequence in enumerate(sequences)]
    assert len({len(sequence) for sequence in sequences}) > 30
    torch.manual_seed(0)
    model = create(replace(CONFIG, max_length=1000))
    alone = np.vstack([model.embed([sequence]) for sequence in sequences])
    rng = np.random.default_rng(0)
    for _ in range(60):
        chosen = rng.permutation(len(sequences))[: rng.integers(1, len(sequences) + 1)]
        budget = int(rng.integers(1, 4000))
        found = model.embed([sequences[i] for i in chosen], batch_tokens=budget)
        np.testing.assert_allclose(found, alone[chosen], rtol=0, atol=1e-5)


def test_embed_is_the_same_for_lower_case_and_rna(model: Model) -> None:
    found = model.embed(["ACGTTGCA", "acgttgca", "ACGUUGCA"])
    # Rows at another place of a matrix may be rounded otherwise.
    np.testing.assert_allclose(found, found[[0, 0, 0]], rtol=0, atol=1e-6)


def test_embed_accepts_nothing(model: Model) -> None:
    assert model.embed([]).shape == (0, model.embedding_dim)


def test_embed_reads_files_and_refuses_unusable_records(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "two.fa"
    path.write_text(">a\nACGTAC\nGT\n>b\nTTTTTT\n")
    np.testing.assert_array_equal(model.embed(path), model.embed(["ACGTACGT", "TTTTTT"]))
    np.testing.assert_array_equal(model.embed(str(path)), model.embed(path))
    path.write_text(">a\nACGTAC\n>b\nMKVLAE\n>c\nAC\n")
    with pytest.raises(InputError, match=r"two\.fa has unusable records"):
        model.embed(path)


@pytest.mark.parametrize("sequence", ["", "A", "AC"], ids=["empty", "1", "k-1"])
def test_embed_names_sequences_without_a_token(model: Model, bert: Model, sequence: str) -> None:
    for one in (model, bert) if not sequence else (bert,):
        with pytest.raises(InputError, match=rf"sequences\[2\] has {len(sequence)} bases and gives no token"):
            one.embed(["ACGT", "ACG", sequence])


def test_embed_and_hidden_states_refuse_sequences_beyond_the_limit(model: Model) -> None:
    longest = "A" * CONFIG.max_length
    assert model.embed([longest]).shape == (1, model.embedding_dim)
    with pytest.raises(SequenceTooLongError, match=r"sequences\[1\] has 401 tokens.*400.*window=.*--window"):
        model.embed(["ACGT", longest + "A"])
    for use in (model.hidden_states, model.logits):
        with pytest.raises(SequenceTooLongError):
            use(model.tokenizer([longest + "A"]))


def test_embed_restores_the_mode_of_every_part() -> None:
    model = create(CONFIG)
    model.network.train()
    model.encoder.final_norm.eval()  # type: ignore[attr-defined]
    modes = [part.training for part in model.network.modules()]
    assert len(set(modes)) == 2
    model.embed(["ACGTACGT"])
    with pytest.raises(ArgumentError):
        model.embed(["ACGTACGT"], pooling="cls")
    assert [part.training for part in model.network.modules()] == modes


def test_embed_shows_progress_on_standard_error_only_when_asked(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = model.embed(random_sequences(5))
    assert capsys.readouterr() == ("", "")
    np.testing.assert_array_equal(model.embed(random_sequences(5), progress=True), quiet)
    output = capsys.readouterr()
    assert output.out == ""
    assert "100%" in output.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 3}, r"layer must be one or more of -3 … 2 of model 'tiny'.*got 3"),
        ({"layer": []}, "layer must be one or more"),
        ({"layer": True}, "layer must be one or more"),
        ({"pooling": "median"}, "pooling must be one or more"),
        ({"pooling": "cls"}, "needs a first special token"),
        ({"batch_tokens": 0}, "at least 1, got 0"),
    ],
    ids=str,
)
def test_embed_refuses_unknown_arguments(model: Model, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        model.embed(["ACGTACGT"], **arguments)  # type: ignore[arg-type]


def test_embed_takes_numpy_layers(model: Model) -> None:
    np.testing.assert_array_equal(
        model.embed(["ACGTACGT"], layer=np.int64(1)), model.embed(["ACGTACGT"], layer=1)
    )


@pytest.mark.parametrize("wrong", [None, 3, b"ACGT"], ids=str)
def test_embed_names_what_is_no_text(model: Model, wrong: object) -> None:
    with pytest.raises(InputError, match=rf"sequences\[1\] is {type(wrong).__name__}"):
        model.embed(["ACGTACGT", wrong])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("ids", "offsets", "message"),
    [
        ([0, 9], [0, 2], "ids must lie in 0"),
        ([-1, 1], [0, 2], "ids must lie in 0"),
        ([0, 1], [0, 5], "offsets must rise from 0 to the number of ids, 2"),
        ([0, 1], [0, 2, 1, 2], "offsets must rise"),
        ([0, 1], [1, 2], "offsets must rise"),
        ([], [], "offsets must rise"),
    ],
)
def test_hidden_states_refuses_tokens_that_do_not_fit(
    model: Model, ids: list[int], offsets: list[int], message: str
) -> None:
    tokens = Tokens(np.array(ids, dtype=np.int32), np.array(offsets, dtype=np.int64))
    for method in (model.hidden_states, model.logits):
        with pytest.raises(ArgumentError, match=message):
            method(tokens)


def test_model_refuses_special_tokens_inside_joined_rows() -> None:
    with pytest.raises(ArgumentError, match="without special tokens"):
        Model(
            name="x",
            network=Network(Transformer(SHAPE)),
            tokenizer=KmerTokenizer(3),
            licence="none",
            config={},
        )


def test_hidden_states_gives_one_layer_several_or_all(model: Model) -> None:
    tokens = model.tokenizer(["ACGTACGTACG", "ACG"])
    everything = model.hidden_states(tokens, layers="all")
    assert [state.shape for state in everything] == [(3 + 1, 32)] * 3
    last = model.hidden_states(tokens)
    assert isinstance(last, torch.Tensor)
    assert torch.equal(last, everything[-1])
    some = model.hidden_states(tokens, layers=(2, 0))
    assert isinstance(some, tuple)
    assert torch.equal(some[0], everything[2])
    assert torch.equal(some[1], everything[0])
    with pytest.raises(ArgumentError, match="layer must be one or more"):
        model.hidden_states(tokens, layers=-4)


def test_logits_have_one_row_per_hidden_state(model: Model, bert: Model) -> None:
    tokens = model.tokenizer(["ACGTACGTACG", "ACG"])
    logits = model.logits(tokens)
    assert logits.shape == (4, 4 * SHAPE.stem_stride)
    logits.sum().backward()
    with pytest.raises(ModelError, match="no language-model head"):
        bert.logits(bert.tokenizer(["ACGT"]))


def test_load_gives_back_the_saved_model(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = models.load(tmp_path, dtype="float32")
    assert loaded.name == str(tmp_path)
    assert loaded.sha256 is not None
    assert len(loaded.sha256) == 64
    assert loaded.defaults == model.defaults == EmbeddingDefaults("mean+max", (0, -1))
    assert (loaded.max_length, loaded.min_length, loaded.licence) == (400, 1, "Apache-2.0")
    assert loaded.device == choose_device("auto")
    sequences = random_sequences(9)
    np.testing.assert_allclose(loaded.embed(sequences), model.embed(sequences), rtol=0, atol=1e-6)
    tokens = model.tokenizer(sequences)
    torch.testing.assert_close(loaded.logits(tokens), model.logits(tokens))


def test_load_in_half_precision_stays_close(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path, dtype=torch.float16)
    exact, rounded = model.embed(["ACGTACGTAGA"]), models.load(tmp_path, dtype="bfloat16")
    assert rounded.dtype == torch.bfloat16
    found = rounded.embed(["ACGTACGTAGA"])
    assert found.dtype == np.float32
    assert np.corrcoef(found[0], exact[0])[0, 1] > 0.999


def test_load_within_inference_mode_gives_a_model_that_trains(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    with torch.inference_mode():
        loaded = models.load(tmp_path, dtype="float32")
        loaded.embed(["ACGTACGT"])
    loaded.logits(loaded.tokenizer(["ACGTACGT"])).sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.network.head.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "unknown"}, "is of no known family .*'unknown'.*; known are tiny"),
        ({"colour": 1}, "does not know: colour"),
        ({"transformer": {"dim": 8}}, "does not describe"),
        ({"transformer": None}, "does not describe"),
        ({"max_length": "long"}, "does not describe"),
        ({"default_layers": [9]}, "does not describe"),
        ({"default_pooling": "median"}, "does not describe"),
    ],
    ids=str,
)
def test_load_refuses_a_config_it_does_not_know(
    model: Model, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    model.save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        models.load(tmp_path)


def test_load_ignores_and_runs_no_code_of_the_directory(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    (tmp_path / "modeling.py").write_text("raise SystemExit('ran')\n")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "modeling.M"}}))
    with pytest.raises(CheckpointError, match="does not know: auto_map"):
        models.load(tmp_path)


def test_load_checks_the_pinned_digest(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model.save(tmp_path)
    digest = models.load(tmp_path).sha256
    entry = replace(
        models.REGISTRY["tiny"], name="pinned", directory=tmp_path, digests={"model.safetensors": digest}
    )
    monkeypatch.setitem(models.REGISTRY, "pinned", entry)
    assert models.load("pinned").name == "pinned"
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match="damaged or of another release"):
        models.load("pinned")


def test_load_names_what_is_known_when_the_name_is_not(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no model 'huge': neither a registered name .*tiny.* nor a directory"
    ):
        models.load("huge")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        models.load(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_load_refuses_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ArgumentError, match="cannot be used here"):
        models.load("tiny", device=device)


@pytest.mark.parametrize(
    "arguments", [{"device": "abacus"}, {"dtype": "int8"}, {"dtype": torch.float64}, {"dtype": None}], ids=str
)
def test_load_refuses_unknown_devices_and_types(arguments: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match=r"must be .auto.|cannot be used here"):
        models.load("tiny", **arguments)  # type: ignore[arg-type]


def test_choose_dtype_takes_bfloat16_only_where_it_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for flags, native in (
        ({"avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"architecture": "aarch64", "bf16": True}, True),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags)
        assert native_bfloat16(cpu) is native
        assert choose_dtype("auto", cpu) == (torch.bfloat16 if native else torch.float32)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not native_bfloat16(cpu)
    assert choose_dtype("bfloat16", cpu) == choose_dtype(torch.bfloat16, cpu) == torch.bfloat16


def test_models_import_neither_transformers_nor_triton() -> None:
    code = (
        "import sys, fastgenome.models.tiny, fastgenome.ops\n"
        "heavy = ('transformers', 'triton', 'sklearn', 'pyarrow', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True
    )
    assert run.stdout.strip() == "[]", run.stdout + run.stderr


def test_tiny_is_pinned_small_and_as_documented() -> None:
    entry = models.REGISTRY["tiny"]
    assert entry.directory
    assert models.load("tiny").sha256 == entry.digests["model.safetensors"]
    assert sum(path.stat().st_size for path in entry.directory.iterdir()) <= 8_000_000
    model = models.load("tiny")
    assert model.config == create(TinyConfig()).config
    assert model.embedding_dim == 768


def test_embed_by_attention_weighs_tokens_by_what_they_receive(bert: Model) -> None:
    sequences = random_sequences(5)
    layer = bert.network.encoder.layers[0]
    found = bert.embed(sequences, pooling="attention", layer=1)
    for sequence, embedding in zip(sequences, found, strict=True):
        with torch.no_grad():
            tokens = bert.tokenizer([sequence])
            embedded, states = bert.hidden_states(tokens, layers=(0, 1))
            qkv = layer.qkv(layer.attention_norm(embedded)).unflatten(1, (3, 4, 8)).numpy()
        query, key = qkv[:, 0], qkv[:, 1]
        received = np.zeros(len(query))
        for head in range(4):
            angles = np.outer(np.arange(len(query)), 10000.0 ** (-np.arange(0, 8, 2) / 8))
            turn = np.exp(1j * angles)
            q, k = ((x[:, head, ::2] + 1j * x[:, head, 1::2]) * turn for x in (query, key))
            scores = (q @ k.conj().T).real / np.sqrt(8)
            probabilities = np.exp(scores - scores.max(1, keepdims=True))
            received += (probabilities / probabilities.sum(1, keepdims=True)).mean(0) / 4
        weights = received[1:-1, None]
        expected = (states.numpy()[1:-1] * weights).sum(0) / weights.sum()
        np.testing.assert_allclose(embedding, expected, rtol=0, atol=1e-5)
    with pytest.raises(ArgumentError, match="layer 0, the embedding output, has no attention"):
        bert.embed(sequences, pooling="attention", layer=0)


@pytest.mark.parametrize("special_tokens", [False, True])
def test_token_embeddings_are_the_hidden_states_of_each_sequence(bert: Model, special_tokens: bool) -> None:
    sequences = random_sequences(9)
    values, offsets = bert.token_embeddings(sequences, layer=(0, 1), special_tokens=special_tokens)
    for index, sequence in enumerate(sequences):
        expected = np.concatenate([rows_of(bert, sequence, layer) for layer in (0, 1)], axis=1)
        expected = expected if special_tokens else expected[1:-1]
        np.testing.assert_allclose(values[offsets[index] : offsets[index + 1]], expected, rtol=0, atol=1e-5)


def test_embed_takes_tokens_and_gives_float16(model: Model, bert: Model) -> None:
    sequences = random_sequences(9)
    for each in (model, bert):
        embeddings = each.embed(sequences)
        np.testing.assert_array_equal(each.embed(each.tokenizer(sequences)), embeddings)
        half = each.embed(sequences, output_dtype="float16")
        assert half.dtype == np.float16
        np.testing.assert_array_equal(half, embeddings.astype(np.float16))
    with pytest.raises(ArgumentError, match="float32 or float16, got float64"):
        model.embed(sequences, output_dtype=np.float64)
    with pytest.raises(InputError, match=r"sequences\[1\] has no token"):
        bert.embed(Tokens(np.array([2, 7, 3, 2, 3], np.int32), np.array([0, 3, 5])))


def test_embed_refuses_float16_beyond_its_range(bert: Model) -> None:
    big = copy.deepcopy(bert.network)
    with torch.no_grad():
        big.encoder.stem.embedding.weight *= 1e6
    large = Model(name="big", network=big, tokenizer=bert.tokenizer, licence="none", config={})
    with pytest.raises(ArgumentError, match="exceeds the range of float16"):
        large.embed(["ACGTACGT"], layer=0, output_dtype="float16")
