"""Any bytes as a vocabulary file give a tokenizer or a FastgenomeError, nothing else.

Run by python_target.py.
"""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import python_target

with python_target.watched("fastgenome.byte_level", "fastgenome.vocabularies"):
    from fastgenome import byte_level, errors, tokenizers

BPE = {
    "model": {
        "type": "BPE",
        "unk_token": "[UNK]",
        "vocab": {"[UNK]": 0, "[CLS]": 1, "A": 2, "C": 3, "AC": 4},
        "merges": ["A C"],
    },
    "pre_tokenizer": {"type": "Whitespace"},
    "added_tokens": [{"id": 1, "content": "[CLS]"}],
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}}],
        "special_tokens": {"[CLS]": {"ids": [1]}},
    },
}
BYTE_LEVEL_VOCABULARY = {
    token: number
    for number, token in enumerate(
        ["<s>", "<pad>", "</s>", "<unk>", *byte_level.DNA_SPELLING.values(), "AC", "ĠA"]
    )
}
BYTE_LEVEL = {
    "model": {"type": "BPE", "vocab": BYTE_LEVEL_VOCABULARY, "merges": [["A", "C"], ["Ġ", "A"]]},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
}
WORDS = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "A", "T", "C", "G", "candida_glabrata"])
BLOCKS = "\n".join(["<unk>", "<pad>", "<mask>", "<cls>", "A", "T", "C", "G", "N"])

#: Tokenizer, the file that the bytes become, and the file beside it.
READERS: list[tuple[str, str, dict[str, str]]] = [
    ("specieslm", "vocab.txt", {}),
    ("specieslm", "added_tokens.json", {"vocab.txt": WORDS}),
    ("nt-v2", "vocab.txt", {}),
    ("dnabert2", "tokenizer.json", {}),
    ("opt", "tokenizer.json", {}),
    ("opt", "vocab.json", {"merges.txt": "#version: 0.2\nA C\n"}),
    ("opt", "merges.txt", {"vocab.json": json.dumps(BYTE_LEVEL_VOCABULARY)}),
]
SEEDS = [
    WORDS,
    '{"homo_sapiens": 9}',
    BLOCKS,
    json.dumps(BPE),
    json.dumps(BYTE_LEVEL),
    json.dumps(BYTE_LEVEL_VOCABULARY),
    "#version: 0.2\nA C\nĠ A\n",
]
#: What replaces a part of a JSON document; a part is left out for the first of them.
REPLACEMENTS: list[object] = [
    *("left out", None, True, -1, 0, 1.5, 2**31, 10**400, float("inf"), "", "A", "A C", "<s>", "\ud800", "é"),
    *([], {}, [[]], ["A"], ["A", "C"], {"A": 1}, {"id": "A"}, [None]),
]
FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


def check(data: bytes) -> None:
    """Reads bytes as the file that the first of them names; anything but the two outcomes is raised.

    From 128 on, the bytes behind the first one are pairs instead: which part of an ordinary document becomes
    which of REPLACEMENTS. Changed bytes alone seldom make sound JSON.
    """
    if not data:
        return
    name, file, others = READERS[data[0] % len(READERS)]
    content = data[1:]
    if data[0] >= 128 and file.endswith(".json"):
        content = with_replacements(json.loads(SEEDS[data[0] % len(READERS)]), data[1:41])
    folder = FOLDER / str(data[0] % len(READERS))
    if not folder.is_dir():
        folder.mkdir()
        for other, text in others.items():
            (folder / other).write_text(text, encoding="utf-8")
    (folder / file).write_bytes(content)
    try:
        tokenize = tokenizers.load_tokenizer(name, vocabulary=folder)
        tokenize(["ACGTN", "acgtu-"], clean=False)
    except errors.FastgenomeError:
        return


def with_replacements(document: Any, choices: bytes) -> bytes:
    """A JSON document with parts replaced as pairs of bytes say."""
    for part, value in zip(choices[::2], choices[1::2], strict=False):
        places = list(parts(document))
        if not places:
            break
        holder, key = places[part % len(places)]
        replacement = REPLACEMENTS[value % len(REPLACEMENTS)]
        if replacement == "left out":
            del holder[key]
        else:
            holder[key] = copy.deepcopy(replacement)
    return json.dumps(document).encode()


def parts(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder and key below a JSON document."""
    if isinstance(document, dict):
        items = list(document.items())
    elif isinstance(document, list):
        items = list(enumerate(document))
    else:
        return
    for key, value in items:
        yield document, key
        yield from parts(value)


def first_inputs() -> list[bytes]:
    """The seeds as they are, and for each a replacement of one part."""
    count = len(READERS)
    structured = range(128 // count * count + count, 256 // count * count)
    return [
        *(bytes([number]) + seed.encode() for number, seed in enumerate(SEEDS)),
        *(bytes([number, number % 40, number * 7 % 256]) for number in structured),
    ]


if __name__ == "__main__":
    try:
        python_target.main(check, first_inputs())
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
