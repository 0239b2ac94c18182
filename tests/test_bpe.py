"""Byte-pair encoding against the `tokenizers` library and against the definition, for any merge list."""

import json
import os
import random
import signal
import threading
from itertools import pairwise

import numpy as np
import pytest

from fastgenome import _core

Pair = tuple[str, str]

UNKNOWN = 0
ALPHABETS = {
    "one": "A",
    "two": "AC",
    "dna": "ACGT",
    "cased": "ACGTNacgtn",
    "bytes": "".join(map(chr, range(256))),
}


class List:
    """A merge list with a vocabulary whose ids are in any order, and its encoder."""

    def __init__(self, letters: str, merges: list[Pair], rng: random.Random) -> None:
        tokens = list(
            dict.fromkeys([*letters, *(part for pair in merges for part in (*pair, "".join(pair)))])
        )
        rng.shuffle(tokens)
        self.letters = letters
        self.merges = merges
        self.vocabulary = {"[UNK]": UNKNOWN} | {token: number for number, token in enumerate(tokens, start=1)}
        self.characters = np.full(256, -1, np.int32)
        for letter in letters:
            self.characters[ord(letter)] = self.vocabulary[letter]
        ids = self.vocabulary
        triples = [(ids[left], ids[right], ids[left + right]) for left, right in merges]
        self.triples = np.array(triples, np.int32).reshape(-1, 3)
        self.encoder = _core.Bpe(self.characters, self.triples, UNKNOWN, {})

    def encode(self, texts: list[str]) -> list[list[int]]:
        ids, offsets, _ = self.encoder.encode(texts, prefix=[], suffix=[], clean=False)
        return [ids[begin:end].tolist() for begin, end in pairwise(offsets)]

    def hugging_face(self, texts: list[str]) -> list[list[int]]:
        tokenizers = pytest.importorskip("tokenizers")
        model = tokenizers.models.BPE(vocab=self.vocabulary, merges=self.merges, unk_token="[UNK]")
        return [encoding.ids for encoding in tokenizers.Tokenizer(model).encode_batch(texts)]

    def written_out(self, text: str) -> list[int]:
        """The definition: as long as neighbours have a merge, perform that of lowest rank, leftmost first."""
        ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        symbols = list(text)
        while True:
            found = [
                (ranks[pair], place) for place, pair in enumerate(pairwise(symbols)) if tuple(pair) in ranks
            ]
            if not found:
                return [self.vocabulary.get(symbol, UNKNOWN) for symbol in symbols]
            place = min(found)[1]
            symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]


def random_list(rng: random.Random, letters: str, size: int, kind: str, longest: int = 14) -> List:
    """Merges over growing tokens: proper, with several ways to one token, in any order, or both."""
    tokens, merges = list(letters), []
    for _ in range(20 * size):
        left, right = rng.choice(tokens), rng.choice(tokens)
        is_known = left + right in tokens and kind in ("proper", "shuffled")
        is_repeated = is_known or (left, right) in merges or len(left + right) > longest
        if len(merges) < size and not is_repeated:
            merges.append((left, right))
            tokens.append(left + right)
    if kind in ("shuffled", "both"):
        rng.shuffle(merges)
    return List(letters, merges, rng)


def random_text(rng: random.Random, letters: str, length: int) -> str:
    return "".join(rng.choices(letters, k=length))


def adversarial_texts(rng: random.Random, merges: List) -> list[str]:
    """Repeats of letters, of short words and of tokens, some broken once, and tokens one behind the other."""
    letters, tokens = merges.letters, [token for token in merges.vocabulary if token != "[UNK]"]
    words = [*letters[:12], *(random_text(rng, letters, rng.randint(2, 9)) for _ in range(12))]
    words += rng.sample(tokens, min(12, len(tokens)))
    texts = [word * rng.randint(1, 1 + 300 // len(word)) for word in words]
    texts += [rng.choice(letters) + text + rng.choice(letters) for text in texts]
    texts += ["".join(rng.choices(tokens, k=rng.randint(1, 60))) for _ in range(30)]
    return texts


@pytest.mark.parametrize("kind", ["proper", "repeated", "shuffled", "both"])
@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("seed", range(6))
def test_ids_equal_hugging_face_for_any_list(seed, alphabet, kind):
    rng = random.Random(f"{seed} {alphabet} {kind}")
    letters = ALPHABETS[alphabet]
    merges = random_list(rng, letters, rng.choice([1, 5, 20, 100, 300]), kind, rng.choice([4, 14, 40]))
    assert merges.encoder.uses_table == (alphabet != "bytes" or letters_in_merges(merges) < 256)
    texts = [random_text(rng, letters, length) for length in range(0, 400, 3)]
    texts += adversarial_texts(rng, merges)
    assert merges.encode(texts) == merges.hugging_face(texts)


def letters_in_merges(merges: List) -> int:
    return len({letter for pair in merges.merges for letter in "".join(pair)})


@pytest.mark.parametrize("kind", ["proper", "repeated", "shuffled", "both"])
def test_ids_equal_the_definition(kind):
    rng = random.Random(kind)
    for size in (1, 3, 10, 30, 100):
        merges = random_list(rng, "ACG", size, kind)
        # "T" is unknown; each text is short, so that the quadratic definition stays quick.
        texts = [random_text(rng, "ACG" * 5 + "T", rng.randint(0, 60)) for _ in range(60)]
        assert merges.encode(texts) == [merges.written_out(text) for text in texts]


def test_white_space_and_unknown_characters_part_a_text():
    rng = random.Random(5)
    merges = random_list(rng, "ACGT", 60, "proper")
    pieces = [random_text(rng, "ACGT", length) for length in (0, 1, 7, 40, 200)]
    alone = merges.encode(pieces)
    for character, between in [
        (" ", []),
        ("\n", []),
        ("X", [UNKNOWN]),
        ("\x1a", [UNKNOWN]),
        ("é", [UNKNOWN]),
    ]:
        expected = [*alone[0]]
        for ids in alone[1:]:
            expected += between + ids
        assert merges.encode([character.join(pieces)]) == [expected]


def test_pair_that_stands_twice_has_its_later_rank():
    for twice, once, expected in [
        (("A", "C"), ("C", "G"), ["A", "CG"]),
        (("C", "G"), ("A", "C"), ["AC", "G"]),
    ]:
        merges = List("ACG", [twice, once, twice], random.Random(0))
        assert merges.encoder.uses_table
        assert merges.encode(["ACG"]) == [[merges.vocabulary[token] for token in expected]]
        assert merges.encode(["ACG"]) == merges.hugging_face(["ACG"])


def test_list_without_definite_texts_goes_by_rank():
    # Upper and lower case have one id, so that id 3 stands for several texts.
    characters = np.full(256, -1, np.int32)
    for letter, number in {"A": 1, "a": 1, "C": 2, "c": 2}.items():
        characters[ord(letter)] = number
    encoder = _core.Bpe(characters, np.array([(1, 2, 3), (3, 3, 4)], np.int32), UNKNOWN, {})
    assert not encoder.uses_table
    ids, _, _ = encoder.encode(["AcaCACCN aa"], prefix=[], suffix=[], clean=False)
    assert ids.tolist() == [4, 3, 2, UNKNOWN, 1, 1]


@pytest.mark.parametrize("letters", ["ACGT", "AC"])
def test_every_length_of_one_text(letters):
    rng = random.Random(letters)
    merges = random_list(rng, letters, 200, "proper")
    text = random_text(rng, letters, 600)
    texts = [text[:length] for length in range(601)]
    assert merges.encode(texts) == merges.hugging_face(texts)


def long_texts(rng: random.Random, merges: List) -> list[str]:
    """Texts of several blocks: random, of one letter, of repeats, and of repeats among random letters."""
    letters = merges.letters
    mixed = "".join(
        random_text(rng, letters, rng.randint(1, 6)) * rng.choice([1, 1, 1, 3, 400, 3000]) for _ in range(40)
    )
    return [random_text(rng, letters, 40_000), letters[0] * 30_001, letters[-2:] * 20_000, mixed]


@pytest.mark.parametrize("kind", ["proper", "shuffled", "both"])
def test_long_texts_equal_hugging_face_whole_and_in_parts(kind):
    rng = random.Random(kind)
    for letters in ("A", "AC", "ACGT"):
        merges = random_list(rng, letters, 150, kind, longest=33)
        texts = long_texts(rng, merges)
        expected = merges.hugging_face(texts)
        assert merges.encode(texts) == expected
        for text, ids in zip(texts, expected, strict=True):
            for parts in (1, 2, 3, 50, len(text) // 20):
                assert merges.encoder.encode_split(text, parts)[0].tolist() == ids


def test_borders_that_depend_on_all_that_follows():
    # Each merge comes before that of the pair to its left, so the last letter decides whether the first
    # token has one letter or two.
    letters = "".join(map(chr, range(0x30, 0x30 + 200)))
    merges = List(letters, list(pairwise(letters))[::-1], random.Random(0))
    texts = [letters[:length] for length in (2, 3, 150, 199, 200)]
    texts += [letters * 60 + letters[:end] for end in (0, 1, 2)]
    assert merges.encode(texts) == merges.hugging_face(texts)
    ids, _ = merges.encoder.encode_split(texts[-1], 40)
    assert ids.tolist() == merges.encode(texts[-1:])[0]


def test_border_within_a_token_that_becomes_whole_late():
    # All its beginnings of more than ten letters have a border behind "j", which a block or cut may end in.
    one, other = "abcdefghij", "klmnopqrstuvwxyz0123"
    chains = [(word[:end], word[end]) for word in (one, other) for end in range(1, len(word))]
    merges = List("".join(map(chr, range(0x30, 0x7B))), [*chains, (one, other)], random.Random(0))
    letter, whole = merges.vocabulary["a"], merges.vocabulary[one + other]
    for before in range(8150, 8195):
        expected = [letter] * before + [whole] + [letter] * 9000
        assert merges.encode(["a" * before + one + other + "a" * 9000]) == [expected]
    rng = random.Random(1)
    fillers = [rng.randint(1, 90) for _ in range(3000)]
    text = "".join("a" * filler + one + other for filler in fillers)
    ids, pieces = merges.encoder.encode_split(text, 1000)
    assert pieces > 500
    assert ids.tolist() == [number for filler in fillers for number in [letter] * filler + [whole]]


def test_split_cuts_ordinary_text_and_leaves_repeats_whole():
    rng = random.Random(3)
    merges = random_list(rng, "ACGT", 300, "proper", longest=8)
    assert merges.encoder.encode_split(random_text(rng, "ACGT", 50_000), 20)[1] == 20
    doubling = List("A", [("A" * 2**k, "A" * 2**k) for k in range(5)], rng)
    ids, pieces = doubling.encoder.encode_split("A" * 50_001, 20)
    assert pieces == 1
    assert ids.tolist() == doubling.encode(["A" * 50_001])[0]
    # An unknown letter is a cut of its own.
    ids, pieces = doubling.encoder.encode_split(("A" * 999 + "N") * 50, 20)
    assert pieces == 20
    assert ids.tolist() == doubling.encode([("A" * 999 + "N") * 50])[0]


@pytest.fixture(scope="module")
def dnabert2(data_dir) -> List:
    content = json.loads((data_dir / "tokenizers" / "dnabert2" / "tokenizer.json").read_text())["model"]
    merges = [tuple(pair.split() if isinstance(pair, str) else pair) for pair in content["merges"]]
    return List("ACGT", merges, random.Random(0))


def test_published_vocabulary_on_every_length_and_repeat(dnabert2):
    rng = random.Random(1)
    text = random_text(rng, "ACGT", 400)
    texts = [text[:length] for length in range(400)] + adversarial_texts(rng, dnabert2)
    texts += long_texts(rng, dnabert2)
    assert dnabert2.encode(texts) == dnabert2.hugging_face(texts)


@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 11, 12, 13, 40, 255, 256])
def test_any_number_of_letters_by_each_instruction_set(count, name):
    rng = random.Random(count)
    letters = "".join(rng.sample([chr(byte) for byte in range(256)], count))
    # Every letter has part in a merge; 256 are too many for the table.
    merges = List(letters, [(letter, letter) for letter in letters], rng)
    texts = [random_text(rng, letters * 3 + "".join(map(chr, range(256))), n) for n in (1, 15, 64, 130, 999)]
    texts = [
        "".join(letter for letter in text if letter in letters or not letter.isspace()) for text in texts
    ]
    try:
        if _core.limit_instruction_set(name) != name:
            pytest.skip(f"this processor lacks {name}")
        assert merges.encoder.uses_table == (count < 256)
        assert merges.encode(texts) == [merges.written_out(text) for text in texts]
    finally:
        _core.limit_instruction_set("avx512")


def test_equal_lists_share_their_table(dnabert2):
    assert dnabert2.encoder.uses_table
    again = _core.Bpe(dnabert2.characters, dnabert2.triples, UNKNOWN, {})
    assert again.is_made
    changed = dnabert2.triples[:-1]
    assert not _core.Bpe(dnabert2.characters, changed, UNKNOWN, {}).is_made


def test_first_texts_from_many_threads(dnabert2):
    text = random_text(random.Random(2), "ACGT", 2000)
    expected = dnabert2.hugging_face([text])
    fresh = List("ACGT", dnabert2.merges, random.Random(77))
    names = {number: token for token, number in fresh.vocabulary.items()}
    found: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: found.append([names[number] for number in fresh.encode([text])[0]]))
        for _ in range(8)
    ]
    assert not fresh.encoder.is_made
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spelled = {number: token for token, number in dnabert2.vocabulary.items()}
    assert found == [[spelled[number] for number in expected[0]]] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_child_of_a_fork_makes_its_own_table(dnabert2):
    text = random_text(random.Random(2), "ACGT", 2000)
    fresh = List("ACGT", dnabert2.merges, random.Random(78))
    maker = threading.Thread(target=fresh.encode, args=([text],))
    maker.start()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that waits for ever for its parent's lock ends too
        os._exit(0 if len(fresh.encode([text])[0]) == len(dnabert2.encode([text])[0]) else 1)
    maker.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
