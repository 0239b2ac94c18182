"""Tokenizers against golden ids, the Hugging Face implementations and written-out definitions."""

import json
import os
import pickle
import random
import string
from pathlib import Path

import numpy as np
import pytest

from fastgenome import _core
from fastgenome.errors import ArgumentError, CheckpointError, InputError, ModelError
from fastgenome.tokenizers import TOKENIZERS, KmerTokenizer, Tokens, load_tokenizer

# Key in golden.json → our tokenizer, and whether the golden ids hold special tokens.
GOLDEN = {
    "nt_v1": ("nt-v1", True),
    "nt_v2": ("nt-v2", True),
    "dnabert3": ("dnabert-3", True),
    "dnabert6": ("dnabert-6", True),
    "dnabert2": ("dnabert2", True),
    "hyena_raw": ("hyenadna", False),
    "hyena_standalone_cls_sep": ("hyenadna", True),
    "hyena_train_sep": ("hyenadna-train", True),
}
# Folder of parity fixtures without its number → our tokenizer, and whether it reads the folder's vocabulary.
PARITY = {
    "caduceus": ("caduceus", False),
    "dnabert": ("dnabert-6", True),
    "dnabert2": ("dnabert2", True),
    "hyenadna": ("hyenadna-train", False),
    "nt_v1": ("nt-v1", True),
    "nt_v2": ("nt-v2", True),
    "specieslm": ("specieslm", True),
}


def rows(tokens: Tokens) -> list[list[int]]:
    return [part.tolist() for part in np.split(tokens.ids, tokens.offsets[1:-1])]


def random_text(rng: random.Random, letters: str, most: int) -> str:
    return "".join(rng.choices(letters, k=rng.randint(0, most)))


def written_out_kmers(text: str, k: int, stride: int, vocabulary: dict[str, int]) -> list[int]:
    return [vocabulary.get(text[i : i + k], 1) for i in range(0, len(text) - k + 1, stride)]


@pytest.fixture(scope="module")
def dnabert2_file(data_dir: Path) -> Path:
    return data_dir / "tokenizers" / "dnabert2" / "tokenizer.json"


@pytest.mark.parametrize("key", GOLDEN)
def test_ids_equal_golden_ids(key, data_dir, dnabert2_file):
    name, special_tokens = GOLDEN[key]
    tokenize = load_tokenizer(name, vocabulary=dnabert2_file if name == "dnabert2" else None)
    cases = json.loads((data_dir / "tokenizers" / "golden.json").read_text())
    # Nucleotide Transformer's own tokenizer refuses lower case, where ours gives unknown.
    cases = [case for case in cases if not isinstance(case[key], str)]
    assert len(cases) >= 8
    tokens = tokenize([case["seq"] for case in cases], clean=False, special_tokens=special_tokens)
    assert rows(tokens) == [case[key] for case in cases]


@pytest.mark.parametrize("family", PARITY)
def test_ids_equal_published_tokenizer_on_odd_texts(family, parity_dir):
    name, has_vocabulary = PARITY[family]
    folders = [path for path in parity_dir.iterdir() if path.name.rstrip("0123456789") == f"{family}_"]
    assert folders
    for folder in folders:
        for case in json.loads((folder / "tokenization.json").read_text())["cases"]:
            options = {"species": case["species"]} if "species" in case else {}
            tokenize = load_tokenizer(name, vocabulary=folder if has_vocabulary else None, **options)
            special_tokens = case.get("add_special_tokens", True)
            tokens = tokenize([case["sequence"]], clean=False, special_tokens=special_tokens)
            ids, expected = tokens.ids, np.array(case["ids"])
            if "mask" not in case["sequence"].lower():
                # Some fixtures masked k-mers after tokenization.
                ids = np.where(expected == tokenize.special_token_ids["mask"], expected, ids)
            assert ids.tolist() == expected.tolist(), (folder.name, case["sequence"])


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_generated_kmer_vocabulary_equals_published_file(k, data_dir):
    published = load_tokenizer(
        f"dnabert-{k}", vocabulary=data_dir / "tokenizers" / "dnabert" / f"vocab_{k}.txt"
    )
    assert load_tokenizer(f"dnabert-{k}").vocabulary == published.vocabulary


@pytest.mark.parametrize("name", ["nt-v2", "nt-v2-3mer"])
def test_block_kmers_equal_transformers_esm_tokenizer(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenize = load_tokenizer(name)
    (tmp_path / "vocab.txt").write_text("\n".join(tokenize.vocabulary))
    reference = transformers.EsmTokenizer(str(tmp_path / "vocab.txt"))
    rng = random.Random(5)
    pieces = ["ACGTAC", "<mask>", "<mas", "<pad>", "N", "A", " ", "\t", "<eos>", "x", "RY", "é", "日", "　"]
    texts = [
        random_text(rng, letters, 80) for letters in ("ACGT", "ACGTACGTN", "ACGTNacRé\x1c\t\n日　-_.<>") * 100
    ]
    texts += ["".join(rng.choices(pieces, k=8)) for _ in range(200)]
    expected = [reference(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert rows(tokenize(texts, clean=False, special_tokens=False)) == expected


@pytest.mark.parametrize("k", range(1, 9))
def test_sliding_kmers_equal_definition_at_every_length_and_stride(k):
    rng = random.Random(k)
    for stride in (1, 2, 3, k, k + 1, 2 * k + 1):
        tokenize = KmerTokenizer(k, stride)
        texts = [
            "".join(rng.choices("ACGTNa", weights=[9, 9, 9, 9, 1, 1], k=n))
            for n in (*range(4 * k), 1030, 2077)
        ]
        expected = [written_out_kmers(text, k, stride, tokenize.vocabulary) for text in texts]
        assert rows(tokenize(texts, clean=False, special_tokens=False)) == expected


@pytest.mark.parametrize("name", ["dnabert-6", "nt-v2", "hyenadna"])
def test_characters_outside_the_vocabulary_are_unknown_for_all_256_bytes(name):
    tokenize = load_tokenizer(name)
    unknown = tokenize.special_token_ids["unk"]
    known = set("ACGT") if name == "dnabert-6" else set("ACGTN")
    for byte in range(256):
        text = "A" * 6 + chr(byte) + "C" * 6
        ids = tokenize([text], clean=False, special_tokens=False).ids
        is_white = name == "nt-v2" and chr(byte).isspace()
        assert (unknown in ids) == (chr(byte) not in known and not is_white), byte


def test_vocabulary_order_comes_from_the_file(tmp_path):
    published = load_tokenizer("dnabert-3")
    tokens = [*list(published.vocabulary)[:5], *sorted(list(published.vocabulary)[5:])]
    (tmp_path / "vocab.txt").write_text("\r\n".join(tokens) + "\r\n")
    shuffled = load_tokenizer("dnabert-3", vocabulary=tmp_path)
    text = "ACGTTGCANNGATTACA"
    vocabulary = {token: number for number, token in enumerate(tokens)}
    assert rows(shuffled([text], special_tokens=False)) == [written_out_kmers(text, 3, 1, vocabulary)]


def test_species_token_follows_cls_and_must_be_known(parity_dir):
    folder = parity_dir / "specieslm_1"
    tokenize = load_tokenizer("specieslm", vocabulary=folder)
    assert tokenize(["ACGTAC"]).ids[:2].tolist() == [2, tokenize.vocabulary["candida_glabrata"]]
    assert (tokenize.prefix_length, tokenize.suffix_length) == (2, 1)
    with pytest.raises(ArgumentError, match="homo_sapiens"):
        load_tokenizer("specieslm", vocabulary=folder, species="homo_sapiens")


def random_merges(rng: random.Random, letters: str, size: int, kind: str) -> list[tuple[str, str]]:
    """Merges over growing tokens: proper, with several ways to one token, or with ranks in any order."""
    tokens, merges = list(letters), []
    for _ in range(20 * size):
        left, right = rng.choice(tokens), rng.choice(tokens)
        is_repeated = (left, right) in merges or (kind != "repeated" and left + right in tokens)
        if len(merges) == size or is_repeated or len(left + right) > 14:
            continue
        merges.append((left, right))
        tokens.append(left + right)
    if kind == "shuffled":
        rng.shuffle(merges)
    return merges


def hugging_face_bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]]):
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.BPE(vocab=vocabulary, merges=merges, unk_token="[UNK]")
    reference = tokenizers.Tokenizer(model)
    reference.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return reference


@pytest.mark.parametrize("kind", ["proper", "repeated", "shuffled"])
@pytest.mark.parametrize("seed", range(40))
def test_bpe_equals_hugging_face_on_random_merges(seed, kind):
    rng = random.Random(seed)
    letters = rng.choice(["A", "AC", "ACGT", "ACGTN"])
    merges = random_merges(rng, letters, rng.choice([1, 5, 20, 100]), kind)
    tokens = list(dict.fromkeys([*letters, *(left + right for left, right in merges)]))
    rng.shuffle(tokens)
    vocabulary = {token: number for number, token in enumerate(["[UNK]", *tokens])}
    characters = np.array([vocabulary.get(chr(byte), -1) for byte in range(256)], np.int32)
    triples = [(vocabulary[left], vocabulary[right], vocabulary[left + right]) for left, right in merges]
    encoder = _core.Bpe(characters, np.array(triples, np.int32), 0, {})
    assert encoder.uses_table
    texts = [random_text(rng, letters, 60) for _ in range(60)]
    texts += [(random_text(rng, letters, 4) or "A") * rng.randint(1, 30) for _ in range(40)]
    texts += [random_text(rng, letters + "N acRé\t\x1c日　-_.", 60) for _ in range(40)]
    ids, offsets, _ = encoder.encode(texts, prefix=[], suffix=[], clean=False)
    expected = hugging_face_bpe(vocabulary, merges).encode_batch(texts)
    assert rows(Tokens(ids, offsets)) == [encoding.ids for encoding in expected]


def test_bpe_equals_hugging_face_on_real_dna(dnabert2_file, data_dir):
    tokenizers = pytest.importorskip("tokenizers")
    pandas = pytest.importorskip("pandas")
    texts = pandas.read_csv(data_dir / "gue" / "prom_300_tata" / "train.csv.gz")["sequence"][:300].tolist()
    texts += ["".join(texts[i : i + 30]) for i in range(0, 300, 30)]
    texts += [f"{chr(byte)}ACGTAC{chr(byte)}GT" for byte in range(256)]
    texts += ["[MASK]ACGT[PAD]", "[MAS", "[CLS][CLS]"]
    reference = tokenizers.Tokenizer.from_file(str(dnabert2_file))
    tokenize = load_tokenizer("dnabert2", vocabulary=dnabert2_file)
    assert rows(tokenize(texts, clean=False)) == [encoding.ids for encoding in reference.encode_batch(texts)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dropout": 0.1}, "dropout"),
        ({"type": "WordPiece"}, "type"),
        ({"ignore_merges": True}, "ignore_merges"),
        ({"merges": ["A"]}, "not a usable"),
        ({"merges": ["A X"]}, "'X'"),
        ({"vocab": {"[UNK]": -1}}, "expected 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_tokenizer_json_that_would_change_ids_is_refused(change, message, tmp_path):
    model = {"type": "BPE", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "A": 1, "AA": 2}, "merges": ["A A"]}
    content = {"model": model | change, "pre_tokenizer": {"type": "Whitespace"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        load_tokenizer("dnabert2", vocabulary=tmp_path)


def test_special_tokens_beyond_ascii_are_recognised_or_refused(tmp_path):
    content = {
        "model": {"type": "BPE", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "A": 1}, "merges": []},
        "pre_tokenizer": {"type": "Whitespace"},
        "added_tokens": [{"content": "[é]", "id": 2, "normalized": False, "special": True}],
    }
    for key in ("single_word", "lstrip", "rstrip"):
        content["added_tokens"][0][key] = False
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    texts = ["A[é]A", "Aé", "[é]"]
    tokenizers = pytest.importorskip("tokenizers")
    expected = [encoding.ids for encoding in tokenizers.Tokenizer.from_file(str(path)).encode_batch(texts)]
    assert expected[0] == [1, 2, 1]
    assert rows(load_tokenizer("dnabert2", vocabulary=path)(texts, clean=False)) == expected
    content["added_tokens"][0]["content"] = "[日]"
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="Latin-1"):
        load_tokenizer("dnabert2", vocabulary=path)


def test_damaged_vocabulary_files_are_checkpoint_errors(tmp_path):
    with pytest.raises(CheckpointError, match=r"no file .*vocab\.txt"):
        load_tokenizer("dnabert-6", vocabulary=tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="not a JSON file"):
        load_tokenizer("dnabert2", vocabulary=tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="not a text file"):
        load_tokenizer("nt-v2", vocabulary=tmp_path)
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\nAAA\nAAA\n")
    with pytest.raises(CheckpointError, match="twice"):
        load_tokenizer("dnabert-3", vocabulary=tmp_path)
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\nAAA\n")
    with pytest.raises(CheckpointError, match="'AAT'"):
        load_tokenizer("dnabert-3", vocabulary=tmp_path)


def written_out_cleaning(text: str) -> tuple[str, list[int]]:
    """Cleaned text and counts of lower case, RNA, IUPAC, gaps and invalid characters."""
    has_t = "T" in text.upper()
    cleaned, counts = [], [0, 0, 0, 0, 0]
    for letter in text:
        upper = letter.upper() if letter in string.ascii_letters else letter
        if letter.isspace():
            continue
        if upper in "-.":
            counts[3] += 1
            continue
        counts[0] += letter != upper and upper in "ACGTUNRYSWKMBDHV"
        if upper in "ACGTN":
            cleaned.append(upper)
        elif upper == "U":
            counts[4 if has_t else 1] += 1
            cleaned.append("T")
        elif upper in "RYSWKMBDHV":
            counts[2] += 1
            cleaned.append("N")
        else:
            counts[4] += 1
            cleaned.append("N")
    return "".join(cleaned), counts


def test_clean_equals_definition_on_every_character_and_random_texts():
    rng = random.Random(3)
    texts = [chr(code) for code in [*range(256), 0x3000, 0x65E5]] + ["", "ACGU", "acgu", "ACGTU", "AC-GT.N n"]
    texts += [
        random_text(rng, letters, 3000) for letters in ("ACGT", "acgtN", "ACGUn-", "ACGTURYKM-. \n*X日é") * 10
    ]
    cleaned, counts = _core.clean(texts)
    expected = [written_out_cleaning(text) for text in texts]
    assert cleaned == [text for text, _ in expected]
    assert counts.tolist() == [count for _, count in expected]
    assert _core.clean([text.encode("latin-1", "replace") for text in texts[:256]])[0] == cleaned[:256]


def test_clean_hands_back_a_clean_str_itself():
    text = "ACGTN" * 3
    assert _core.clean([text])[0][0] is text


@pytest.mark.parametrize("name", ["dnabert-6", "nt-v2", "hyenadna", "caduceus", "dnabert2"])
def test_cleaning_makes_written_variants_of_a_sequence_equal(name, dnabert2_file):
    tokenize = load_tokenizer(name, vocabulary=dnabert2_file if name == "dnabert2" else None)
    sequence = "ACGTTGCANNACGATCGATTACAGATTACAN"
    rna = sequence.replace("T", "U")
    variants = [
        sequence,
        sequence.lower(),
        rna,
        sequence.replace("N", "r"),
        " ".join(sequence),
        sequence.encode(),
    ]
    first, *others = rows(tokenize(variants))
    assert all(other == first for other in others)
    assert first == tokenize([sequence], clean=False).ids.tolist()


@pytest.mark.parametrize(
    ("sequence", "message"),
    [("MKVLE", "'L' at position 3"), ("ACGTU", "both U and T"), ("AC[MASK]", r"'\['")],
)
def test_text_that_is_not_dna_is_an_input_error(sequence, message):
    with pytest.raises(InputError, match=message) as error:
        load_tokenizer("hyenadna")(["ACGT", sequence])
    assert "sequences[1]" in str(error.value)


@pytest.mark.parametrize("name", ["dnabert-6", "nt-v2", "hyenadna", "dnabert2"])
def test_threads_and_company_do_not_change_ids(name, dnabert2_file):
    tokenize = load_tokenizer(name, vocabulary=dnabert2_file if name == "dnabert2" else None)
    rng = random.Random(9)
    texts = [
        "",
        "A",
        "ac-gtr",
        *(random_text(rng, "ACGTN", most) for most in (5, 40, 9000, 3, 60000, 700)),
        "",
    ] * 3
    alone = [tokenize([text]).ids.tolist() for text in texts]
    for threads in (1, 2, 7, 100):
        ids, offsets, invalid = tokenize._encoder.encode(
            texts, prefix=tokenize._prefix, suffix=tokenize._suffix, clean=True, threads=threads
        )
        assert invalid == -1
        assert rows(Tokens(ids, offsets)) == alone
    assert tokenize(texts).lengths.tolist() == [len(row) for row in alone]


def test_empty_batch_and_array_types():
    tokens = load_tokenizer("nt-v2")([])
    assert (tokens.ids.dtype, tokens.offsets.dtype) == (np.int32, np.int64)
    assert tokens.ids.shape == (0,)
    assert tokens.offsets.tolist() == [0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_threads_work_after_fork():
    tokenize = load_tokenizer("dnabert-6")
    texts = ["ACGTTGCA" * 100_000] * 4
    expected = tokenize(texts).ids
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(tokenize(texts).ids, expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    "name", [name for name in TOKENIZERS if name not in ("specieslm", "dnabert2", "opt", "opt-one-hot")]
)
def test_pickled_tokenizer_gives_the_same_ids(name):
    tokenize = load_tokenizer(name)
    copy = pickle.loads(pickle.dumps(tokenize))
    assert copy(["ACGTACGTNACGT"]).ids.tolist() == tokenize(["ACGTACGTNACGT"]).ids.tolist()
    assert copy.vocabulary_size == tokenize.vocabulary_size == len(tokenize.vocabulary)


def test_attributes_describe_the_layout():
    tokenize = load_tokenizer("nt-v2")
    assert tokenize.special_token_ids == {"unk": 0, "pad": 1, "mask": 2, "cls": 3, "eos": 4, "bos": 5}
    assert (tokenize.vocabulary_size, tokenize.max_length, tokenize.bases_per_token) == (4107, 2048, 6)
    assert (tokenize.prefix_length, tokenize.suffix_length) == (1, 0)
    assert load_tokenizer("nt-v1").vocabulary_size == 4105
    assert [KmerTokenizer(6, 3).bases_per_token, load_tokenizer("hyenadna").bases_per_token] == [3, 1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: load_tokenizer("bert"), ArgumentError, "expected one of dnabert-3"),
        (lambda: load_tokenizer("opt"), ModelError, r"vocab\.json and merges\.txt"),
        (lambda: load_tokenizer("nt-v2", prompt="Enhancer"), ArgumentError, "prompt='Enhancer'"),
        (
            lambda: load_tokenizer("dnabert-6", species="homo_sapiens"),
            ArgumentError,
            "species='homo_sapiens'",
        ),
        (lambda: load_tokenizer("dnabert2"), ModelError, r"tokenizer\.json"),
        (lambda: load_tokenizer("specieslm"), ModelError, r"vocab\.txt"),
        (lambda: load_tokenizer("hyenadna", vocabulary="vocab.txt"), ArgumentError, "takes none"),
        (lambda: load_tokenizer("hyenadna")("ACGT"), ArgumentError, r"\[sequence\]"),
        (lambda: load_tokenizer("hyenadna")(["ACGT", 3]), TypeError, r"sequences\[1\] is int"),
        (lambda: KmerTokenizer(9), ArgumentError, "k=9"),
        (lambda: KmerTokenizer(3, 0), ArgumentError, "stride=0"),
        (lambda: KmerTokenizer(3, letters="ACGU"), ArgumentError, "letters='ACGU'"),
        (lambda: KmerTokenizer(3, prefix=["[X]"]), CheckpointError, r"'\[X\]'"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
