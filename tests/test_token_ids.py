"""Ids of every width, into fresh arrays and given ones, with every instruction set and number of threads."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest

from fastgenome.byte_level import read_byte_level
from fastgenome.errors import ArgumentError, CheckpointError, InputError
from fastgenome.tokenizers import KmerTokenizer, load_tokenizer, one_hot

WIDTHS = ["uint8", "uint16", "int32", "int64"]
LETTERS = "ATCG"


def random_dna(rng: np.random.Generator, size: int, letters: bytes = b"ACGT") -> str:
    return rng.choice(np.frombuffer(letters, np.uint8), size).tobytes().decode("latin-1")


def written_out_kmers(text: str, k: int, stride: int, letters: str = LETTERS) -> np.ndarray:
    """Ids where all k-mers follow five special tokens; 1 where a window holds other letters."""
    digits = np.full(256, 4, np.int64)
    digits[np.frombuffer(letters.encode(), np.uint8)] = range(4)
    bases = digits[np.frombuffer(text.encode("latin-1"), np.uint8)]
    if len(bases) < k:
        return np.zeros(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(bases, k)[::stride]
    ids = 5 + windows @ 4 ** np.arange(k - 1, -1, -1)
    return np.where((windows == 4).any(axis=1), 1, ids)


def written_out_blocks(text: str, vocabulary: dict[str, int], k: int) -> list[int]:
    ids = []
    at = 0
    while at < len(text):
        token = text[at : at + k]
        token = token if len(token) == k and set(token) <= set("ACGT") else text[at]
        ids.append(vocabulary[token])
        at += len(token)
    return ids


def widths_of(vocabulary_size: int) -> list[str]:
    return [width for width in WIDTHS if np.iinfo(width).max >= vocabulary_size - 1]


@pytest.mark.parametrize(("k", "dtype"), [(k, dtype) for k in range(1, 9) for dtype in widths_of(4**k + 5)])
def test_sliding_kmers_of_every_width_equal_definition(k, dtype, instruction_set):
    rng = np.random.default_rng(k)
    for stride in (1, 2, 3, 5, k, 2 * k, 2 * k + 1, 40):
        tokenize = KmerTokenizer(k, stride)
        for letters in (b"ACGT", b"ACGTACGTACGTN", b"ACGTXacgt\x00\x80\xff@P"):
            texts = [random_dna(rng, size, letters) for size in [*range(150), 1024, 1025, 3000]]
            ids, offsets = tokenize(texts, special_tokens=False, clean=False, dtype=dtype)
            expected = [written_out_kmers(text, k, stride) for text in texts]
            assert ids.dtype == dtype
            assert offsets.tolist() == np.cumsum([0, *map(len, expected)]).tolist()
            np.testing.assert_array_equal(ids, np.concatenate(expected))


def test_vocabulary_out_of_order_gives_its_own_ids(instruction_set):
    rng = random.Random(1)
    order = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *KmerTokenizer(3).vocabulary]
    tokens = list(dict.fromkeys(order))
    rng.shuffle(tokens)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    text = random_dna(np.random.default_rng(2), 700, b"ACGTACGTN")
    expected = [vocabulary.get(text[i : i + 3], vocabulary["[UNK]"]) for i in range(698)]
    tokenize = KmerTokenizer(3, vocabulary=vocabulary)
    assert tokenize([text], special_tokens=False).ids.tolist() == expected


@pytest.mark.parametrize("dtype", ["uint16", "int32", "int64"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_long_sequence_into_any_address_equals_definition(dtype, threads, instruction_set):
    text = random_dna(np.random.default_rng(0), 9_000_000 // np.dtype(dtype).itemsize + 77_777)
    text = text[:300_000] + "NNN" + text[300_000:]
    expected = written_out_kmers(text, 6, 1)
    tokenize = load_tokenizer("dnabert-6")
    buffer = np.empty(tokenize.capacity([text]) + 70, dtype)
    for start in (0, 1, 3, 64):
        buffer[:] = 7
        ids = tokenize([text], out=buffer[start:], threads=threads).ids
        assert np.shares_memory(ids, buffer)
        assert (buffer[start], buffer[start + len(ids) - 1]) == (2, 3)
        assert (buffer[:start] == 7).all()
        assert (buffer[start + len(ids) :] == 7).all()
        np.testing.assert_array_equal(ids[1:-1], expected)


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("threads", [1, 3])
def test_characters_of_every_width_equal_definition(dtype, threads, instruction_set):
    tokenize = load_tokenizer("hyenadna")
    table = np.array([tokenize.vocabulary.get(chr(byte), 6) for byte in range(256)])
    rng = np.random.default_rng(3)
    every = np.arange(256, dtype=np.uint8)
    for letters in (b"ACGTN", every.tobytes()):
        pool = np.frombuffer(letters, np.uint8)
        texts = [rng.choice(pool, size).tobytes() for size in [*range(200), 100_001]] + [every.tobytes()]
        for batch in (texts, [rng.choice(pool, 2_000_003).tobytes()]):
            ids, offsets = tokenize(batch, special_tokens=False, clean=False, dtype=dtype, threads=threads)
            assert offsets.tolist() == np.cumsum([0, *map(len, batch)]).tolist()
            np.testing.assert_array_equal(ids, table[np.frombuffer(b"".join(batch), np.uint8)])


@pytest.mark.parametrize("name", ["nt-v1", "nt-v2", "nt-v2-3mer"])
def test_block_kmers_of_every_width_equal_definition(name, instruction_set):
    tokenize = load_tokenizer(name)
    rng = np.random.default_rng(4)
    k = tokenize.bases_per_token
    assert k is not None
    for letters in (b"ACGT", b"ACGT" * 9 + b"N", b"ACGTN"):
        texts = [random_dna(rng, size, letters) for size in [*range(300), 5000]]
        expected = np.concatenate([written_out_blocks(text, tokenize.vocabulary, k) for text in texts])
        for dtype in widths_of(tokenize.vocabulary_size):
            ids = tokenize(texts, special_tokens=False, dtype=dtype).ids
            np.testing.assert_array_equal(ids, expected)


def test_default_ids_are_int32_and_out_decides_otherwise():
    tokenize = load_tokenizer("nt-v2")
    assert tokenize(["ACGT"]).ids.dtype == np.int32
    out = np.empty(50, np.int64)
    ids = tokenize(["ACGTACGTA"], out=out).ids
    assert np.shares_memory(ids, out)
    assert ids.tolist() == tokenize(["ACGTACGTA"]).ids.tolist()


@pytest.mark.parametrize("special_tokens", [True, False])
@pytest.mark.parametrize(
    "name", ["dnabert-4", "nt-v2", "hyenadna", "caduceus", "dnabert2", "opt", "opt-one-hot"]
)
def test_capacity_is_enough_and_less_is_refused(name, special_tokens, data_dir):
    files = {"dnabert2": "dnabert2/tokenizer.json", "opt": "opt", "opt-one-hot": "opt"}
    vocabulary = data_dir / "tokenizers" / files[name] if name in files else None
    tokenize = load_tokenizer(name, vocabulary=vocabulary)
    texts = ["ACGT" * 20, "", "ACGNNT", "A"]
    size = tokenize.capacity(texts, special_tokens=special_tokens)
    expected = tokenize(texts, special_tokens=special_tokens)
    assert size >= len(expected.ids)
    ids = tokenize(texts, special_tokens=special_tokens, out=np.empty(size, np.int32)).ids
    assert ids.tolist() == expected.ids.tolist()
    with pytest.raises(ArgumentError, match="needed are"):
        tokenize(texts, special_tokens=special_tokens, out=np.empty(len(expected.ids) - 1, np.int32))


def test_opt_writes_raw_texts_into_out(data_dir):
    tokenize = load_tokenizer("opt", vocabulary=data_dir / "tokenizers" / "opt", prompt="DNA Promoter")
    texts = ["ACGT", "hello 日本", "acgtn"]
    expected = tokenize(texts, clean=False).ids
    out = np.zeros(tokenize.capacity(texts), np.uint16)
    ids = tokenize(texts, clean=False, out=out).ids
    assert np.shares_memory(ids, out)
    assert ids.tolist() == expected.tolist()
    with pytest.raises(ArgumentError, match="needed are"):
        tokenize(texts, clean=False, out=out[:10])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "uint8"}, "no ids above 255; those of nt-v2 go to 4106"),
        ({"dtype": "float32"}, "expected one of uint8, uint16, int32, int64"),
        ({"dtype": "int16"}, "expected one of"),
        ({"dtype": "int32", "out": np.empty(90, np.int64)}, "out is of int64"),
        ({"out": np.empty(90, ">i4")}, "expected one of"),
        ({"out": np.empty(180, np.int32)[::2]}, "contiguous"),
        ({"out": np.empty((9, 10), np.int32)}, "one-dimensional"),
        ({"out": np.frombuffer(bytes(400), np.int32)}, "writable"),
        ({"out": [0] * 90}, "out is list"),
        ({"out": np.frombuffer(bytearray(361), np.int32, 90, 1)}, "aligned"),
        ({"threads": -1}, "threads=-1"),
        ({"threads": 1.5}, "threads=1.5"),
        ({"threads": 1 << 40}, "threads=1099511627776"),
    ],
)
def test_wrong_id_types_and_buffers_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        load_tokenizer("nt-v2")(["ACGT" * 10], **arguments)


@pytest.mark.parametrize("letters", ["ACGT", "GTCA"])
@pytest.mark.parametrize("dtype", ["uint8", "bool", "float32", "float64"])
def test_one_hot_equals_definition(letters, dtype, instruction_set):
    rng = np.random.default_rng(5)
    texts = ["", "ACGTN", *(random_dna(rng, size, b"ACGTN") for size in (1, 63, 64, 65, 3000))]
    values, offsets = one_hot(texts, letters=letters, dtype=dtype)
    joined = "".join(texts)
    assert values.dtype == dtype
    assert values.shape == (len(joined), 4)
    np.testing.assert_array_equal(values, [[letter == base for letter in letters] for base in joined])
    assert offsets.tolist() == np.cumsum([0, *map(len, texts)]).tolist()


def test_one_hot_into_given_rows():
    out = np.full((9, 4), 7, np.float32)
    values, offsets = one_hot(["ACG", "TN"], out=out, threads=2)
    assert np.shares_memory(values, out)
    np.testing.assert_array_equal(values, one_hot(["ACGTN"]).values)
    assert (out[5:] == 7).all()
    assert offsets.tolist() == [0, 3, 5]
    for wrong in (out[:4], np.empty((9, 5)), np.empty(36)):
        with pytest.raises(ArgumentError, match="needed are 5 rows of 4"):
            one_hot(["ACG", "TN"], out=wrong)


def test_long_text_among_short_ones_is_cut_and_stays_in_its_place():
    rng = np.random.default_rng(6)
    sizes = [40, 1_300_000, 0, 70, 2_100_000, 2_200_000, 5]
    texts = [random_dna(rng, size, b"ACGTACGTACGTN") for size in sizes]
    for name in ("dnabert-6", "hyenadna", "nt-v2"):
        tokenize = load_tokenizer(name)
        alone = [tokenize([text], threads=1).ids for text in texts]
        for threads in (1, 2, 3, 300):
            ids, offsets = tokenize(texts, threads=threads)
            np.testing.assert_array_equal(ids, np.concatenate(alone))
            assert offsets.tolist() == np.cumsum([0, *map(len, alone)]).tolist()


def test_environment_limits_threads():
    code = (
        "import threading, os; from fastgenome.tokenizers import load_tokenizer; "
        "load_tokenizer('hyenadna')(['ACGT' * 1_000_000] * 4); "
        "print(len(os.listdir('/proc/self/task')))"
    )
    counts = []
    for threads in ("1", "2"):
        environment = os.environ | {"FASTGENOME_THREADS": threads, "OMP_NUM_THREADS": "1"}
        environment["OPENBLAS_NUM_THREADS"] = "1"
        result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        counts.append(int(result.stdout))
    assert counts[1] - counts[0] == min(2, os.cpu_count() or 1) - 1


@pytest.mark.parametrize("number", [-1, 1 << 31, 1 << 40])
def test_ids_out_of_range_are_refused(number):
    vocabulary = KmerTokenizer(2).vocabulary | {"AC": number}
    with pytest.raises(CheckpointError, match=f"'AC' the id {number}"):
        KmerTokenizer(2, vocabulary=vocabulary)


def test_one_hot_cleans_and_refuses_like_a_tokenizer():
    np.testing.assert_array_equal(one_hot(["acgu-r"]).values, one_hot(["ACGTN"]).values)
    assert one_hot(["aX"], clean=False).values.sum() == 0
    with pytest.raises(InputError, match=r"sequences\[1\]"):
        one_hot(["ACGT", "MKVLE"])
    with pytest.raises(ArgumentError, match="letters='ACGU'"):
        one_hot(["ACGT"], letters="ACGU")
    with pytest.raises(ArgumentError, match="one str"):
        one_hot("ACGT")


def test_lingo_one_hot_maps_bases_and_encodes_its_prompt_apart(data_dir):
    folder = data_dir / "tokenizers" / "opt"
    tokenize = load_tokenizer("opt-one-hot", vocabulary=folder, prompt="DNA Promoter")
    before, behind = read_byte_level(folder).encode(["Domain: DNA Promoter\nSequence: ", "\nAnnotation:"])
    assert tokenize(["ATCGN"]).ids.tolist() == [2, *before, 5, 6, 7, 8, 3, *behind]
    assert load_tokenizer("opt-one-hot", vocabulary=folder)(["GA"]).ids.tolist() == [2, 8, 5]
