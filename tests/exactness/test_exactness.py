"""The comparison of driver.py, in small: every tokenizer and the features, and that it finds a fault."""

import string

import driver
import numpy as np
import paths as ways
import pytest
from comparison import Mismatch, compare, expected_ids
from families import FAMILIES, MERGE_LISTS
from feature_checks import check_features

SEED = 20_260
#: Of each tokenizer, so that all have more than 10⁷ together.
BASES = 1_000_000


@pytest.mark.parametrize("name", [*FAMILIES, *MERGE_LISTS])
def test_every_path_equals_the_reference(name, capsys):
    outcome = driver.check_tokenizer(name, bases=BASES, seed=SEED)
    assert outcome.mismatches == 0, capsys.readouterr().out
    assert outcome.bases >= BASES
    assert len(outcome.paths) == len(set(outcome.paths))


def test_all_tokenizers_have_ten_million_characters_together():
    assert BASES * len([*FAMILIES, *MERGE_LISTS]) >= 10_000_000


def test_features_equal_their_definitions(capsys):
    bases, names, mismatches, _ = check_features(BASES // 10, SEED, driver.genome())
    assert mismatches == 0, capsys.readouterr().out
    assert bases >= BASES // 10
    assert names


class FaultyEncoder:
    """An encoder whose last id is wrong where a text has 63 characters modulo 64 and holds GATTACA."""

    def __init__(self, encoder):
        self.encoder = encoder

    def encode(self, texts, **options):
        ids, offsets, invalid = self.encoder.encode(texts, **options)
        for number, text in enumerate(texts):
            if len(text) % 64 == 63 and "GATTACA" in text:
                ids[offsets[number + 1] - 1] += 1
        return ids, offsets, invalid


def test_fault_is_found_and_shrunk_to_the_smallest_text(tmp_path):
    family = FAMILIES["hyenadna"](tmp_path)
    family.tokenize._encoder = FaultyEncoder(family.tokenize._encoder)
    letters = np.random.default_rng(1).choice(list(string.ascii_uppercase + "ACGT" * 9), 20_000)
    texts = ["".join(letters[i : i + 200]) for i in range(0, 20_000, 200)]
    texts[57] = "ACGTAC" * 40 + "GATTACA" + "A" * (320 - 247 - 1)
    path = next(way for way in ways.paths(family) if way.name.endswith("call"))
    found = compare(family, path, texts, False, expected_ids(family, texts, False))
    assert isinstance(found, Mismatch)
    assert len(found.texts) == 1
    assert len(found.texts[0]) in (63, 127)
    assert "GATTACA" in found.texts[0]
    assert found.expected[:-1] == found.got[:-1]
    assert found.expected[-1] + 1 == found.got[-1]
