"""The tokenizer of OPT against golden ids and the Hugging Face implementation, with and without a prompt."""

import json
import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from fastgenome import _core, byte_level
from fastgenome.errors import CheckpointError, InputError
from fastgenome.tokenizers import Tokens, load_tokenizer

SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
DOMAIN = "DNA Promoter"


def rows(tokens: Tokens) -> list[list[int]]:
    return [part.tolist() for part in np.split(tokens.ids, tokens.offsets[1:-1])]


def prompted(text: str) -> str:
    return f"Domain: {DOMAIN}\nSequence: {text}\nAnnotation:"


@pytest.fixture(scope="module")
def folder(data_dir: Path) -> Path:
    return data_dir / "tokenizers" / "opt"


@pytest.fixture(scope="module")
def plain(folder):
    return load_tokenizer("opt", vocabulary=folder)


@pytest.fixture(scope="module")
def with_prompt(folder):
    return load_tokenizer("opt", vocabulary=folder, prompt=DOMAIN)


@pytest.fixture(scope="module")
def reference(folder):
    """The Hugging Face tokenizer, made from the files themselves; it puts nothing before a text."""
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.BPE.from_file(str(folder / "gpt2-vocab.json"), str(folder / "gpt2-merges.txt"))
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(["<pad>", "</s>"])
    return made


def expected_ids(reference, texts: list[str]) -> list[list[int]]:
    return [[2, *encoding.ids] for encoding in reference.encode_batch(texts)]


@pytest.fixture
def no_fallback(monkeypatch):
    def refuse(*_):
        raise AssertionError("the fallback was used")

    monkeypatch.setattr(byte_level.ByteLevelFile, "encode", refuse)


@pytest.mark.parametrize(("key", "prompt"), [("opt", None), ("opt_lingo_prompt", DOMAIN)])
def test_ids_equal_golden_ids(key, prompt, data_dir, folder):
    cases = json.loads((data_dir / "tokenizers" / "golden.json").read_text())
    assert len(cases) >= 9
    tokenize = load_tokenizer("opt", vocabulary=folder, prompt=prompt)
    assert rows(tokenize([case["seq"] for case in cases], clean=False)) == [case[key] for case in cases]


def test_ids_equal_published_tokenizer_on_odd_texts(parity_dir):
    folders = sorted(parity_dir.glob("opt_*"))
    assert folders
    for folder in folders:
        cases = json.loads((folder / "tokenization.json").read_text())["cases"]
        tokens = load_tokenizer("opt", vocabulary=folder)([case["sequence"] for case in cases], clean=False)
        assert rows(tokens) == [case["ids"] for case in cases]


@pytest.mark.parametrize("clean", [True, False])
def test_dna_equals_hugging_face_without_the_fallback(clean, plain, with_prompt, reference, request):
    rng = random.Random(7)
    letters = ["ACGT", "ACGT" * 20 + "N", "ACGTN", "AC", "A", "N"]
    texts = ["".join(rng.choices(letters[n % 6], k=n)) for n in range(301)]
    texts.append("".join(rng.choices("ACGT", k=20_000)))
    if not clean:
        texts += [text.lower() for text in texts[:100]]
    request.getfixturevalue("no_fallback")
    assert rows(plain(texts, clean=clean)) == expected_ids(reference, texts)
    whole = expected_ids(reference, [prompted(text) for text in texts])
    assert rows(with_prompt(texts, clean=clean)) == whole
    begin, end = with_prompt.prefix_length, with_prompt.suffix_length
    inner = rows(with_prompt(texts, clean=clean, special_tokens=False))
    assert inner == [row[begin : len(row) - end] for row in whole]


def test_any_text_equals_hugging_face_in_its_place(plain, with_prompt, reference):
    rng = random.Random(8)
    pieces = ["ACGT", "acgtA", "N", "R", " ", "  ", "\n", "\t", "　", ":", "'s", "12", "é", "日", "-", "</s>"]
    pieces += ["<pad>", "<s>", "<mask>", "\nAnnotation:", "Zq"]
    texts = ["".join(rng.choices(pieces, k=rng.randint(0, 6))) for _ in range(600)]
    texts += [letter + "ACGT" + letter for letter in map(chr, range(256))]
    assert rows(plain(texts, clean=False)) == expected_ids(reference, texts)
    whole = expected_ids(reference, [prompted(text) for text in texts])
    assert rows(with_prompt(texts, clean=False)) == whole
    begin, end = with_prompt.prefix_length, with_prompt.suffix_length
    tokens = with_prompt(texts, clean=False, special_tokens=False)
    assert rows(tokens) == [row[begin : len(row) - end] for row in whole]
    assert (tokens.ids.dtype, tokens.offsets.dtype) == (np.int32, np.int64)
    as_bytes = [text.encode() for text in texts]
    assert rows(with_prompt(as_bytes, clean=False)) == whole


@pytest.mark.parametrize("prompt", ["Enhancer ", "", "  3' UTR\n", "</s>é 日"])
def test_any_domain_equals_hugging_face(prompt, folder, reference):
    tokenize = load_tokenizer("opt", vocabulary=folder, prompt=prompt)
    texts = ["ACGTTGCAN", "", " A"]
    whole = [f"Domain: {prompt}\nSequence: {text}\nAnnotation:" for text in texts]
    assert rows(tokenize(texts, clean=False)) == expected_ids(reference, whole)


def test_ids_equal_transformers(folder, plain, tmp_path):
    transformers = pytest.importorskip("transformers")
    shutil.copy(folder / "gpt2-vocab.json", tmp_path / "vocab.json")
    shutil.copy(folder / "gpt2-merges.txt", tmp_path / "merges.txt")
    names = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    published = transformers.GPT2Tokenizer.from_pretrained(tmp_path, add_bos_token=True, **names)
    texts = ["ACGTNNACGTTGCA", "", "acgt ACGT\n", "<pad>A</s>", "<s>é"]
    ids = [published(text)["input_ids"] for text in texts]
    assert rows(plain(texts, clean=False)) == ids
    saved = tmp_path / "saved"
    published.save_pretrained(saved)
    (saved / "vocab.json").unlink(missing_ok=True)
    for source in (tmp_path, tmp_path / "vocab.json", saved, saved / "tokenizer.json"):
        assert rows(load_tokenizer("opt", vocabulary=source)(texts, clean=False)) == ids


@pytest.mark.parametrize("prompt", [None, DOMAIN])
def test_cleaning_makes_written_variants_of_a_sequence_equal(prompt, folder):
    tokenize = load_tokenizer("opt", vocabulary=folder, prompt=prompt)
    sequence = "ACGTTGCANNACGATCGATTACAGATTACAN"
    variants = [
        sequence,
        sequence.lower(),
        sequence.replace("T", "U"),
        sequence.replace("N", "r"),
        " ".join(sequence),
        sequence.encode(),
    ]
    first, *others = rows(tokenize(variants))
    assert all(other == first for other in others)
    assert first == tokenize([sequence], clean=False).ids.tolist()
    with pytest.raises(InputError, match=r"sequences\[1\] is not DNA: 'L' at position 1"):
        tokenize(["ACGT", "ALK"])
    for clean in (True, False):
        with pytest.raises(TypeError, match=r"sequences\[1\] is int"):
            tokenize(["ACGT", 3], clean=clean)
        empty = tokenize([], clean=clean)
        assert (empty.ids.tolist(), empty.offsets.tolist()) == ([], [0])


def test_dna_is_encoded_by_table(plain, with_prompt):
    for tokenize in (plain, with_prompt):
        assert isinstance(tokenize._encoder, _core.Bpe)
        assert tokenize._encoder.uses_table


@pytest.mark.parametrize("prompt", [None, DOMAIN])
def test_pickled_tokenizer_gives_the_same_ids(prompt, folder):
    tokenize = load_tokenizer("opt", vocabulary=folder, prompt=prompt)
    texts = ["ACGTACGTNACGT", "x y"]
    fresh = pickle.loads(pickle.dumps(tokenize))
    expected = rows(tokenize(texts, clean=False))
    used = pickle.loads(pickle.dumps(tokenize))
    for copy in (fresh, used):
        assert rows(copy(texts, clean=False)) == expected
        assert copy.prompt == prompt


def test_attributes_describe_the_layout(plain, with_prompt):
    assert plain.special_token_ids == {"pad": 1, "unk": 3, "mask": 50264, "bos": 2, "eos": 2}
    assert (plain.name, plain.vocabulary_size, plain.max_length) == ("opt", 50265, 2048)
    assert plain.bases_per_token is None
    assert (plain.prefix_length, plain.suffix_length) == (1, 0)
    assert (with_prompt.prefix_length, with_prompt.suffix_length) == (10, 4)


def write(folder: Path, change: dict[str, int], merges: str = "#version: 0.2\nA C\n") -> Path:
    tokens = [*"ACGTNacgtn", "Ġ", "AC"]
    vocabulary = SPECIAL | {token: 4 + number for number, token in enumerate(tokens)} | change
    (folder / "vocab.json").write_text(json.dumps({t: n for t, n in vocabulary.items() if n is not None}))
    (folder / "merges.txt").write_text(merges)
    return folder


def test_small_vocabulary_with_windows_line_ends(tmp_path):
    tokenize = load_tokenizer("opt", vocabulary=write(tmp_path, {}, "#version: 0.2\r\nA C\r\n"))
    assert rows(tokenize(["ACACA"])) == [[2, 15, 15, 4]]


def test_tokenizer_json_of_the_time_before_use_regex(tmp_path):
    vocabulary = json.loads((write(tmp_path, {}) / "vocab.json").read_text())
    content = {
        "model": {"type": "BPE", "vocab": vocabulary, "merges": ["A C"]},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenize = load_tokenizer("opt", vocabulary=tmp_path / "tokenizer.json")
    assert rows(tokenize(["ACACA"])) == [[2, 15, 15, 4]]


@pytest.mark.parametrize(
    ("change", "merges", "message"),
    [
        ({"</s>": 50256}, "A C\n", "not the ids of OPT"),
        ({"</s>": None}, "A C\n", "GPT-2's own"),
        ({"Ġ": None}, "A C\n", "'Ġ'"),
        ({}, "A G\n", "'AG'"),
        ({}, "A C G\n", "two tokens"),
        ({"A": -4}, "A C\n", "expected 0"),
    ],
)
def test_files_that_would_give_other_ids_are_refused(change, merges, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        load_tokenizer("opt", vocabulary=write(tmp_path, change, merges))


def test_missing_and_unsupported_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no file .*vocab\.json"):
        load_tokenizer("opt", vocabulary=tmp_path)
    (write(tmp_path, {}) / "merges.txt").unlink()
    with pytest.raises(CheckpointError, match=r"no file .*merges\.txt"):
        load_tokenizer("opt", vocabulary=tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    (tmp_path / "vocab.json").unlink()
    model = {"type": "BPE", "vocab": vocabulary, "merges": ["A C"]}
    byte_level_pieces = {"type": "ByteLevel", "add_prefix_space": False}
    for change, message in [
        ({"model": model | {"dropout": 0.1}, "pre_tokenizer": byte_level_pieces}, "dropout"),
        ({"model": model, "pre_tokenizer": {"type": "Whitespace"}}, "not a usable|pre_tokenizer"),
        ({"model": model, "pre_tokenizer": byte_level_pieces | {"add_prefix_space": True}}, "pre_tokenizer"),
        ({"model": model, "pre_tokenizer": byte_level_pieces | {"use_regex": False}}, "pre_tokenizer"),
        ({"model": model, "pre_tokenizer": None}, "not a usable"),
        ({"pre_tokenizer": byte_level_pieces}, "not a usable"),
    ]:
        (tmp_path / "tokenizer.json").write_text(json.dumps(change))
        with pytest.raises(CheckpointError, match=message):
            load_tokenizer("opt", vocabulary=tmp_path)
