"""Vocabulary files that are damaged in their meaning: each is a CheckpointError, and quickly."""

import json
import time

import pytest

from fastgenome.errors import CheckpointError
from fastgenome.tokenizers import load_tokenizer

BYTE_LEVEL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", *"ACGTNacgtn", "Ġ", "AC"]


def bpe_file(**changes) -> dict:
    model = {"type": "BPE", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "A": 1, "AA": 2}, "merges": ["A A"]}
    content = {"model": model, "pre_tokenizer": {"type": "Whitespace"}}
    for key, value in changes.items():
        (content if key in ("added_tokens", "post_processor") else model)[key] = value
    return content


def byte_level_file(**changes) -> dict:
    vocabulary = {token: number for number, token in enumerate(BYTE_LEVEL_TOKENS)}
    model = {"type": "BPE", "vocab": vocabulary, "merges": [["A", "C"]]}
    content = {"model": model, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}}
    for key, value in changes.items():
        (content if key == "added_tokens" else model)[key] = value
    return content


def template(ids) -> dict:
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}}],
        "special_tokens": {"[CLS]": {"ids": ids}},
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"added_tokens": [{"id": 3, "content": "[MASK]"}]},
        {"post_processor": template([0])},
        {"merges": [["A", "A"]]},
    ],
    ids=str,
)
def test_sound_tokenizer_json_is_read(changes, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(bpe_file(**changes)))
    assert load_tokenizer("dnabert2", vocabulary=tmp_path)(["AAA"], special_tokens=False).ids.tolist() == [
        2,
        1,
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"unk_token": ["[UNK]"]},
        {"unk_token": {}},
        {"vocab": {"[UNK]": 0, "A": True, "AA": 2}},
        {"vocab": {"[UNK]": 0, "A": 1, "AA": 2, "\ud800": 3}},
        {"merges": [[["A"], "A"]]},
        {"merges": [[1, 2]]},
        {"merges": [["\ud800", "A"]]},
        {"added_tokens": [{"id": 2**40, "content": "[MASK]"}]},
        {"added_tokens": [{"id": -4, "content": "[MASK]"}]},
        {"added_tokens": [{"id": float("inf"), "content": "[MASK]"}]},
        {"added_tokens": [{"id": 3, "content": 5}]},
        {"added_tokens": [{"id": 3, "content": "\ud800"}]},
        {"post_processor": template(["x"])},
        {"post_processor": template([1.5])},
        {"post_processor": template([2**70])},
        {"post_processor": template([-1])},
    ],
    ids=str,
)
def test_tokenizer_json_with_a_wrong_part_is_refused(changes, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(bpe_file(**changes)))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_tokenizer("dnabert2", vocabulary=tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"merges": [["A", ["C"]]]},
        {"added_tokens": [{"id": 2**40, "content": "<x>"}]},
        {"added_tokens": [{"id": 20, "content": None}]},
    ],
    ids=str,
)
def test_byte_level_file_with_a_wrong_part_is_refused(changes, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(byte_level_file()))
    load_tokenizer("opt", vocabulary=tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(byte_level_file(**changes)))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_tokenizer("opt", vocabulary=tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, f'{{"model": {"9" * 5000}}}'], ids=len)
def test_json_too_deep_or_with_endless_numbers_is_refused(text, tmp_path):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match="not a JSON file"):
        load_tokenizer("dnabert2", vocabulary=tmp_path)


@pytest.mark.parametrize(
    ("name", "special"), [("nt-v2", "<unk>\n<cls>"), ("specieslm", "[UNK]\ncandida_glabrata")]
)
@pytest.mark.parametrize("length", [0, 9, 3000])
def test_vocabulary_of_impossible_kmers_is_refused_at_once(name, special, length, tmp_path):
    (tmp_path / "vocab.txt").write_text(f"{special}\n{'A' * length}x\n{'A' * length}\n")
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=f"{length} letters, expected 1 to 8"):
        load_tokenizer(name, vocabulary=tmp_path)
    assert time.monotonic() - start < 5
