"""The tokenizers under test, each beside its reference.

Vocabularies that are published as files are read from the data folder; where it is missing, others of the
same make are trained on random DNA, so that every tokenizer is compared everywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import references
import tokenizers as hf
from merge_lists import KINDS, random_merge_list
from packed import from_lists
from references import Reference

from fastgenome import _core
from fastgenome.tokenizers import Tokenizer, load_tokenizer

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("FASTGENOME_DATA", ROOT.parent / "shared" / "data"))
PARITY = Path(os.environ.get("FASTGENOME_PARITY", ROOT.parent / "shared" / "parity"))
PROMPT = "DNA Promoter"

_BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_HYENA = ["[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]"]


@dataclass
class Family:
    """A tokenizer of fastgenome and what it has to equal.

    Attributes:
        tokenize: the tokenizer.
        reference: ids without special tokens.
        prefix, suffix: special tokens around a text.
        tokens, specials: pieces to make texts from.
        slow: a second reference, for a small share of the texts; of DNA alone where `slow_reads_dna_alone`.
        has_prompt: whether the ids of the reference hold a prompt, which counts as special tokens.
    """

    tokenize: Tokenizer
    reference: Reference
    prefix: Sequence[int]
    suffix: Sequence[int]
    tokens: Sequence[str]
    specials: Sequence[str]
    slow: Reference | None = None
    slow_reads_dna_alone: bool = False
    has_prompt: bool = False


def dnabert(k: int, folder: Path) -> Family:
    """Sliding k-mers, ids by the published rule; DNABERT's way, through BertTokenizer, as second one."""
    tokens = [*_BERT, *references.kmer_names(k)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return Family(
        load_tokenizer(f"dnabert-{k}"),
        references.sliding_kmers(k, vocabulary, 1),
        [2],
        [3],
        tokens[5:],
        _BERT,
        slow=_bert_words(k, tokens, folder),
        slow_reads_dna_alone=True,
    )


def specieslm(folder: Path) -> Family:
    """6-mers with the species token, which stands in the vocabulary file alone."""
    published = PARITY / "specieslm_1"
    if not published.is_dir():
        published = folder
        species = ["homo_sapiens", "candida_glabrata"]
        (folder / "vocab.txt").write_text("\n".join([*_BERT, *references.kmer_names(6), *species]))
    lines = (published / "vocab.txt").read_text().split("\n")
    vocabulary = {token: number for number, token in enumerate(lines) if token}
    added = published / "added_tokens.json"
    if added.is_file():
        vocabulary |= json.loads(added.read_text())
    return Family(
        load_tokenizer("specieslm", vocabulary=published),
        references.sliding_kmers(6, vocabulary, vocabulary["[UNK]"]),
        [vocabulary["[CLS]"], vocabulary["candida_glabrata"]],
        [vocabulary["[SEP]"]],
        references.kmer_names(6),
        _BERT,
    )


def nucleotide_transformer(name: str, folder: Path) -> Family:
    """Blocks of k; transformers' EsmTokenizer as second reference."""
    specials = ["<unk>", "<pad>", "<mask>", "<cls>"] + ([] if name == "nt-v1" else ["<eos>", "<bos>"])
    k = 3 if name == "nt-v2-3mer" else 6
    tokens = [*specials, *references.kmer_names(k), *"ATCGN"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    reference = references.blocks(k, vocabulary, 0, specials)
    slow = None if name == "nt-v1" else _esm(tokens, folder)
    return Family(load_tokenizer(name), reference, [3], [], tokens[len(specials) :], specials, slow=slow)


def characters(name: str) -> Family:
    """One token per base."""
    vocabulary = {token: number for number, token in enumerate([*_HYENA, *"ACGTN"])}
    reference = references.characters(vocabulary, 6, _HYENA, upper=name == "caduceus")
    return Family(
        load_tokenizer(name), reference, [0] if name == "hyenadna" else [], [1], list("ACGTN"), _HYENA
    )


def dnabert2(folder: Path) -> Family:
    """Byte-pair encoding from a tokenizer.json, by the tokenizers library."""
    path = DATA / "tokenizers" / "dnabert2" / "tokenizer.json"
    if not path.is_file():
        path = folder / "tokenizer.json"
        trained = hf.Tokenizer(hf.models.BPE(unk_token="[UNK]"))
        trained.pre_tokenizer = hf.pre_tokenizers.Whitespace()
        specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
        trained.train_from_iterator(
            _training_texts(), hf.trainers.BpeTrainer(vocab_size=4096, special_tokens=specials)
        )
        trained.post_processor = hf.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
        trained.save(str(path))
    library = hf.Tokenizer.from_file(str(path))
    library.no_truncation()
    library.no_padding()
    vocabulary = library.get_vocab(with_added_tokens=False)
    tokens = [token for token in vocabulary if not token.startswith("[")]
    return Family(
        load_tokenizer("dnabert2", vocabulary=path),
        references.hugging_face(library),
        [library.token_to_id("[CLS]")],
        [library.token_to_id("[SEP]")],
        tokens,
        ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"],
    )


def opt(folder: Path, *, prompt: str | None) -> Family:
    """OPT's byte-level encoding, by the tokenizers library; with a prompt, of the whole prompted text."""
    source = DATA / "tokenizers" / "opt"
    if not source.is_dir():
        source = folder
        _train_byte_level(folder)
    files = [str(source / f"gpt2-{name}") for name in ("vocab.json", "merges.txt")]
    library = hf.Tokenizer(hf.models.BPE.from_file(*files))
    library.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.add_special_tokens(["<pad>", "</s>"])
    around = ("", "") if prompt is None else (f"Domain: {prompt}\nSequence: ", "\nAnnotation:")
    return Family(
        load_tokenizer("opt", vocabulary=source, prompt=prompt),
        references.hugging_face(library, around),
        [2],
        [],
        [token for token in library.get_vocab(with_added_tokens=False) if set(token) <= set("ACGTN")],
        ["<pad>", "</s>", "<s>", "<mask>"],
        has_prompt=prompt is not None,
    )


def merge_list(name: str, seed: int) -> Family:
    """Byte-pair encoding with one random merge list, by the tokenizers library."""
    vocabulary, merges, letters = random_merge_list(name.removeprefix("merges-"), seed)
    library = hf.Tokenizer(hf.models.BPE(vocab=vocabulary, merges=merges, unk_token="[UNK]"))
    library.pre_tokenizer = hf.pre_tokenizers.Whitespace()
    arguments = {
        "bytes": np.array([vocabulary.get(chr(byte), -1) for byte in range(256)], np.int32),
        "merges": np.array(
            [[vocabulary[left], vocabulary[right], vocabulary[left + right]] for left, right in merges],
            np.int32,
        ).reshape(-1, 3),
        "unknown": vocabulary["[UNK]"],
        "literals": {},
    }
    tokenize = Tokenizer(_core.Bpe, arguments, name=name, vocabulary=vocabulary)
    tokens = [*letters, *(left + right for left, right in merges)]
    return Family(tokenize, references.hugging_face(library), [], [], tokens, ["[UNK]"])


#: Name → maker of the family, given a folder for files of its own.
FAMILIES: dict[str, Callable[[Path], Family]] = {
    **{f"dnabert-{k}": lambda folder, k=k: dnabert(k, folder) for k in (3, 4, 5, 6)},
    "specieslm": specieslm,
    **{
        name: lambda folder, name=name: nucleotide_transformer(name, folder)
        for name in ("nt-v1", "nt-v2", "nt-v2-3mer")
    },
    **{name: lambda _, name=name: characters(name) for name in ("hyenadna", "hyenadna-train", "caduceus")},
    "dnabert2": dnabert2,
    "opt": lambda folder: opt(folder, prompt=None),
    "opt-prompt": lambda folder: opt(folder, prompt=PROMPT),
}

#: Byte-pair encoding with merge lists drawn anew for every so many bases.
MERGE_LISTS = tuple(f"merges-{kind}" for kind in KINDS)
BASES_PER_MERGE_LIST = 1_000_000


def _training_texts() -> Iterable[str]:
    random = np.random.default_rng(0)
    letters = np.frombuffer(b"AAACCGGTTT", np.uint8)
    for _ in range(600):
        yield letters[random.integers(0, letters.size, 1000)].tobytes().decode()


def _train_byte_level(folder: Path) -> None:
    """A small byte-level vocabulary whose first four ids are OPT's."""
    trained = hf.Tokenizer(hf.models.BPE())
    trained.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.train_from_iterator(
        [" " + text for text in _training_texts()],
        hf.trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
            initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    model = json.loads(trained.to_str())["model"]
    (folder / "gpt2-vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "gpt2-merges.txt").write_text("\n".join(["#version: 0.2", *merges]))


def _bert_words(k: int, tokens: Sequence[str], folder: Path) -> Reference | None:
    """DNABERT as published: k-mers as words, looked up by BertTokenizer."""
    try:
        from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy
    except ImportError:
        return None
    path = folder / f"words_{k}.txt"
    path.write_text("\n".join(tokens))
    tokenizer = BertTokenizerLegacy(str(path), do_lower_case=False)

    def encode(texts: Sequence[str]):
        words = [" ".join(text[i : i + k] for i in range(len(text) - k + 1)) for text in texts]
        return from_lists([tokenizer(row, add_special_tokens=False)["input_ids"] for row in words])

    return encode


def _esm(tokens: Sequence[str], folder: Path) -> Reference | None:
    try:
        from transformers import EsmTokenizer
    except ImportError:
        return None
    path = folder / "vocab.txt"
    path.write_text("\n".join(tokens))
    tokenizer = EsmTokenizer(str(path))

    def encode(texts: Sequence[str]):
        return from_lists([tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts])

    return encode
