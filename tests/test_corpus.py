"""The pre-training corpus, its crops and masks, and the Markov baseline."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from fastgenome.errors import ArgumentError, InputError
from fastgenome.training.corpus import (
    BLOCK,
    build_corpus,
    mask_spans,
    reverse_complement,
    sample_crops,
)
from fastgenome.training.markov import MarkovModel


def random_dna(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def text(bases: np.ndarray) -> str:
    return bases.tobytes().decode()


def test_build_corpus_divides_without_loss() -> None:
    sequences = [random_dna(2 * BLOCK + 17), random_dna(300, 1), random_dna(5, 2), random_dna(3 * BLOCK, 3)]
    train, held_out = build_corpus(sequences, held_out=0.3, seed=1)
    blocks = [text(corpus.block(i)) for corpus in (train, held_out) for i in range(len(corpus.lengths))]
    expected = [
        s[i : i + BLOCK] for s in sequences for i in range(0, len(s), BLOCK) if len(s[i : i + BLOCK]) >= 6
    ]
    assert Counter(blocks) == Counter(expected)
    assert len(held_out.bases) > 0


def test_build_corpus_is_repeatable() -> None:
    sequences = [random_dna(400, seed) for seed in range(50)]
    first, second = (build_corpus(sequences, held_out=0.2, seed=5)[1].bases for _ in range(2))
    other = build_corpus(sequences, held_out=0.2, seed=6)[1].bases
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_build_corpus_refuses_what_it_cannot_use() -> None:
    with pytest.raises(InputError, match="at least 6"):
        build_corpus(["ACGT"], held_out=0.1, seed=0)
    with pytest.raises(ArgumentError, match="held_out"):
        build_corpus([random_dna(100)], held_out=0.9, seed=0)


def test_reverse_complement_twice_is_the_identity() -> None:
    bases = np.frombuffer(b"AACGTNNT", dtype=np.uint8)
    assert text(reverse_complement(bases)) == "ANNACGTT"
    assert np.array_equal(reverse_complement(reverse_complement(bases)), bases)


def test_sample_crops_come_from_blocks_on_both_strands() -> None:
    sequences = [random_dna(1000, 1), random_dna(40, 2)]
    corpus, _ = build_corpus(sequences, held_out=0.0, seed=0)
    crops = sample_crops(corpus, np.random.default_rng(0), bases=50_000, length=100)
    forward = [text(crop) in sequences[0] for crop in crops if len(crop) == 100]
    backward = [text(reverse_complement(crop)) in sequences[0] for crop in crops if len(crop) == 100]
    assert all(f or b for f, b in zip(forward, backward, strict=True))
    assert 0.4 < np.mean(forward) < 0.6
    whole = {text(crop) for crop in crops if len(crop) != 100}
    assert whole == {sequences[1], text(reverse_complement(np.frombuffer(sequences[1].encode(), np.uint8)))}
    assert 50_000 <= sum(map(len, crops)) < 50_100


def test_sample_crops_reaches_both_ends() -> None:
    corpus, _ = build_corpus(["A" + "C" * 98 + "G"], held_out=0.0, seed=0)
    crops = sample_crops(corpus, np.random.default_rng(0), bases=20_000, length=30)
    joined = "".join(map(text, crops))
    assert "A" in joined
    assert "G" in joined


@pytest.mark.parametrize("span", [1, 2, 6])
def test_mask_spans_hides_about_the_rate(span: int) -> None:
    rng = np.random.default_rng(0)
    masks = [mask_spans(500, rng, rate=0.15, span=span) for _ in range(400)]
    # Spans may overlap: the expected share is 1 - exp(-rate).
    assert np.mean(masks) == pytest.approx(1 - np.exp(-0.15), abs=0.01)
    runs = [b - a for mask in masks for a, b in pairwise(np.flatnonzero(np.diff(np.r_[0, mask, 0]))[:2])]
    assert min(runs) >= span


def test_mask_spans_of_short_sequences_stay_inside() -> None:
    for length in (1, 3, 6):
        assert 0 < mask_spans(length, np.random.default_rng(0), rate=0.15, span=6).sum() <= length


@pytest.mark.parametrize("order", [0, 1, 3])
def test_markov_model_equals_a_written_out_count(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgenome.training.markov._CHUNK", 1001)
    sequence = random_dna(3000, 4) + "N" + random_dna(500, 5)
    corpus, _ = build_corpus([sequence], held_out=0.0, seed=0)
    strands = [sequence, text(reverse_complement(corpus.bases))]

    def probability(context: str, base: str) -> float:
        prior = 0.25 if not context else probability(context[1:], base)
        if not context:
            counts = Counter(b for s in strands for i, b in enumerate(s) if i >= order and valid(s, i))
        else:
            counts = Counter(
                s[i] for s in strands for i in range(order, len(s)) if valid(s, i) and s[:i].endswith(context)
            )
        return (counts[base] + 20 * prior) / (counts.total() + 20)

    def valid(s: str, i: int) -> bool:
        return "N" not in s[i - order : i + 1]

    scores = MarkovModel(corpus, order).log_probability(corpus.bases)
    for i in (order, 100, 1500, 2999, 3400):
        expected = np.log(probability(sequence[i - order : i], sequence[i]))
        assert scores[i] == pytest.approx(expected, rel=1e-9)
    assert np.isnan(scores[:order]).all()
    assert np.isnan(scores[3000 : 3001 + order]).all()


def test_markov_model_of_a_repeat_is_certain() -> None:
    corpus, _ = build_corpus(["ACGT" * 500], held_out=0.0, seed=0)
    scores = MarkovModel(corpus, 2).log_probability(corpus.bases)
    assert np.exp(-np.nanmean(scores)) < 1.1
