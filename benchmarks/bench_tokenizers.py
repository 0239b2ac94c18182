"""Tokenizers beside what they replace: from str to ids, the ids asserted equal, special tokens left out.

Times are CPU time of the whole process, all threads added up.
"""

import ctypes
import time
from pathlib import Path

import numpy as np
import pytest
import tokenizer_peers as peers
import tokenizers
from conftest import DATA
from pytest_benchmark.fixture import BenchmarkFixture
from tokenizer_peers import Encode, Ids

from fastgenome.tokenizers import Tokenizer, load_tokenizer

pytestmark = pytest.mark.benchmark(timer=time.process_time, min_rounds=5, warmup=False)

MANY = "10,000 × 500 bp"
FEW = "500 × 500 bp"
ONE = "one sequence of 10 Mb"


def ours(tokenize: Tokenizer, dtype: str = "int32", out: Ids | None = None, threads: int = 0) -> Encode:
    return lambda batch: (
        tokenize(
            batch, special_tokens=False, dtype=None if out is not None else dtype, out=out, threads=threads
        ).ids
    )


def measure(benchmark: BenchmarkFixture, group: str, run: Encode, batch: list[str], expected: Encode) -> None:
    """Measures `run` on `batch` in `group`, and asserts that it gives what `expected` gives."""
    benchmark.group = group
    benchmark.extra_info["bases"] = sum(map(len, batch))
    ids = benchmark(run, batch)
    np.testing.assert_array_equal(ids, expected(batch))


# Overlapping 6-mers (DNABERT)


@pytest.fixture(scope="module")
def dnabert() -> Tokenizer:
    return load_tokenizer("dnabert-6")


@pytest.mark.parametrize("side", ["fastgenome", "tokenizers WordLevel", "NumPy"])
def test_overlapping(benchmark, dnabert, sequences, side):
    run = {
        "fastgenome": lambda: ours(dnabert),
        "tokenizers WordLevel": lambda: peers.word_level(dnabert.vocabulary),
        "NumPy": lambda: peers.numpy_kmers,
    }[side]()
    expected = ours(dnabert) if side != "fastgenome" else peers.numpy_kmers
    measure(benchmark, f"overlapping 6-mers, {MANY}", run, sequences, expected)


@pytest.mark.parametrize("dtype", ["uint16", "int64"])
@pytest.mark.parametrize("side", ["fastgenome", "rolling numba", "memset"])
def test_overlapping_into_buffer(benchmark, dnabert, long_sequence, side, dtype):
    batch = [long_sequence]
    buffer = np.zeros(dnabert.capacity(batch, special_tokens=False), dtype)
    group = f"overlapping 6-mers into a buffer of {dtype}, {ONE}"
    if side == "memset":
        benchmark.group = group
        benchmark(ctypes.memset, buffer.ctypes.data, 1, buffer.nbytes)
        return
    run = {
        "fastgenome": lambda: ours(dnabert, out=buffer, threads=1),
        "rolling numba": lambda: peers.rolling_numba(buffer),
    }[side]()
    measure(benchmark, group, run, batch, peers.numpy_kmers)


# Non-overlapping 6-mers (Nucleotide Transformer)


@pytest.fixture(scope="module")
def nucleotide_transformer() -> Tokenizer:
    return load_tokenizer("nt-v2")


@pytest.mark.parametrize("side", ["fastgenome", "tokenizers FixedLength"])
def test_blocks(benchmark, nucleotide_transformer, sequences, side):
    fixed_length = peers.fixed_length(nucleotide_transformer.vocabulary)
    pair = (ours(nucleotide_transformer), fixed_length)
    run, other = pair if side == "fastgenome" else pair[::-1]
    batch = [sequence[:498] for sequence in sequences]
    measure(benchmark, "non-overlapping 6-mers, 10,000 × 498 bp", run, batch, other)


@pytest.mark.parametrize("side", ["fastgenome", "transformers EsmTokenizer"])
def test_blocks_few(benchmark, nucleotide_transformer, few_sequences, side, tmp_path):
    pair = (ours(nucleotide_transformer), peers.esm(nucleotide_transformer.vocabulary, tmp_path))
    run, other = pair if side == "fastgenome" else pair[::-1]
    measure(benchmark, f"non-overlapping 6-mers, {FEW}", run, few_sequences, other)


# Characters (HyenaDNA)


@pytest.fixture(scope="module")
def hyenadna() -> Tokenizer:
    return load_tokenizer("hyenadna")


@pytest.mark.parametrize("side", ["fastgenome", "bytes.translate"])
def test_characters(benchmark, hyenadna, sequences, side):
    pair = (ours(hyenadna, "uint8"), peers.translate(hyenadna.vocabulary, unknown=6))
    run, other = pair if side == "fastgenome" else pair[::-1]
    measure(benchmark, f"characters as uint8, {MANY}", run, sequences, other)


@pytest.mark.parametrize("side", ["fastgenome", "PreTrainedTokenizer of characters"])
def test_characters_few(benchmark, hyenadna, few_sequences, side):
    pair = (ours(hyenadna), peers.character_tokenizer(hyenadna.vocabulary))
    run, other = pair if side == "fastgenome" else pair[::-1]
    measure(benchmark, f"characters, {FEW}", run, few_sequences, other)


# Byte-pair encoding (DNABERT-2, OPT)


def train_bpe(training_sequences: list[str], path: Path) -> None:
    """A BPE tokenizer in DNABERT-2's layout, trained on random DNA."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=4096, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(training_sequences, trainer)
    tokenizer.save(str(path))


@pytest.fixture(scope="module")
def bpe_file(tmp_path_factory, training_sequences) -> Path:
    """tokenizer.json of DNABERT-2, or one of its kind."""
    published = DATA / "tokenizers" / "dnabert2" / "tokenizer.json"
    if published.is_file():
        return published
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    train_bpe(training_sequences, path)
    return path


@pytest.fixture(scope="module")
def opt_file(tmp_path_factory) -> Path:
    """OPT's vocabulary as a tokenizer.json."""
    folder = DATA / "tokenizers" / "opt"
    if not folder.is_dir():
        pytest.skip("needs OPT's vocab.json and merges.txt in tokenizers/opt of the data")
    model = tokenizers.models.BPE.from_file(str(folder / "gpt2-vocab.json"), str(folder / "gpt2-merges.txt"))
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    path = tmp_path_factory.mktemp("opt") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.mark.parametrize("size", [MANY, ONE])
@pytest.mark.parametrize("side", ["fastgenome", "tokenizers"])
@pytest.mark.parametrize("name", ["dnabert2", "opt"])
def test_bpe(benchmark, request, sequences, long_sequence, name, side, size):
    path = request.getfixturevalue("bpe_file" if name == "dnabert2" else "opt_file")
    tokenize = load_tokenizer(name, vocabulary=path if name == "dnabert2" else DATA / "tokenizers" / "opt")
    batch = sequences if size == MANY else [long_sequence]
    pair = (ours(tokenize), peers.hugging_face(path))
    run, other = pair if side == "fastgenome" else pair[::-1]
    measure(benchmark, f"BPE of {name}, {size}", run, batch, other)


@pytest.mark.parametrize("side", ["fastgenome", "tokie"])
def test_bpe_tokie(benchmark, bpe_file, sequences, side):
    pair = (ours(load_tokenizer("dnabert2", vocabulary=bpe_file)), peers.tokie(bpe_file))
    run, other = pair if side == "fastgenome" else pair[::-1]
    measure(benchmark, f"BPE of dnabert2 beside tokie, {MANY}", run, sequences, other)


@pytest.mark.parametrize("side", ["fastgenome", "tokie (some ids differ)"])
def test_bpe_tokie_long(benchmark, bpe_file, long_sequence, side):
    """tokie is not exact on long texts: here it gives other ids than tokenizers, which ours are equal to."""
    tokenize = load_tokenizer("dnabert2", vocabulary=bpe_file)
    benchmark.group = f"BPE of dnabert2 beside tokie, {ONE}"
    benchmark.extra_info["bases"] = len(long_sequence)
    run = ours(tokenize) if side == "fastgenome" else peers.tokie(bpe_file)
    ids = benchmark(run, [long_sequence])
    assert len(ids) == pytest.approx(len(ours(tokenize)([long_sequence])), rel=1e-3)


# Two threads against one: wall-clock time


@pytest.mark.benchmark(timer=time.perf_counter)
@pytest.mark.parametrize("size", [MANY, ONE])
@pytest.mark.parametrize("side", ["2 threads", "1 thread"])
def test_bpe_threads(benchmark, bpe_file, sequences, long_sequence, side, size):
    tokenize = load_tokenizer("dnabert2", vocabulary=bpe_file)
    batch = sequences if size == MANY else [long_sequence]
    run = ours(tokenize, threads=int(side[0]))
    measure(benchmark, f"BPE of dnabert2 by threads, wall-clock, {size}", run, batch, ours(tokenize))
