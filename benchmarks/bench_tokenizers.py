"""Tokenizers against what they replace: the same sequences, from str to ids, the ids asserted equal."""

import json
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from tokenizers import models, pre_tokenizers, processors, trainers

from fastgenome.tokenizers import Tokenizer, load_tokenizer

Ids = NDArray[np.int32]


def check(benchmark: BenchmarkFixture, group: str, run: Callable[[], Iterable[int]], expected: Ids) -> None:
    """Measures `run` in `group` and asserts the ids it gives."""
    benchmark.group = group
    ids = benchmark(run)
    np.testing.assert_array_equal(np.asarray(ids).ravel(), expected)


def spaced_kmers(sequence: str, k: int = 6) -> str:
    """How DNABERT's users make its input."""
    return " ".join(sequence[i : i + k] for i in range(len(sequence) - k + 1))


def encoded(tokenizer: tokenizers.Tokenizer, texts: list[str]) -> list[int]:
    """Ids of a batch through Hugging Face tokenizers, special tokens included."""
    return list(chain.from_iterable(encoding.ids for encoding in tokenizer.encode_batch(texts)))


def save_vocabulary(tokenize: Tokenizer, folder: Path) -> str:
    path = folder / "vocab.txt"
    path.write_text("\n".join(tokenize.vocabulary))
    return str(path)


# Overlapping 6-mers (DNABERT)

OVERLAPPING = "overlapping 6-mer, 1,000 × 500 bp"
OVERLAPPING_FEW = "overlapping 6-mer, 50 × 500 bp"


@pytest.fixture(scope="module")
def dnabert() -> Tokenizer:
    return load_tokenizer("dnabert-6")


def test_overlapping_fastgenome(benchmark, dnabert, sequences):
    expected = np.concatenate([dnabert([sequence]).ids for sequence in sequences])
    check(benchmark, OVERLAPPING, lambda: dnabert(sequences).ids, expected)


def test_overlapping_tokenizers_word_level(benchmark, dnabert, sequences):
    peer = tokenizers.Tokenizer(models.WordLevel(dnabert.vocabulary, unk_token="[UNK]"))
    peer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    peer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )

    def run() -> list[int]:
        return encoded(peer, [spaced_kmers(sequence) for sequence in sequences])

    check(benchmark, OVERLAPPING, run, dnabert(sequences).ids)


def test_overlapping_numpy(benchmark, dnabert, sequences):
    digits = np.zeros(256, np.int32)
    digits[np.frombuffer(b"ATCG", np.uint8)] = range(4)

    def run() -> Ids:
        bases = digits[np.frombuffer("".join(sequences).encode(), np.uint8).reshape(len(sequences), -1)]
        width = bases.shape[1] - 5
        ids = np.empty((len(sequences), width + 2), np.int32)
        ids[:, 0], ids[:, -1] = 2, 3
        codes = ids[:, 1:-1]
        codes[:] = bases[:, :width]
        for offset in range(1, 6):
            codes *= 4
            codes += bases[:, offset : offset + width]
        codes += 5
        return ids

    check(benchmark, OVERLAPPING, run, dnabert(sequences).ids)


def test_overlapping_few_fastgenome(benchmark, dnabert, few_sequences):
    expected = np.concatenate([dnabert([sequence]).ids for sequence in few_sequences])
    check(benchmark, OVERLAPPING_FEW, lambda: dnabert(few_sequences).ids, expected)


def test_overlapping_few_transformers_bert(benchmark, dnabert, few_sequences, tmp_path):
    legacy = pytest.importorskip("transformers.models.bert.tokenization_bert_legacy")
    peer = legacy.BertTokenizerLegacy(save_vocabulary(dnabert, tmp_path), do_lower_case=False)

    def run() -> list[int]:
        return list(
            chain.from_iterable(peer([spaced_kmers(sequence) for sequence in few_sequences])["input_ids"])
        )

    check(benchmark, OVERLAPPING_FEW, run, dnabert(few_sequences).ids)


# Non-overlapping 6-mers (Nucleotide Transformer)

BLOCKS = "non-overlapping 6-mer, 1,000 × 498 bp"


@pytest.fixture(scope="module")
def nucleotide_transformer() -> Tokenizer:
    return load_tokenizer("nt-v2")


@pytest.fixture(scope="module")
def whole_blocks(sequences) -> list[str]:
    """Sequences of whole 6-mers: tokenizers' FixedLength has no rule for a remainder."""
    return [sequence[:498] for sequence in sequences]


def test_blocks_fastgenome(benchmark, nucleotide_transformer, whole_blocks):
    expected = np.concatenate([nucleotide_transformer([sequence]).ids for sequence in whole_blocks])
    check(benchmark, BLOCKS, lambda: nucleotide_transformer(whole_blocks).ids, expected)


def test_blocks_tokenizers_fixed_length(benchmark, nucleotide_transformer, whole_blocks):
    peer = tokenizers.Tokenizer(models.WordLevel(nucleotide_transformer.vocabulary, unk_token="<unk>"))
    peer.pre_tokenizer = pre_tokenizers.FixedLength(6)
    peer.post_processor = processors.TemplateProcessing("<cls> $A", special_tokens=[("<cls>", 3)])
    expected = nucleotide_transformer(whole_blocks).ids
    check(benchmark, BLOCKS, lambda: encoded(peer, whole_blocks), expected)


def test_blocks_transformers_esm(benchmark, nucleotide_transformer, whole_blocks, tmp_path):
    transformers = pytest.importorskip("transformers")
    peer = transformers.EsmTokenizer(save_vocabulary(nucleotide_transformer, tmp_path), eos_token=None)
    expected = nucleotide_transformer(whole_blocks).ids
    check(benchmark, BLOCKS, lambda: list(chain.from_iterable(peer(whole_blocks)["input_ids"])), expected)


# Single characters (HyenaDNA)

CHARACTERS = "characters, 1,000 × 500 bp"


@pytest.fixture(scope="module")
def hyenadna() -> Tokenizer:
    return load_tokenizer("hyenadna")


def test_characters_fastgenome(benchmark, hyenadna, sequences):
    expected = np.concatenate([hyenadna([sequence]).ids for sequence in sequences])
    check(benchmark, CHARACTERS, lambda: hyenadna(sequences).ids, expected)


def test_characters_translate(benchmark, hyenadna, sequences):
    table = bytes(hyenadna.vocabulary.get(chr(byte), 6) for byte in range(256))

    def run() -> Ids:
        rows = [sequence.encode().translate(table) for sequence in sequences]
        # CLS is 0 and SEP 1.
        return np.frombuffer(b"\0" + b"\1\0".join(rows) + b"\1", np.uint8).astype(np.int32)

    check(benchmark, CHARACTERS, run, hyenadna(sequences).ids)


def test_characters_dictionary(benchmark, hyenadna, sequences):
    vocabulary = hyenadna.vocabulary

    def run() -> list[int]:
        ids = [[0, *(vocabulary.get(letter, 6) for letter in sequence), 1] for sequence in sequences]
        return list(chain.from_iterable(ids))

    check(benchmark, CHARACTERS, run, hyenadna(sequences).ids)


# Byte-pair encoding (DNABERT-2)

BPE = "BPE of 4,096 tokens, 1,000 × 500 bp"


@pytest.fixture(scope="module")
def bpe_file(tmp_path_factory, training_sequences) -> Path:
    """A BPE tokenizer in DNABERT-2's layout, trained on random DNA."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(
        training_sequences,
        trainers.BpeTrainer(vocab_size=4096, special_tokens=special, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    tokenizer.save(str(path))
    assert len(json.loads(path.read_text())["model"]["vocab"]) == 4096
    return path


def test_bpe_fastgenome(benchmark, bpe_file, sequences):
    tokenize = load_tokenizer("dnabert2", vocabulary=bpe_file)
    expected = np.concatenate([tokenize([sequence]).ids for sequence in sequences])
    check(benchmark, BPE, lambda: tokenize(sequences).ids, expected)


def test_bpe_tokenizers(benchmark, bpe_file, sequences):
    peer = tokenizers.Tokenizer.from_file(str(bpe_file))
    expected = load_tokenizer("dnabert2", vocabulary=bpe_file)(sequences).ids
    check(benchmark, BPE, lambda: encoded(peer, sequences), expected)
