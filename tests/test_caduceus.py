"""Caduceus against definitions written out in NumPy, and what its published files promise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mamba_definitions import both_strands_definition, layer_weights, mixer_definition
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import fastgenome as fg
from fastgenome.errors import ArgumentError, CheckpointError, ModelError
from fastgenome.models import mamba
from fastgenome.models.encoder import packing_of

COMPLEMENTS = [0, 1, 2, 3, 4, 5, 6, 10, 9, 8, 7, 11, 12, 13, 14, 15]
DIM, LAYERS, VOCABULARY = 12, 3, 16
INNER, STATES, KERNEL, RANK = 36, 5, 3, 2

CONFIG: dict[str, Any] = {
    "architectures": ["CaduceusForMaskedLM"],
    "bidirectional": True,
    "bidirectional_strategy": "add",
    "bidirectional_weight_tie": True,
    "complement_map": {str(i): complement for i, complement in enumerate(COMPLEMENTS)},
    "d_model": DIM,
    "fused_add_norm": True,
    "initializer_cfg": {"initializer_range": 0.02},
    "model_type": "caduceus",
    "n_layer": LAYERS,
    "norm_epsilon": 1e-5,
    "pad_vocab_size_multiple": 8,
    "rcps": True,
    "residual_in_fp32": False,
    "rms_norm": True,
    "ssm_cfg": {
        "bias": False,
        "conv_bias": True,
        "d_conv": KERNEL,
        "d_state": STATES,
        "dt_init": "random",
        "dt_rank": RANK,
        "dt_scale": 1.0,
        "expand": 3,
        "use_fast_path": True,
    },
    "vocab_size": 12,
}
SINGLE = {"rcps": False}
UNFUSED = {"fused_add_norm": False, "rms_norm": False}


def published_tensors(config: dict[str, Any], *, copies: bool = False) -> dict[str, NDArray[Any]]:
    """Random tensors under their published names."""
    rng = np.random.default_rng(0)
    both, layer_norm = config["rcps"], not config["rms_norm"]
    wrapped = ".submodule" if both else ""
    norm = ".submodule" if both and not config["fused_add_norm"] else ""
    words = "caduceus.backbone.embeddings.word_embeddings"
    embedding = rng.normal(size=(VOCABULARY, DIM))
    tensors: dict[str, Any] = {f"{words}.embedding.weight" if both else f"{words}.weight": embedding}
    if both:
        tensors[f"{words}.complement_map"] = tensors["lm_head.complement_map"] = np.array(COMPLEMENTS)
    if copies:
        tensors["lm_head.lm_head.weight" if both else "lm_head.weight"] = embedding
    norms = [f"caduceus.backbone.norm_f{norm}"]
    for index in range(LAYERS):
        layer = f"caduceus.backbone.layers.{index}"
        norms.append(f"{layer}.norm{norm}")
        tied = {
            "in_proj.weight": rng.normal(size=(2 * INNER, DIM)) * 0.3,
            "out_proj.weight": rng.normal(size=(DIM, INNER)) * 0.3,
        }
        for way in ("mamba_fwd", "mamba_rev"):
            own = {
                "A_log": np.log(np.arange(1, STATES + 1)) + rng.normal(size=(INNER, STATES)) * 0.3,
                "D": rng.normal(size=INNER),
                "conv1d.weight": rng.normal(size=(INNER, 1, KERNEL)) * 0.5,
                "conv1d.bias": rng.normal(size=INNER) * 0.5,
                "x_proj.weight": rng.normal(size=(RANK + 2 * STATES, INNER)) * 0.3,
                "dt_proj.weight": rng.normal(size=(INNER, RANK)) * 0.5,
                "dt_proj.bias": rng.normal(size=INNER) - 2,
            }
            held = own | tied if way == "mamba_fwd" or copies else own
            tensors |= {f"{layer}.mixer{wrapped}.{way}.{name}": value for name, value in held.items()}
    for name in norms:
        tensors[f"{name}.weight"] = 1 + 0.2 * rng.normal(size=DIM)
        if layer_norm:
            tensors[f"{name}.bias"] = 0.2 * rng.normal(size=DIM)
    return {k: v if v.dtype == np.int64 else v.astype(np.float32) for k, v in tensors.items()}


def write_checkpoint(
    directory: Path, changes: dict[str, Any], tensors: dict[str, NDArray[Any]] | None = None
) -> Path:
    config = CONFIG | changes
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(
        published_tensors(CONFIG | changes) if tensors is None else tensors, directory / "model.safetensors"
    )
    return directory


def load(directory: Path, **changes: Any) -> Any:
    return fg.load(write_checkpoint(directory, changes), device="cpu", dtype="float32")


def random_tokens(lengths: list[int], seed: int = 0) -> fg.Tokens:
    ids = np.random.default_rng(seed).integers(0, 12, sum(lengths)).astype(np.int32)
    return fg.Tokens(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def single(tokens: fg.Tokens, index: int) -> fg.Tokens:
    ids = tokens.ids[tokens.offsets[index] : tokens.offsets[index + 1]]
    return fg.Tokens(ids, np.array([0, len(ids)]))


@pytest.mark.parametrize(
    ("rows", "group"), [(7, 1), (1 << 20, 1 << 20)], ids=["blocks of 7 rows", "all at once"]
)
def test_mixer_equals_its_definition(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: int, group: int
) -> None:
    monkeypatch.setattr(mamba, "_BLOCK_ROWS", rows)
    monkeypatch.setattr(mamba, "_STEP_NUMBERS", group)
    model = load(tmp_path, **SINGLE)
    tensors = load_file(tmp_path / "model.safetensors")
    weights = layer_weights(tensors, "caduceus.backbone.layers.1.mixer.")
    lengths = [1, 2, 30, 30, 30, 17]
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    x = torch.randn(1, sum(lengths), DIM, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = model.network.encoder.layers[1].mixer(x, packing_of(offsets, x.device))[0]
    for piece, ours in zip(x[0].split(lengths), found.split(lengths), strict=True):
        expected = mixer_definition(weights, piece.double().numpy())
        np.testing.assert_allclose(ours.double().numpy(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("changes", [{}, UNFUSED], ids=["fused", "unfused"])
def test_model_of_both_strands_is_equivariant_to_the_reverse_complement(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = load(tmp_path, **changes)
    sequence = "".join(np.random.default_rng(3).choice(list("ACGTN"), 61))
    reverse = sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))
    tokens = model.tokenizer([sequence, reverse], special_tokens=False)
    with torch.inference_mode():
        for states in model.hidden_states(tokens, layers="all"):
            there, back = states.chunk(2)
            assert states.shape[1] == 2 * DIM == model.dim
            torch.testing.assert_close(back, there.flip(0, 1), rtol=0, atol=1e-6)
        there, back = model.logits(tokens).chunk(2)
    torch.testing.assert_close(back, there.flip(0)[:, COMPLEMENTS], rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, UNFUSED], ids=["fused", "unfused"])
def test_hidden_states_of_both_strands_equal_their_definition(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """The strands swap at every layer of the fused model and of no other."""
    model, tokens = load(tmp_path, **changes), random_tokens([17, 5])
    exact = layer_weights(load_file(tmp_path / "model.safetensors"), "")
    with torch.inference_mode():
        found = model.hidden_states(tokens, layers="all")
    for i, rows in enumerate((slice(0, 17), slice(17, 22))):
        expected = both_strands_definition(exact, single(tokens, i).ids, LAYERS, fused=not changes)
        assert len(expected) == len(found)
        for ours, states in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours[rows].double().numpy(), states, rtol=0, atol=5e-5)


LENGTHS = [1, 40, 3, 40, 40, 130, 2, 77, 1, 300]


@pytest.mark.parametrize("changes", [{}, SINGLE, UNFUSED], ids=["both strands", "one strand", "unfused"])
def test_hidden_states_do_not_depend_on_the_batch(tmp_path: Path, changes: dict[str, Any]) -> None:
    model, tokens = load(tmp_path, **changes), random_tokens(LENGTHS)
    order = np.random.default_rng(1).permutation(len(LENGTHS))
    pieces = [single(tokens, i) for i in range(len(LENGTHS))]
    shuffled = fg.Tokens(
        np.concatenate([pieces[i].ids for i in order]),
        np.concatenate([[0], np.cumsum([LENGTHS[i] for i in order])]),
    )
    with torch.inference_mode():
        alone = [model.hidden_states(piece) for piece in pieces]
        together = model.hidden_states(tokens).split(LENGTHS)
        mixed = model.hidden_states(shuffled).split([LENGTHS[i] for i in order])
    scale = max(float(states.abs().max()) for states in alone)
    for i, states in enumerate(alone):
        assert (together[i] - states).abs().max() <= 1e-5 * scale
    for i, states in zip(order, mixed, strict=True):
        assert (alone[i] - states).abs().max() <= 1e-5 * scale


def test_sequences_without_tokens_have_no_rows(tmp_path: Path) -> None:
    model = load(tmp_path)
    tokens = fg.Tokens(np.array([7, 8, 9], dtype=np.int32), np.array([0, 0, 3, 3]))
    with torch.inference_mode():
        states = model.hidden_states(tokens)
        nothing = model.hidden_states(fg.Tokens(np.zeros(0, np.int32), np.array([0, 0])))
        torch.testing.assert_close(states, model.hidden_states(single(tokens, 1)), rtol=0, atol=1e-6)
    assert nothing.shape == (0, 2 * DIM)


@pytest.mark.parametrize("changes", [{}, SINGLE], ids=["both strands", "one strand"])
def test_gradients_of_the_logits_are_those_of_finite_differences(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    model, tokens = load(tmp_path, **changes), random_tokens([20, 20, 5])
    weights = torch.randn(45, VOCABULARY, generator=torch.Generator().manual_seed(0))
    loss = (model.logits(tokens) * weights).mean()
    loss.backward()
    for name, parameter in model.network.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        # Along the gradient itself the change is largest.
        step = gradient * (3e-4 * parameter.detach().norm() / gradient.norm())
        values = []
        with torch.no_grad():
            for sign in (1, -2):
                parameter += sign * step
                values.append(float((model.logits(tokens) * weights).double().mean()))
            parameter += step
        assert (values[0] - values[1]) / 2 == pytest.approx(float((gradient * step).sum()), rel=0.02), name


def test_embedding_pools_bases_and_leaves_the_separator_out(tmp_path: Path) -> None:
    model = load(tmp_path)
    assert model.licence == "Apache-2.0"
    assert model.max_length is None
    tokens = model.tokenizer(["ACGTTGCA"])
    assert tokens.ids.tolist() == [7, 8, 9, 10, 10, 9, 8, 7, 1]
    with torch.inference_mode():
        expected = model.hidden_states(tokens)[:-1].mean(0).numpy()
    np.testing.assert_allclose(model.embed(["ACGTTGCA"])[0], expected, rtol=0, atol=1e-6)
    with pytest.raises(ArgumentError, match="token types"):
        model.hidden_states(tokens, token_types=np.zeros(9, np.int64))


def test_bfloat16_products_keep_the_embedding(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path, {})
    sequences = ["".join(np.random.default_rng(i).choice(list("ACGT"), 90)) for i in range(3)]
    models = [fg.load(directory, device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16")]
    states = models[1].hidden_states(random_tokens([9]), layers="all")
    assert {layer.dtype for layer in states} == {torch.float32}
    exact, rounded = (model.embed(sequences) for model in models)
    cosines = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosines.min() > 0.999


@pytest.mark.parametrize(
    "changes", [{}, SINGLE, UNFUSED, SINGLE | UNFUSED], ids=["PS", "PH", "PS unfused", "PH unfused"]
)
def test_saved_tensors_are_the_published_ones(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = load(tmp_path / "published", **changes)
    model.save(tmp_path / "saved")
    published = load_file(tmp_path / "published" / "model.safetensors")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert saved.keys() == published.keys()
    for name, values in published.items():
        np.testing.assert_array_equal(saved[name], values)
        assert saved[name].dtype == values.dtype


@pytest.mark.parametrize("changes", [{}, SINGLE], ids=["PS", "PH"])
def test_second_copies_of_tied_tensors_must_be_equal(tmp_path: Path, changes: dict[str, Any]) -> None:
    tensors = published_tensors(CONFIG | changes, copies=True)
    model = fg.load(write_checkpoint(tmp_path, changes, tensors), device="cpu", dtype="float32")
    tokens = random_tokens([9])
    with torch.inference_mode():
        expected = load(tmp_path / "plain", **changes).logits(tokens)
        torch.testing.assert_close(model.logits(tokens), expected, rtol=0, atol=0)
    for copy in [name for name in tensors if name.endswith(("rev.in_proj.weight", "lm_head.weight"))]:
        write_checkpoint(tmp_path, changes, tensors | {copy: tensors[copy] + 1})
        with pytest.raises(CheckpointError, match="must be the same as"):
            fg.load(tmp_path)


def test_checkpoint_without_head_gives_hidden_states_only(tmp_path: Path) -> None:
    tensors = {
        name.removeprefix("caduceus."): values
        for name, values in published_tensors(CONFIG).items()
        if not name.startswith("lm_head")
    }
    model = fg.load(write_checkpoint(tmp_path / "base", {}, tensors), device="cpu", dtype="float32")
    tokens = random_tokens([9])
    with torch.inference_mode():
        expected = load(tmp_path / "whole").hidden_states(tokens)
        torch.testing.assert_close(model.hidden_states(tokens), expected, rtol=0, atol=0)
    with pytest.raises(ModelError, match="no language-model head"):
        model.logits(tokens)


def test_vocabulary_of_eight_is_that_of_plants(tmp_path: Path) -> None:
    tensors = published_tensors(CONFIG)
    words = "caduceus.backbone.embeddings.word_embeddings"
    tensors[f"{words}.embedding.weight"] = tensors[f"{words}.embedding.weight"][:8]
    for name in (words, "lm_head"):
        tensors[f"{name}.complement_map"] = np.array([0, 1, 2, 6, 5, 4, 3, 7])
    directory = write_checkpoint(tmp_path, {"vocab_size": 8}, tensors)
    model = fg.load(directory, device="cpu", dtype="float32")
    tokens = model.tokenizer(["ACGTNacgt", "ACGTNACGT"])
    assert tokens.ids.tolist() == [3, 4, 5, 6, 2, 3, 4, 5, 6] * 2
    there, back = model.embed(["ACCTN", "NAGGT"])
    np.testing.assert_allclose(back, there[::-1], rtol=0, atol=1e-6)


def mixer_fields(**changes: Any) -> dict[str, Any]:
    return {"ssm_cfg": CONFIG["ssm_cfg"] | changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bidirectional": False}, "bidirectional is False"),
        ({"bidirectional_strategy": "ew_multiply"}, "bidirectional_strategy is 'ew_multiply'"),
        ({"bidirectional_weight_tie": False}, "bidirectional_weight_tie is False"),
        ({"colour": "red"}, "not known: colour"),
        ({"ssm_cfg": "mamba"}, "ssm_cfg is 'mamba'"),
        (mixer_fields(bias=True), "bias is True"),
        (mixer_fields(conv_bias=False), "conv_bias is False"),
        (mixer_fields(layer="Mamba2"), r"ssm_cfg.* not known: layer"),
        (mixer_fields(dt_rank="many"), "dt_rank is 'many'"),
        (mixer_fields(dt_rank="auto"), "does not fill"),
        (mixer_fields(d_state=4), "does not fill"),
        (mixer_fields(d_conv=4), "does not fill"),
        (mixer_fields(expand=2), "does not fill"),
        ({"vocab_size": 9, "pad_vocab_size_multiple": 1}, "another tokenizer"),
        ({"vocab_size": 8}, "does not fill"),
        ({"vocab_size": 17}, "does not fill"),
        ({"rms_norm": False}, r"missing .*norm\.bias"),
        ({"n_layer": 2}, r"unexpected .*layers\.2"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_config_that_is_not_supported_or_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        fg.load(write_checkpoint(tmp_path, changes, published_tensors(CONFIG)))


@pytest.mark.parametrize(
    "changes",
    [
        {"complement_map": {}},
        {"initializer_cfg": None},
        {"residual_in_fp32": True},
        {"bidirectional_strategy": None},
        {"vocab_size": 16},
        mixer_fields(dt_min=0.5, dt_max=0.9, dt_init="constant", dt_init_floor=0.1, use_fast_path=False),
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_dead_config_fields_change_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    tokens = random_tokens([30])
    with torch.inference_mode():
        expected = load(tmp_path / "as published").logits(tokens)
        found = load(tmp_path / "changed", **changes).logits(tokens)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["lm_head", "caduceus.backbone.embeddings.word_embeddings"])
@pytest.mark.parametrize("wrong", [16, -1])
def test_complements_outside_the_vocabulary_are_refused(tmp_path: Path, name: str, wrong: int) -> None:
    tensors = published_tensors(CONFIG)
    tensors[f"{name}.complement_map"] = np.array([*COMPLEMENTS[:-1], wrong])
    with pytest.raises(CheckpointError, match="outside 0 … 15"):
        fg.load(write_checkpoint(tmp_path, {}, tensors))
