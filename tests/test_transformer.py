"""The packed encoder against transformers' own models, the published DNABERT-2 code and itself alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastgenome.errors import ArgumentError
from fastgenome.kernels import reference
from fastgenome.models.attention import alibi_slopes, interleave_rotary, packed_attention
from fastgenome.models.encoder import packing_of
from fastgenome.models.heads import MaskedLanguageHead
from fastgenome.models.transformer import Transformer, TransformerConfig, cast_products

LENGTHS = (7, 1, 23, 23, 40, 2, 23)
DIM, HEADS, FFN, VOCABULARY = 48, 4, 96, 50


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def offsets_of(lengths: tuple[int, ...]) -> Tensor:
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int64)


def fill(encoder: Transformer, weights: dict[str, Tensor]) -> Transformer:
    """Encoder with exactly these weights."""
    encoder.load_state_dict({name: weight.clone() for name, weight in weights.items()}, strict=True)
    return encoder.eval()


def fused(parts: list[Tensor], *, rotary: bool) -> Tensor:
    """Query, key and value weights or biases as one, pairs reordered where positions are rotary."""
    query, key, value = parts
    if rotary:
        query, key = interleave_rotary(query, HEADS), interleave_rotary(key, HEADS)
    return torch.cat([query, key, value])


def copy_layer(
    source: dict[str, Tensor], names: dict[str, str], index: int, *, rotary: bool, bias: bool
) -> dict[str, Tensor]:
    """One layer's weights under our names; `names` maps ours to theirs, "qkv" to three names."""
    target = {}
    for ours, theirs in names.items():
        for kind in ("weight", "bias") if bias else ("weight",):
            parts = [
                source[f"{name.format(index)}.{kind}"]
                for name in theirs.split()
                if f"{name.format(index)}.{kind}" in source
            ]
            if not parts:
                continue
            if ours == "qkv":
                parts = [fused(parts, rotary=rotary)]
            target[f"layers.{index}.{ours}.{kind}"] = torch.cat(parts)
    return target


def randomise(model: nn.Module) -> dict[str, Tensor]:
    """Give every parameter, norms and biases included, a value that shows in the output."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval().state_dict()


def bert() -> tuple[nn.Module, Transformer]:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=DIM, num_hidden_layers=3, num_attention_heads=HEADS,
        intermediate_size=FFN, max_position_embeddings=64, layer_norm_eps=1e-12,
    )  # fmt: skip
    peer = BertModel(config, add_pooling_layer=False)
    state = randomise(peer)
    ours = TransformerConfig(
        VOCABULARY, DIM, 3, HEADS, FFN, positions="learned", max_positions=64, norm="post", norm_eps=1e-12,
        embedding_norm=True, token_types=2,
    )  # fmt: skip
    weights = {
        "stem.embedding.weight": state["embeddings.word_embeddings.weight"],
        "position_embeddings.weight": state["embeddings.position_embeddings.weight"],
        "token_type_embeddings.weight": state["embeddings.token_type_embeddings.weight"],
        "embedding_norm.weight": state["embeddings.LayerNorm.weight"],
        "embedding_norm.bias": state["embeddings.LayerNorm.bias"],
    }
    stem = "encoder.layer.{}."
    names = {
        "qkv": " ".join(f"{stem}attention.self.{part}" for part in ("query", "key", "value")),
        "output": stem + "attention.output.dense",
        "attention_norm": stem + "attention.output.LayerNorm",
        "up": stem + "intermediate.dense",
        "down": stem + "output.dense",
        "ffn_norm": stem + "output.LayerNorm",
    }
    for index in range(3):
        weights |= copy_layer(state, names, index, rotary=False, bias=True)
    return peer, fill(Transformer(ours), weights)


def esm() -> tuple[nn.Module, Transformer]:
    from transformers import EsmConfig, EsmModel

    config = EsmConfig(
        vocab_size=VOCABULARY, hidden_size=DIM, num_hidden_layers=3, num_attention_heads=HEADS,
        intermediate_size=FFN, max_position_embeddings=64, layer_norm_eps=1e-5, pad_token_id=1,
        mask_token_id=2, position_embedding_type="rotary", token_dropout=False, emb_layer_norm_before=False,
    )  # fmt: skip
    peer = EsmModel(config, add_pooling_layer=False)
    state = randomise(peer)
    ours = TransformerConfig(VOCABULARY, DIM, 3, HEADS, FFN, positions="rotary", final_norm=True)
    weights = {
        "stem.embedding.weight": state["embeddings.word_embeddings.weight"],
        "final_norm.weight": state["encoder.emb_layer_norm_after.weight"],
        "final_norm.bias": state["encoder.emb_layer_norm_after.bias"],
    }
    stem = "encoder.layer.{}."
    names = {
        "qkv": " ".join(f"{stem}attention.self.{part}" for part in ("query", "key", "value")),
        "output": stem + "attention.output.dense",
        "attention_norm": stem + "attention.LayerNorm",
        "up": stem + "intermediate.dense",
        "down": stem + "output.dense",
        "ffn_norm": stem + "LayerNorm",
    }
    for index in range(3):
        weights |= copy_layer(state, names, index, rotary=True, bias=True)
    return peer, fill(Transformer(ours), weights)


def opt() -> tuple[nn.Module, Transformer]:
    from transformers import OPTConfig, OPTModel

    config = OPTConfig(
        vocab_size=VOCABULARY, hidden_size=DIM, num_hidden_layers=3, num_attention_heads=HEADS, ffn_dim=FFN,
        max_position_embeddings=64, word_embed_proj_dim=DIM, do_layer_norm_before=True,
    )  # fmt: skip
    peer = OPTModel(config)
    state = randomise(peer)
    ours = TransformerConfig(
        VOCABULARY, DIM, 3, HEADS, FFN, positions="learned", max_positions=64, position_offset=2,
        activation="relu", causal=True, final_norm=True,
    )  # fmt: skip
    weights = {
        "stem.embedding.weight": state["decoder.embed_tokens.weight"],
        "position_embeddings.weight": state["decoder.embed_positions.weight"],
        "final_norm.weight": state["decoder.final_layer_norm.weight"],
        "final_norm.bias": state["decoder.final_layer_norm.bias"],
    }
    stem = "decoder.layers.{}."
    names = {
        "qkv": " ".join(f"{stem}self_attn.{part}_proj" for part in "qkv"),
        "output": stem + "self_attn.out_proj",
        "attention_norm": stem + "self_attn_layer_norm",
        "up": stem + "fc1",
        "down": stem + "fc2",
        "ffn_norm": stem + "final_layer_norm",
    }
    for index in range(3):
        weights |= copy_layer(state, names, index, rotary=False, bias=True)
    return peer, fill(Transformer(ours), weights)


def llama() -> tuple[nn.Module, Transformer]:
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=DIM, num_hidden_layers=3, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, intermediate_size=FFN, max_position_embeddings=64, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )  # fmt: skip
    peer = LlamaModel(config)
    state = randomise(peer)
    ours = TransformerConfig(
        VOCABULARY, DIM, 3, HEADS, FFN, positions="rotary", rotary_base=500.0, norm_type="rms", norm_eps=1e-6,
        activation="swiglu", causal=True, final_norm=True, qkv_bias=False, output_bias=False, up_bias=False,
        down_bias=False,
    )  # fmt: skip
    weights = {
        "stem.embedding.weight": state["embed_tokens.weight"],
        "final_norm.weight": state["norm.weight"],
    }
    stem = "layers.{}."
    names = {
        "qkv": " ".join(f"{stem}self_attn.{part}_proj" for part in "qkv"),
        "output": stem + "self_attn.o_proj",
        "attention_norm": stem + "input_layernorm",
        "up": f"{stem}mlp.gate_proj {stem}mlp.up_proj",
        "down": stem + "mlp.down_proj",
        "ffn_norm": stem + "post_attention_layernorm",
    }
    for index in range(3):
        weights |= copy_layer(state, names, index, rotary=True, bias=False)
    return peer, fill(Transformer(ours), weights)


@pytest.mark.parametrize("make", [bert, esm, opt, llama])
@torch.no_grad()
def test_transformer_equals_transformers_on_every_layer(
    make: Callable[[], tuple[nn.Module, Transformer]],
) -> None:
    peer, encoder = make()
    offsets = offsets_of(LENGTHS)
    ids = torch.randint(5, VOCABULARY, (int(offsets[-1]),), dtype=torch.int32)
    states, row_offsets, _ = encoder(ids, offsets, range(len(encoder.widths)))
    assert torch.equal(row_offsets, offsets)
    for start, end in pairwise(offsets.tolist()):
        alone = peer(input_ids=ids[start:end].long()[None], output_hidden_states=True).hidden_states
        assert len(alone) == len(states) == len(encoder.widths)
        for expected, ours in zip(alone, states, strict=True):
            scale = max(1.0, expected.abs().max().item())
            torch.testing.assert_close(ours[start:end], expected[0], rtol=0, atol=1e-5 * scale)


def dnabert2(folder: Path) -> tuple[Transformer, nn.Module | None]:
    """Encoder, and head where there is one, with the weights of a DNABERT-2 or DNABERT-S checkpoint."""
    from safetensors.torch import load_file

    shape = json.loads((folder / "config.json").read_text())
    state = {name.removeprefix("bert."): w for name, w in load_file(folder / "model.safetensors").items()}
    layers, dim = shape["num_hidden_layers"], shape["hidden_size"]
    config = TransformerConfig(
        shape["vocab_size"], dim, layers, shape["num_attention_heads"], shape["intermediate_size"],
        positions="alibi", norm="post", norm_eps=1e-12, activation="geglu", up_bias=False,
        embedding_norm=True, token_types=2,
    )  # fmt: skip
    weights = {
        "stem.embedding.weight": state["embeddings.word_embeddings.weight"],
        "token_type_embeddings.weight": state["embeddings.token_type_embeddings.weight"],
        "embedding_norm.weight": state["embeddings.LayerNorm.weight"],
        "embedding_norm.bias": state["embeddings.LayerNorm.bias"],
    }
    stem = "encoder.layer.{}."
    names = {
        "qkv": stem + "attention.self.Wqkv",
        "output": stem + "attention.output.dense",
        "attention_norm": stem + "attention.output.LayerNorm",
        "up": stem + "mlp.gated_layers",
        "down": stem + "mlp.wo",
        "ffn_norm": stem + "mlp.layernorm",
    }
    for index in range(layers):
        for ours, theirs in names.items():
            for kind in ("weight", "bias"):
                if (name := f"{theirs.format(index)}.{kind}") in state:
                    weights[f"layers.{index}.{ours}.{kind}"] = state[name]
    encoder = fill(Transformer(config), weights)
    if "cls.predictions.decoder.bias" not in state:
        return encoder, None
    head = MaskedLanguageHead(dim, shape["vocab_size"], eps=1e-12)
    names = {"dense": "transform.dense", "norm": "transform.LayerNorm", "decoder": "decoder"}
    tied = state | {"cls.predictions.decoder.weight": state["embeddings.word_embeddings.weight"]}
    head.load_state_dict(
        {
            f"{ours}.{kind}": tied[f"cls.predictions.{theirs}.{kind}"]
            for ours, theirs in names.items()
            for kind in ("weight", "bias")
        }
    )
    return encoder, head


@pytest.mark.parametrize("fixture", ["dnabert2_1", "dnabert2_2"])
@torch.no_grad()
def test_transformer_equals_published_dnabert2(fixture: str, parity_dir: Path) -> None:
    from safetensors.torch import load_file

    folder = parity_dir / fixture
    encoder, head = dnabert2(folder)
    expected = load_file(folder / "expected.safetensors")
    tolerance = json.loads((folder / "meta.json").read_text())["tolerance"]
    inputs = json.loads((folder / "inputs.json").read_text())
    for case in inputs["inputs"]:
        ids = torch.tensor(case["input_ids"], dtype=torch.int32)
        mask = torch.tensor(case["attention_mask"] or torch.ones_like(ids).tolist(), dtype=torch.bool)
        types = torch.tensor(case["token_type_ids"])[mask] if case.get("token_type_ids") else None
        offsets = offsets_of(tuple(mask.sum(1).tolist()))
        states, _, _ = encoder(ids[mask], offsets, range(len(encoder.widths)), types)
        checks = {"last_hidden_state": (states[-1], mask)}
        if head is not None:
            checks["logits"] = (head(states[-1]), mask)
        if case["name"] == inputs["hidden_states_input"]:
            checks |= {f"hidden_states.{layer}": (state, mask) for layer, state in enumerate(states)}
        compared = 0
        for name, (ours, rows) in checks.items():
            if (key := f"{case['name']}.{name}") in expected:
                bound = tolerance[name.split(".")[0]]["recommended_atol"]
                torch.testing.assert_close(ours, expected[key][rows], rtol=0, atol=bound, msg=key)
                compared += 1
        assert compared


CONFIGS = {
    "rotary": TransformerConfig(VOCABULARY, DIM, 2, HEADS, FFN, final_norm=True),
    "alibi": TransformerConfig(VOCABULARY, DIM, 2, HEADS, FFN, positions="alibi", activation="geglu"),
    "causal": TransformerConfig(VOCABULARY, DIM, 2, HEADS, FFN, positions="none", causal=True),
    "strided": TransformerConfig(
        5, DIM, 2, HEADS, FFN, stem_stride=5, stem_k=3, stem_window=12, embedding_norm=True
    ),
}


def random_ids(encoder: Transformer, count: int) -> Tensor:
    return torch.randint(0, encoder.config.vocabulary_size, (count,), dtype=torch.int32)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_transformer_ignores_company_and_order(name: str) -> None:
    encoder = Transformer(CONFIGS[name]).eval()
    rng = np.random.default_rng(1)
    sequences = [random_ids(encoder, n) for n in rng.integers(1, 120, size=40)]
    alone = [encoder(s, offsets_of((len(s),))).states[0] for s in sequences]
    for _ in range(10):
        chosen = rng.permutation(40)[: rng.integers(1, 41)]
        offsets = offsets_of(tuple(len(sequences[i]) for i in chosen))
        (states,), rows, _ = encoder(torch.cat([sequences[i] for i in chosen]), offsets)
        for place, index in enumerate(chosen):
            torch.testing.assert_close(states[rows[place] : rows[place + 1]], alone[index], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_transformer_accepts_empty_sequences_and_batches(name: str) -> None:
    encoder = Transformer(CONFIGS[name]).eval()
    ids = random_ids(encoder, 9)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            (whole,), *_ = encoder(ids, offsets_of((9,)))
            (beside,), offsets, _ = encoder(ids, offsets_of((0, 9, 0)))
            torch.testing.assert_close(beside, whole)
            assert offsets.tolist() == [0, 0, len(whole), len(whole)]
            assert encoder(ids[:0], offsets_of((0,))).states[0].shape == (0, DIM)
            assert encoder(ids[:0], offsets_of(())).states[0].shape == (0, DIM)


@torch.no_grad()
def test_transformer_causal_states_ignore_what_follows() -> None:
    encoder = Transformer(CONFIGS["causal"]).eval()
    ids = random_ids(encoder, 30)
    whole = encoder(ids, offsets_of((30,))).states[0]
    torch.testing.assert_close(encoder(ids[:11], offsets_of((11,))).states[0], whole[:11])


def test_transformer_stem_sums_the_bases_around_and_the_kmers_within() -> None:
    encoder = Transformer(CONFIGS["strided"])
    lengths = (13, 1, 0, 10, 4, 2)
    ids = random_ids(encoder, sum(lengths))
    ids[15:17] = 4
    places, kmers = encoder.stem.places.weight.unflatten(0, (12, 5)), encoder.stem.kmers.weight
    expected, start = [], 0
    for length in lengths:
        bases = dict(enumerate(ids[start : start + length].tolist()))
        for first in range(0, length, 5):
            row = sum(places[j, bases.get(first - 3 + j, 4)] for j in range(12))
            for base in range(first, first + 5):
                word = [bases.get(base + step, 4) for step in range(3)]
                if 4 not in word:
                    row = row + kmers[16 * word[0] + 4 * word[1] + word[2]]
            expected.append(row)
        start += length
    rows, offsets = encoder.stem(ids, offsets_of(lengths))
    assert offsets.tolist() == [0, 3, 4, 4, 6, 7, 8]
    torch.testing.assert_close(rows, torch.stack(expected))
    with torch.inference_mode():
        torch.testing.assert_close(encoder.stem(ids, offsets_of(lengths))[0], torch.stack(expected))
    rows.pow(2).sum().backward()
    # The row of unknown k-mers stays zero in training.
    assert encoder.stem.kmers.weight.grad[:-1].abs().sum() > 0
    assert encoder.stem.kmers.weight.grad[-1].abs().sum() == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_transformer_gradients_equal_those_of_sequences_alone(name: str) -> None:
    # Values of its own, so that no earlier test has filled the caches of rotations and biases.
    encoder = Transformer(replace(CONFIGS[name], heads=3, rotary_base=77.0))
    lengths = (12, 12, 5, 31, 12)
    offsets = offsets_of(lengths)
    ids = random_ids(encoder, sum(lengths))

    def gradients(parts: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        encoder.zero_grad()
        sum(encoder(i, o).states[0].pow(3).sum() for i, o in parts).backward()
        return {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}

    # Used in inference first: what is cached then must not break training.
    with torch.inference_mode():
        encoder(ids, offsets)
    packed = gradients([(ids, offsets)])
    single = gradients([(ids[a:b], offsets_of((b - a,))) for a, b in pairwise(offsets)])
    assert packed.keys() == single.keys()
    assert {"layers.0.qkv.weight", "layers.1.down.weight"} <= packed.keys()
    assert any(name.startswith("stem.") for name in packed)
    for key, gradient in packed.items():
        scale = single[key].abs().max().item()
        torch.testing.assert_close(gradient, single[key], rtol=0, atol=1e-4 * scale + 1e-6)


@pytest.mark.parametrize("causal", [False, True], ids=["both-sides", "causal"])
@pytest.mark.parametrize("alibi", [False, True], ids=["plain", "alibi"])
@pytest.mark.parametrize("heads", [1, 6, 12])
def test_packed_attention_equals_its_definition(heads: int, alibi: bool, causal: bool) -> None:
    offsets = offsets_of((1, 17, 17, 60, 3))
    tensors = [torch.randn(98, heads, 8, requires_grad=True) for _ in range(3)]
    packing = packing_of(offsets, torch.device("cpu"))
    ours = packed_attention(*tensors, packing, causal=causal, alibi=alibi)
    slopes = alibi_slopes(heads) if alibi else None
    truth = reference.packed_attention(*tensors, offsets, causal=causal, slopes=slopes).flatten(1)
    torch.testing.assert_close(ours, truth, rtol=0, atol=2e-6)
    weight = torch.randn_like(truth)
    found = torch.autograd.grad((ours * weight).sum(), tensors)
    expected = torch.autograd.grad((truth * weight).sum(), tensors)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_alibi_slopes_follow_the_published_series() -> None:
    assert alibi_slopes(8).tolist() == pytest.approx([2.0**-i for i in range(1, 9)])
    expected = [2.0**-i for i in range(1, 9)] + [2.0**-e for e in (0.5, 1.5, 2.5, 3.5)]
    assert alibi_slopes(12).tolist() == pytest.approx(expected)


@torch.no_grad()
def test_transformer_bfloat16_products_stay_close_to_float32() -> None:
    encoder = Transformer(CONFIGS["rotary"]).eval()
    offsets = offsets_of((90, 33))
    ids = random_ids(encoder, 123)
    exact = encoder(ids, offsets).states[0]
    cast_products(encoder, torch.bfloat16)
    assert encoder.layers[0].qkv.weight.dtype == torch.bfloat16
    assert encoder.layers[0].ffn_norm.weight.dtype == encoder.stem.embedding.weight.dtype == torch.float32
    rounded = encoder(ids, offsets).states[0]
    assert rounded.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(rounded, exact).min() > 0.999


@torch.no_grad()
def test_transformer_runs_no_layer_above_the_highest_wanted() -> None:
    encoder = Transformer(CONFIGS["rotary"]).eval()
    ids = random_ids(encoder, 20)
    every = encoder(ids, offsets_of((20,)), (0, 1, 2)).states
    ran = []
    encoder.layers[1].register_forward_hook(lambda *_: ran.append(1))
    some = encoder(ids, offsets_of((20,)), (1, 0, -2)).states
    assert not ran
    for layer, state in zip((1, 0, 1), some, strict=True):
        torch.testing.assert_close(state, every[layer])


@pytest.mark.parametrize(
    "change",
    [
        {"heads": 5, "positions": "none"}, {"heads": 16}, {"positions": "absolute"}, {"activation": "silu"},
        {"positions": "learned"}, {"norm": "sandwich"},
        {"causal": "no"}, {"dim": True}, {"norm_eps": "1e-5"}, {"layers": -1}, {"stem_stride": 0},
        {"stem_stride": 6}, {"stem_stride": 6, "vocabulary_size": 5, "stem_window": 14},
        {"stem_stride": 6, "vocabulary_size": 5, "stem_k": 9},
    ],
    ids=str,
)  # fmt: skip
def test_transformer_config_refuses_what_cannot_work(change: dict[str, object]) -> None:
    values = {"vocabulary_size": 10, "dim": 48, "layers": 1, "heads": 4, "ffn_dim": 8}
    with pytest.raises(ArgumentError):
        TransformerConfig(**(values | change))  # type: ignore[arg-type]


def test_transformer_refuses_unknown_layers_and_too_many_positions() -> None:
    config = TransformerConfig(10, 8, 1, 2, 8, positions="learned", max_positions=4)
    encoder = Transformer(config)
    ids = torch.zeros(5, dtype=torch.int32)
    with pytest.raises(ArgumentError, match="layer must lie in -2 … 1"):
        encoder(ids, offsets_of((5,)), (2,))
    with pytest.raises(ArgumentError, match="5 tokens, the position table ends at 4"):
        encoder(ids, offsets_of((5,)))


def test_positions_do_not_count_pad_ids() -> None:
    config = TransformerConfig(
        20, DIM, 1, HEADS, FFN, positions="learned", max_positions=9, position_offset=2, pad_id=1
    )
    encoder = Transformer(config).eval()
    # Sequences of 5, 2 and 3 ids.
    ids = torch.tensor([1, 5, 1, 6, 7, 5, 6, 5, 1, 1])
    positions = torch.tensor([1, 2, 1, 3, 4, 2, 3, 2, 1, 1])
    states = encoder(ids, offsets_of((5, 2, 3)), (0,)).states[0]
    expected = encoder.stem.embedding.weight[ids] + encoder.position_embeddings.weight[positions]
    torch.testing.assert_close(states, expected)
