"""Convolutional models against their definition on one sequence alone, written out with plain functions."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fastgenome as fg
from fastgenome.errors import ArgumentError, CheckpointError, SequenceTooLongError
from fastgenome.models import convnova, unet
from fastgenome.models.convolution_family import ConvolutionConfig
from fastgenome.models.model import Model

LENGTHS = (1, 2, 7, 8, 9, 1000)
DILATIONS = (1, 4, 50, 400)
CONVNOVA = convnova.ConvNovaConfig(dim=16, dilations=DILATIONS)
TWO_STACKS = replace(CONVNOVA, dilations=(1, 3), stacks=2, kernel_size=5)
STRANDS = replace(CONVNOVA, both_strands=True)
UNET = unet.UNetConfig(level_dims=(8, 12, 16, 20))
ONE_LEVEL = unet.UNetConfig(level_dims=(8,), kernel_size=3)
BPE = {"input": "bpe", "vocabulary_size": 12}
CONFIGS = {
    "convnova": CONVNOVA,
    "convnova-two-stacks": TWO_STACKS,
    "convnova-strands": STRANDS,
    "convnova-bpe": replace(CONVNOVA, **BPE),
    "unet": UNET,
    "unet-one-level": ONE_LEVEL,
    "unet-bpe": replace(UNET, **BPE),
}
Weights = dict[str, Tensor]


def write_vocabulary(directory: Path) -> Path:
    """A tokenizer.json in the format of DNABERT-2, with three merges."""
    special = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
    ids = {token: n for n, token in enumerate((*special, "A", "C", "G", "T", "AC", "GT", "ACGT"))}
    template = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template.append({"SpecialToken": {"id": "[SEP]", "type_id": 0}})
    content = {
        "added_tokens": [{"id": ids[token], "content": token} for token in special],
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": template,
            "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")},
        },
        "model": {
            "type": "BPE",
            "unk_token": "[UNK]",
            "vocab": ids,
            "merges": ["A C", "G T", "AC GT"],
        },
    }
    path = directory / "tokenizer.json"
    path.write_text(json.dumps(content))
    return path


def make(config: ConvolutionConfig, directory: Path) -> Model:
    torch.manual_seed(0)
    create: Callable[..., Model] = (
        convnova.create if isinstance(config, convnova.ConvNovaConfig) else unet.create
    )
    model = create(config, vocabulary=write_vocabulary(directory) if config.input == "bpe" else None)
    # Norms and biases are told apart only where they are not at their first values.
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.network.eval()
    return model


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    return make(CONFIGS[request.param], tmp_path)


def random_tokens(model: Model, lengths: tuple[int, ...], seed: int = 0) -> fg.Tokens:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return fg.Tokens(rng.integers(0, model.encoder.vocabulary_size, offsets[-1]).astype(np.int32), offsets)


def convolve(w: Weights, name: str, x: Tensor, dilation: int = 1) -> Tensor:
    """One sequence (length, channels) with zeros beyond its ends, a product for each tap."""
    kernel, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    out = bias.expand(len(x), -1).clone()
    for tap in range(kernel.shape[2]):
        shift = (tap - kernel.shape[2] // 2) * dilation
        for row in range(max(0, -shift), min(len(x), len(x) - shift)):
            out[row] += kernel[:, :, tap] @ x[row + shift]
    return out


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[1:], w[f"{name}.weight"], w[f"{name}.bias"])


def apply_linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def stem(w: Weights, name: str, ids: list[int]) -> Tensor:
    table = w.get(f"{name}.embedding.weight", torch.eye(5))
    return F.gelu(convolve(w, f"{name}.convolution", torch.stack([table[i] for i in ids])))


def convnova_definition(w: Weights, ids: list[int], config: convnova.ConvNovaConfig) -> list[Tensor]:
    x, second = stem(w, "stem", ids), stem(w, "second_stem", ids)
    states = [x]
    dilations = [dilation for _ in range(config.stacks) for dilation in config.dilations]
    for index, dilation in enumerate(dilations):
        layer = f"layers.{index}"
        beside = norm(w, f"{layer}.second_norm", second)
        gate = torch.sigmoid(convolve(w, f"{layer}.gate", beside, dilation))
        x = x + F.gelu(convolve(w, f"{layer}.convolution", norm(w, f"{layer}.norm", x), dilation)) * gate
        states.append(x)
        if index < len(dilations) - 1:
            second = second + F.gelu(convolve(w, f"{layer}.second_convolution", beside, dilation))
    states[-1] = norm(w, "final_norm", x)
    return states


def strands_definition(w: Weights, ids: list[int], config: convnova.ConvNovaConfig) -> list[Tensor]:
    strands = [stem(w, "stem", ids), stem(w, "stem", [{0: 3, 1: 2, 2: 1, 3: 0, 4: 4}[i] for i in ids[::-1]])]
    states = [torch.cat([strands[0], strands[1].flip(0)], 1)]
    for index, dilation in enumerate(config.dilations):
        normed = [norm(w, f"layers.{index}.norm", x) for x in strands]
        mixed = [F.gelu(convolve(w, f"layers.{index}.convolution", x, dilation)) for x in normed]
        gates = [torch.sigmoid(convolve(w, f"layers.{index}.gate", x, dilation)) for x in normed]
        strands = [strands[i] + mixed[i] * gates[1 - i].flip(0) for i in (0, 1)]
        states.append(torch.cat([strands[0], strands[1].flip(0)], 1))
    last = [norm(w, "final_norm", x) for x in strands]
    states[-1] = torch.cat([last[0], last[1].flip(0)], 1)
    return states


def unet_definition(w: Weights, ids: list[int], config: unet.UNetConfig) -> list[Tensor]:
    def block(name: str, x: Tensor) -> Tensor:
        return x + convolve(
            w, f"{name}.second", F.gelu(convolve(w, f"{name}.first", norm(w, f"{name}.norm", x)))
        )

    x = first = stem(w, "stem", ids)
    skipped = []
    for level in range(len(config.level_dims) - 1):
        x = block(f"blocks.{level}", x)
        skipped.append(x)
        padded = torch.cat([x, torch.zeros(len(x) % 2, x.shape[1])])
        x = apply_linear(w, f"downs.{level}.join", torch.cat([padded[0::2], padded[1::2]], 1))
    x = block(f"blocks.{len(config.level_dims) - 1}", x)
    for level in reversed(range(len(skipped))):
        pairs = apply_linear(w, f"ups.{level}.split", x)
        dim = config.level_dims[level]
        rows = torch.stack([pairs[:, :dim], pairs[:, dim:]], 1).flatten(0, 1)[: len(skipped[level])]
        x = block(
            f"up_blocks.{level}", apply_linear(w, f"ups.{level}.join", torch.cat([rows, skipped[level]], 1))
        )
    return [first, norm(w, "final_norm", x)]


@pytest.mark.parametrize("name", CONFIGS)
def test_states_equal_the_definition_on_each_sequence_alone(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    model = make(config, tmp_path)
    define: Any = unet_definition if name.startswith("unet") else convnova_definition
    define = strands_definition if name == "convnova-strands" else define
    tokens = random_tokens(model, (*LENGTHS, 7, 7))
    with torch.no_grad():
        found = model.hidden_states(tokens, layers="all")
        assert tuple(states.shape[1] for states in found) == model.encoder.widths
        weights = dict(model.network.encoder.state_dict())
        for start, end in zip(tokens.offsets, tokens.offsets[1:], strict=False):
            expected = define(weights, tokens.ids[start:end].tolist(), config)
            assert len(expected) == len(found)
            for states, whole in zip(found, expected, strict=True):
                torch.testing.assert_close(states[start:end], whole, rtol=1e-5, atol=1e-5)


def test_states_do_not_depend_on_the_batch(model: Model) -> None:
    lengths = (3, 40, 40, 1, 500, 40, 2, 17, 3, 129)
    tokens = random_tokens(model, lengths)
    with torch.no_grad():
        pieces = [tokens.ids[a:b] for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)]
        alone = [model.hidden_states(fg.Tokens(p, np.array([0, len(p)]))) for p in pieces]
        rng = np.random.default_rng(1)
        for _ in range(20):
            chosen = rng.integers(0, len(pieces), rng.integers(1, 12))
            ids = np.concatenate([pieces[i] for i in chosen])
            offsets = np.concatenate([[0], np.cumsum([lengths[i] for i in chosen])])
            found = model.hidden_states(fg.Tokens(ids, offsets))
            expected = torch.cat([alone[i] for i in chosen])
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_layers_are_those_asked_for(model: Model) -> None:
    tokens = random_tokens(model, (5, 5, 0, 9))
    every = model.hidden_states(tokens, layers="all")
    last = len(every) - 1
    some = model.hidden_states(tokens, layers=(last, 0, -1))
    for states, index in zip(some, (last, 0, last), strict=True):
        torch.testing.assert_close(states, every[index], rtol=0, atol=0)
    empty = model.hidden_states(fg.Tokens(tokens.ids[:0], np.array([0, 0])), layers="all")
    assert [tuple(states.shape) for states in empty] == [(0, width) for width in model.encoder.widths]
    with pytest.raises(ArgumentError, match="no token types"):
        model.hidden_states(tokens, token_types=np.zeros(19, np.int64))


def test_layers_above_the_highest_wanted_are_not_run(model: Model) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the last norm ran")

    model.network.encoder.final_norm.register_forward_pre_hook(refuse)
    model.hidden_states(random_tokens(model, (5, 9)), layers=0)


def test_both_strands_are_exchanged_by_the_reverse_complement(tmp_path: Path) -> None:
    model = make(STRANDS, tmp_path)
    rng = np.random.default_rng(0)
    for length in LENGTHS:
        sequence = "".join(rng.choice(list("ACGTN"), length))
        opposite = sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))
        tokens, other = model.tokenizer([sequence]), model.tokenizer([opposite])
        with torch.no_grad():
            for states, turned in zip(
                model.hidden_states(tokens, layers="all"),
                model.hidden_states(other, layers="all"),
                strict=True,
            ):
                exchanged = torch.cat([turned[:, 16:], turned[:, :16]], 1).flip(0)
                torch.testing.assert_close(states, exchanged, rtol=1e-5, atol=1e-5)
            # Rows reversed, and the logits of A and T, of C and G, exchanged.
            complemented = model.logits(other).flip(0)[:, [3, 2, 1, 0]]
            torch.testing.assert_close(model.logits(tokens), complemented, rtol=1e-5, atol=1e-5)
        one, two = model.embed([sequence, opposite])
        np.testing.assert_allclose(one[:16] + one[16:], two[:16] + two[16:], rtol=1e-5, atol=1e-5)


def test_both_strands_tell_a_base_from_its_complement(tmp_path: Path) -> None:
    model = make(STRANDS, tmp_path)
    with torch.no_grad():
        first, second = (model.logits(model.tokenizer([base])) for base in "AT")
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_model_is_loaded_again(name: str, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    model = make(CONFIGS[name], tmp_path / "made")
    model.save(tmp_path / "saved")
    again = fg.load(tmp_path / "saved", device="cpu", dtype="float32")
    sequences = ["ACGTTGCAACGT", "A", "GGGNNA" * 20]
    np.testing.assert_allclose(again.embed(sequences), model.embed(sequences), rtol=0, atol=1e-6)
    tokens = again.tokenizer(sequences)
    with torch.no_grad():
        torch.testing.assert_close(again.logits(tokens), model.logits(tokens), rtol=0, atol=1e-6)
    assert again.logits(tokens).shape[1] == (4 if CONFIGS[name].input == "base" else 12)
    assert again.config == model.config
    assert again.config_sha256 == model.config_sha256
    half = fg.load(tmp_path / "saved", device="cpu", dtype="bfloat16").embed(sequences)
    np.testing.assert_allclose(half, model.embed(sequences), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("family", ["convnova", "unet"])
def test_vocabulary_given_by_any_path_is_saved_with_the_model(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "other").mkdir()
    content = write_vocabulary(tmp_path / "made").rename(tmp_path / "made" / "pairs.json").read_bytes()
    monkeypatch.chdir(tmp_path / "made")
    create: Callable[..., Model] = {"convnova": convnova.create, "unet": unet.create}[family]
    model = create(CONFIGS[f"{family}-bpe"], vocabulary="pairs.json")
    monkeypatch.chdir(tmp_path / "other")
    model.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "tokenizer.json").read_bytes() == content
    fg.load(tmp_path / "saved", device="cpu", dtype="float32")
    (tmp_path / "made" / "pairs.json").unlink()
    with pytest.raises(CheckpointError, match="is gone"):
        model.save(tmp_path / "again")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("convnova", {"colour": 3}, "does not know: colour"),
        ("convnova", {"dilations": []}, "dilations"),
        ("convnova", {"dilations": [1, "4"]}, "dilations"),
        ("convnova", {"dim": 0}, "dim"),
        ("convnova", {"kernel_size": 8}, "kernel_size"),
        ("convnova", {"kernel_size": "9"}, "kernel_size"),
        ("convnova", {"input": "bpe"}, "vocabulary_size"),
        ("convnova", {"vocabulary_size": 7}, "vocabulary_size"),
        ("convnova", {"max_length": 0}, "max_length"),
        ("convnova", {"default_layers": [9]}, "layer"),
        ("convnova-bpe", {"both_strands": True}, "complement"),
        ("convnova-bpe", {"vocabulary_size": 13}, "the tokenizer has 12"),
        ("unet", {"level_dims": []}, "level_dims"),
        ("unet", {"level_dims": [8, 12]}, "unexpected"),
        ("unet", {"level_dims": [8, 12, 16, 21]}, "shape"),
        ("unet", {"dilations": [1]}, "does not know: dilations"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_configs_that_do_not_fit_are_refused(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = make(CONFIGS[name], tmp_path)
    model.save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        fg.load(tmp_path, device="cpu", dtype="float32")


def test_vocabulary_goes_with_byte_pairs_alone(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="needs vocabulary="):
        unet.create(replace(UNET, **BPE))
    with pytest.raises(ArgumentError, match="takes none"):
        unet.create(UNET, vocabulary=write_vocabulary(tmp_path))


def test_gradients_reach_every_parameter(model: Model) -> None:
    tokens = random_tokens(model, (900, 33, 33))
    model.logits(tokens).square().sum().backward()
    without = [n for n, p in model.network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_models_of_bases_learn_masked_bases(tmp_path: Path) -> None:
    from fastgenome.training.masked_language import masked_loss

    bases = np.frombuffer(b"ACGT" * 16, np.uint8)
    mask = np.zeros(64, dtype=bool)
    mask[5::7] = True
    for config in (CONVNOVA, STRANDS, UNET):
        model = make(config, tmp_path)
        optimizer = torch.optim.Adam(model.network.parameters(), lr=1e-2)
        losses = []
        for _ in range(20):
            loss = masked_loss(model, [bases, bases[:33]], [mask, mask[:33]])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.5 * losses[0]


def test_length_limit_is_that_of_the_config(tmp_path: Path) -> None:
    model = make(replace(UNET, max_length=50), tmp_path)
    assert model.embed(["A" * 50]).shape == (1, 8)
    with pytest.raises(SequenceTooLongError, match="window="):
        model.embed(["A" * 51])
