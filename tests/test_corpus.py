"""The pre-training corpus, its crops and masks, and the Markov baseline."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from fastgenome.errors import ArgumentError, InputError
from fastgenome.training.corpus import (
    BLOCK,
    build_corpus,
    hide_bases,
    known_bases,
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
    train, held_out, (share,) = build_corpus([sequences], held_out=0.3, seed=1)
    blocks = [text(corpus.block(i)) for corpus in (train, held_out) for i in range(len(corpus.lengths))]
    expected = [
        s[i : i + BLOCK] for s in sequences for i in range(0, len(s), BLOCK) if len(s[i : i + BLOCK]) >= 6
    ]
    assert Counter(blocks) == Counter(expected)
    assert len(held_out.bases) > 0
    assert share.blocks_too_short == 1
    assert share.train_bases == len(train.bases)


def test_build_corpus_gives_every_source_its_share() -> None:
    sources = [[random_dna(100 + i, i) for i in range(first, first + 40)] for first in (0, 40)]
    sources.insert(1, ["ACG", "N" * 500, "ACGTN"])
    train, held_out, shares = build_corpus(sources, held_out=0.3, seed=1)
    together = build_corpus([[s for source in sources for s in source]], held_out=0.3, seed=1)
    assert np.array_equal(train.bases, together.train.bases)
    assert np.array_equal(held_out.bases, together.held_out.bases)
    for source, share in zip(sources, shares, strict=True):
        corpus = share.held_out
        blocks = [text(corpus.block(i)) for i in range(len(corpus.lengths))]
        assert set(blocks) <= set(source)
        used = [s for s in source if len(s.replace("N", "")) >= 6]
        assert share.train_bases + sum(map(len, blocks)) == sum(map(len, used))
        assert share.blocks_too_short == len(source) - len(used)
    assert [len(share.held_out.lengths) > 0 for share in shares] == [True, False, True]
    assert sum(len(share.held_out.bases) for share in shares) == len(held_out.bases)


def test_build_corpus_counts_held_out_blocks_that_train_too() -> None:
    alone = [random_dna(200, i) for i in range(40)]
    shared = [random_dna(300, 100 + i) for i in range(40)]
    opposite = [text(reverse_complement(np.frombuffer(s.encode(), np.uint8))) for s in shared]
    train, _, shares = build_corpus([alone, shared, opposite], held_out=0.3, seed=0)
    trained = {text(train.block(i)) for i in range(len(train.lengths))}
    both = trained | {text(reverse_complement(np.frombuffer(s.encode(), np.uint8))) for s in trained}
    for share in shares:
        held = [text(share.held_out.block(i)) for i in range(len(share.held_out.lengths))]
        assert share.repeated_bases == sum(len(block) for block in held if block in both)
    assert shares[0].repeated_bases == 0
    assert 0 < shares[1].repeated_bases < len(shares[1].held_out.bases)


def test_build_corpus_is_repeatable() -> None:
    sequences = [random_dna(400, seed) for seed in range(50)]
    first, second = (build_corpus([sequences], held_out=0.2, seed=5).held_out.bases for _ in range(2))
    other = build_corpus([sequences], held_out=0.2, seed=6).held_out.bases
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("sequence", ["ACGT", "N" * 100, "ACGTA" + "N" * 100], ids=str)
def test_build_corpus_refuses_what_it_cannot_train_on(sequence: str) -> None:
    with pytest.raises(InputError, match="at least 6 known bases"):
        build_corpus([[sequence]], held_out=0.1, seed=0)


def test_build_corpus_refuses_a_share_beyond_one_half() -> None:
    with pytest.raises(ArgumentError, match="held_out must lie between"):
        build_corpus([[random_dna(100)]], held_out=0.9, seed=0)


@pytest.mark.parametrize("context", [0, 1, 3, 20])
def test_known_bases_equals_its_definition(context: int) -> None:
    for sequence in ("ACGTNACNNGTACGTA", "N", "ACG", ""):
        found = known_bases(np.frombuffer(sequence.encode(), np.uint8), context)
        expected = [i >= context and "N" not in sequence[i - context : i + 1] for i in range(len(sequence))]
        assert found.tolist() == expected


def test_hide_bases_hides_known_bases_only() -> None:
    rng = np.random.default_rng(0)
    crops = [np.frombuffer(s.encode(), np.uint8) for s in ("N" * 40, "ACGT" * 10, "ACN" * 20)]
    for _ in range(50):
        masks = hide_bases(crops, rng, rate=0.3, span=2)
        assert all(ord("N") not in crop[mask] for crop, mask in zip(crops, masks, strict=True))
        assert masks[1].any()
        assert masks[2].any()


def test_hide_bases_of_known_crops_are_spans() -> None:
    crops = [np.frombuffer(random_dna(n, n).encode(), np.uint8) for n in (50, 90)]
    found = hide_bases(crops, np.random.default_rng(3), rate=0.15, span=2)
    rng = np.random.default_rng(3)
    for crop, mask in zip(crops, found, strict=True):
        assert np.array_equal(mask, mask_spans(len(crop), rng, rate=0.15, span=2))


def test_reverse_complement_twice_is_the_identity() -> None:
    bases = np.frombuffer(b"AACGTNNT", dtype=np.uint8)
    assert text(reverse_complement(bases)) == "ANNACGTT"
    assert np.array_equal(reverse_complement(reverse_complement(bases)), bases)


def test_sample_crops_come_from_blocks_on_both_strands() -> None:
    sequences = [random_dna(1000, 1), random_dna(40, 2)]
    corpus = build_corpus([sequences], held_out=0.0, seed=0).train
    crops = sample_crops(corpus, np.random.default_rng(0), bases=50_000, length=100)
    forward = [text(crop) in sequences[0] for crop in crops if len(crop) == 100]
    backward = [text(reverse_complement(crop)) in sequences[0] for crop in crops if len(crop) == 100]
    assert all(f or b for f, b in zip(forward, backward, strict=True))
    assert 0.4 < np.mean(forward) < 0.6
    whole = {text(crop) for crop in crops if len(crop) != 100}
    assert whole == {sequences[1], text(reverse_complement(np.frombuffer(sequences[1].encode(), np.uint8)))}
    assert 50_000 <= sum(map(len, crops)) < 50_100


def test_sample_crops_reaches_both_ends() -> None:
    corpus = build_corpus([["A" + "C" * 98 + "G"]], held_out=0.0, seed=0).train
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
    corpus = build_corpus([[sequence]], held_out=0.0, seed=0).train
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
    corpus = build_corpus([["ACGT" * 500]], held_out=0.0, seed=0).train
    scores = MarkovModel(corpus, 2).log_probability(corpus.bases)
    assert np.exp(-np.nanmean(scores)) < 1.1
