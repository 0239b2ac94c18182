"""Features against their definitions written out, known biology, and scikit-learn's own checks."""

import gzip
import pickle
import random
from collections import Counter
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from over_numbers import OverNumbers
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.utils.estimator_checks import check_estimator

from fastgenome import features
from fastgenome.errors import ArgumentError, InputError
from fastgenome.features import (
    GCContent,
    KmerFrequency,
    ZCurve,
    at_skew,
    feature_set,
    gc_content,
    gc_skew,
    kmer_frequencies,
    kmer_names,
    min_length,
    zcurve,
    zcurve_names,
    zcurve_parameters,
)

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
AXES = {"x": ("AG", "CT"), "y": ("AC", "GT"), "z": ("AT", "CG")}


def reverse_complement(sequence: str) -> str:
    return sequence.translate(COMPLEMENT)[::-1]


def windows(sequence: str, k: int) -> list[tuple[int, str]]:
    """Position and k-mer of each window without N."""
    found = [(i, sequence[i : i + k]) for i in range(len(sequence) - k + 1)]
    return [(position, kmer) for position, kmer in found if "N" not in kmer]


def written_out_parameters(sequence: str, order: int, phases: int) -> list[float]:
    row = []
    for phase in range(phases):
        counts = Counter(kmer for position, kmer in windows(sequence, order) if position % phases == phase)
        total = sum(counts.values()) or 1
        for prefix in map("".join, product("ACGT", repeat=order - 1)):
            for plus, minus in AXES.values():
                up = sum(counts[prefix + base] for base in plus)
                down = sum(counts[prefix + base] for base in minus)
                row.append((up - down) / total)
    return row


@pytest.fixture(scope="module")
def sequences() -> list[str]:
    """Clean sequences: every length up to 36, blocks and their borders, runs of N."""
    rng = random.Random(11)
    weights = [6, 5, 4, 7, 1]
    random_ones = [
        "".join(rng.choices("ACGTN", weights, k=n)) for n in (*range(37), 254, 255, 256, 1023, 1030, 2500)
    ]
    return [*random_ones, "N" * 20, "ACGT" + "N" * 9 + "GATTACA" * 200, "A" * 600, "GC" * 300]


def test_summary_and_normalized_equal_definition(sequences):
    rows = []
    for sequence in sequences:
        counts = Counter(sequence)
        rows.append(
            [sum(counts[b] for b in plus) - sum(counts[b] for b in minus) for plus, minus in AXES.values()]
        )
    bases = np.array([[max(1, sum(base != "N" for base in sequence))] for sequence in sequences])
    np.testing.assert_array_equal(zcurve(sequences), rows)
    np.testing.assert_allclose(zcurve(sequences, mode="normalized"), np.array(rows) / bases, rtol=1e-15)


def test_cumulative_curve_equals_definition_and_ends_at_the_summary(sequences):
    curves = zcurve(sequences, mode="cumulative")
    summary = zcurve(sequences)
    assert curves.values.dtype == np.int32
    for number, sequence in enumerate(sequences):
        curve = curves.values[curves.offsets[number] : curves.offsets[number + 1]]
        letters = np.array(list(sequence), dtype="<U1")
        for column, (plus, minus) in enumerate(AXES.values()):
            steps = np.isin(letters, list(plus)).astype(int) - np.isin(letters, list(minus)).astype(int)
            np.testing.assert_array_equal(curve[:, column], np.cumsum(steps))
        if sequence:
            np.testing.assert_array_equal(curve[-1], summary[number])


@pytest.mark.parametrize("phases", [1, 2, 3])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_parameters_equal_definition(order, phases, sequences):
    expected = [written_out_parameters(sequence, order, phases) for sequence in sequences]
    values = zcurve_parameters(sequences, orders=(order,), phases=phases)
    np.testing.assert_allclose(values, expected, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize(
    ("orders", "phases", "width"),
    [
        ((1,), 1, 3),
        ((1,), 3, 9),
        ((2,), 1, 12),
        ((2,), 3, 36),
        ((3,), 1, 48),
        ((3,), 3, 144),
        ((1, 2, 3), 3, 189),
    ],
)
def test_parameter_sets_have_the_published_sizes_and_join_in_order(orders, phases, width, sequences):
    values = zcurve(sequences, mode="parameters", orders=orders, phases=phases)
    names = zcurve_names("parameters", orders=orders, phases=phases)
    assert values.shape == (len(sequences), width)
    assert len(set(names)) == width
    parts = [zcurve_parameters(sequences, orders=(order,), phases=phases) for order in orders]
    np.testing.assert_array_equal(values, np.hstack(parts))


def test_parameter_names_say_axis_prefix_and_phase():
    names = zcurve_names("parameters", orders=(1, 2), phases=3)
    values = zcurve_parameters(["NAGNNNNNN" * 3], orders=(1, 2), phases=3)[0]
    # A stands at phase 2, G at phase 3; the only dinucleotide, AG, begins at phase 2.
    found = {name: value for name, value in zip(names, values, strict=True) if value}
    assert found == {
        "x_phase2": 1, "y_phase2": 1, "z_phase2": 1,
        "x_phase3": 1, "y_phase3": -1, "z_phase3": -1,
        "x_A_phase2": 1, "y_A_phase2": -1, "z_A_phase2": -1,
    }  # fmt: skip


def test_reverse_complement_turns_x_and_y_and_keeps_z(sequences):
    forward, reverse = zcurve(sequences), zcurve([reverse_complement(sequence) for sequence in sequences])
    np.testing.assert_array_equal(reverse, forward * [-1, -1, 1])


def test_content_and_skews_equal_definition(sequences):
    def ratio(up: int, down: int) -> float:
        return up / down if down else 0.0

    counts = [Counter(sequence) for sequence in sequences]
    np.testing.assert_array_equal(
        gc_content(sequences), [ratio(n["G"] + n["C"], n["A"] + n["C"] + n["G"] + n["T"]) for n in counts]
    )
    np.testing.assert_array_equal(
        gc_skew(sequences), [ratio(n["G"] - n["C"], n["G"] + n["C"]) for n in counts]
    )
    np.testing.assert_array_equal(
        at_skew(sequences), [ratio(n["A"] - n["T"], n["A"] + n["T"]) for n in counts]
    )


def test_reverse_complement_keeps_gc_and_turns_skews(sequences):
    reverse = [reverse_complement(sequence) for sequence in sequences]
    np.testing.assert_array_equal(gc_content(reverse), gc_content(sequences))
    np.testing.assert_array_equal(gc_skew(reverse), -gc_skew(sequences))
    np.testing.assert_array_equal(at_skew(reverse), -at_skew(sequences))


@pytest.mark.parametrize("canonical", [False, True], ids=["per-strand", "canonical"])
@pytest.mark.parametrize("k", range(1, 9))
def test_kmer_counts_and_frequencies_equal_definition(k, canonical, sequences):
    names = kmer_names(k, canonical=canonical)
    column = {name: number for number, name in enumerate(names)}
    expected = np.zeros((len(sequences), len(names)))
    for number, sequence in enumerate(sequences):
        for _, kmer in windows(sequence, k):
            expected[number, column[min(kmer, reverse_complement(kmer)) if canonical else kmer]] += 1
    np.testing.assert_array_equal(kmer_frequencies(sequences, k, canonical=canonical, counts=True), expected)
    totals = np.maximum(expected.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(
        kmer_frequencies(sequences, k, canonical=canonical), expected / totals, rtol=1e-15
    )


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_canonical_kmers_are_the_same_on_both_strands(k, sequences):
    reverse = [reverse_complement(sequence) for sequence in sequences]
    forward_rows = kmer_frequencies(sequences, k, canonical=True)
    np.testing.assert_array_equal(kmer_frequencies(reverse, k, canonical=True), forward_rows)
    palindromes = 4 ** (k // 2) if k % 2 == 0 else 0
    assert forward_rows.shape[1] == (4**k + palindromes) // 2


def test_real_yeast_chromosome_is_at_rich_and_obeys_chargaffs_second_rule(data_dir: Path):
    files = sorted((data_dir / "yeast_genome").glob("*.fa.gz"))
    if not files:
        pytest.skip(f"needs a FASTA file in {data_dir / 'yeast_genome'}")
    with gzip.open(files[0], "rt") as file:
        chromosome = "".join(
            line.strip() for line, _ in zip(file, range(4000), strict=False) if line[0] != ">"
        )
    assert gc_content([chromosome])[0] == pytest.approx(0.39, abs=0.03)
    assert abs(gc_skew([chromosome])[0]) < 0.05
    both = kmer_frequencies([chromosome, reverse_complement(chromosome)], 3)
    np.testing.assert_allclose(both[0], both[1], atol=3e-3)


ALL_FUNCTIONS = [
    zcurve,
    partial(zcurve, mode="normalized"),
    zcurve_parameters,
    gc_content,
    gc_skew,
    at_skew,
    partial(kmer_frequencies, k=3),
]


@pytest.mark.parametrize("function", ALL_FUNCTIONS)
def test_sequences_without_bases_give_zeros_and_never_nan(function):
    values = function(["", "N", "NNNNNNNN", "---", "RYK"])
    assert values.shape[0] == 5
    assert not np.any(values)
    assert function([]).shape[0] == 0


@pytest.mark.parametrize("function", ALL_FUNCTIONS)
def test_written_variants_of_a_sequence_have_the_same_features(function):
    sequence = "ACGTTGCANNACGATCGATTACAGATTACAGGG"
    variants = [
        sequence,
        sequence.lower(),
        sequence.replace("T", "U"),
        sequence.replace("N", "R"),
        f"-{sequence}.",
    ]
    values = function(variants)
    assert (values == values[0]).all()
    assert values.any()


@pytest.mark.parametrize("function", [*ALL_FUNCTIONS, partial(zcurve, mode="cumulative")])
def test_text_that_is_not_dna_is_an_input_error(function):
    with pytest.raises(InputError, match=r"sequences\[1\].*'E' at position 2"):
        function(["ACGT", "MKE"[1:].replace("K", "GA")])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zcurve(["A"], mode="other"), "mode='other'"),
        (lambda: zcurve_parameters(["A"], orders=()), "orders="),
        (lambda: zcurve_parameters(["A"], orders=(9,)), "orders="),
        (lambda: zcurve_parameters(["A"], phases=0), "phases=0"),
        (lambda: kmer_frequencies(["A"], 9), "k=9"),
        (lambda: kmer_frequencies("ACGT", 2), "one str"),
        (lambda: ZCurve(mode="cumulative").fit(["A"]), "function zcurve"),
        (lambda: ZCurve(mode="cumulative").transform(["A"]), "function zcurve"),
        (lambda: ZCurve(parameters=189).transform(["A"]), 'need mode="parameters"'),
        (lambda: ZCurve("normalized", orders=(1, 2)).fit(["A"]), 'need mode="parameters"'),
        (lambda: ZCurve(phases=3).row_plan(), 'need mode="parameters"'),
        (lambda: zcurve(["A"], phases=3), 'need mode="parameters"'),
        (lambda: zcurve(["A"], mode="cumulative", unknown="nan"), "unknown='nan'"),
        (lambda: zcurve_names(orders=(1, 2)), 'need mode="parameters"'),
        (lambda: zcurve_parameters(["A"], phases=6, parameters=9), "one or the other"),
        (lambda: kmer_frequencies(["A"], 2, threads=-2), "threads=-2"),
        (lambda: GCContent().transform("ACGT"), "one str"),
        (lambda: GCContent().transform(np.array([["A", "C"]])), r"shape \(1, 2\)"),
        (lambda: feature_set(["zcurve", "other"]), "'other'"),
        (lambda: feature_set([]), "one or more"),
        (lambda: feature_set(["gc", "gc"]), "different"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


TRANSFORMERS = [
    ZCurve(),
    ZCurve("parameters", orders=(1, 2), phases=3),
    GCContent(),
    GCContent(skews=True),
    KmerFrequency(),
    KmerFrequency(k=3, canonical=True),
]


class NumericZCurve(OverNumbers, ZCurve):
    pass


class NumericGCContent(OverNumbers, GCContent):
    pass


class NumericKmerFrequency(OverNumbers, KmerFrequency):
    pass


NUMERIC = {ZCurve: NumericZCurve, GCContent: NumericGCContent, KmerFrequency: NumericKmerFrequency}


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=repr)
@pytest.mark.filterwarnings("ignore:Can't test estimator")
def test_transformers_pass_scikit_learns_checks_for_strings(transformer):
    # scikit-learn has few checks for string input; none may fail.
    assert check_estimator(transformer, on_skip=None, on_fail="raise")


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=repr)
def test_transformers_pass_scikit_learns_numeric_checks_over_rows_turned_into_dna(transformer):
    numeric = NUMERIC[type(transformer)](**transformer.get_params())
    results = check_estimator(numeric, on_skip=None, on_fail=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert failed == {}
    assert sum(result["status"] == "passed" for result in results) > 30


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=repr)
def test_transformers_work_cloned_pickled_and_as_pandas(transformer, sequences):
    pandas = pytest.importorskip("pandas")
    values = transformer.fit_transform(sequences)
    names = transformer.get_feature_names_out()
    assert values.shape == (len(sequences), len(names))
    for copy in (clone(transformer), pickle.loads(pickle.dumps(transformer))):
        np.testing.assert_array_equal(copy.transform(sequences), values)
    for container in (
        np.array(sequences),
        pandas.Series(sequences),
        pandas.DataFrame({"sequence": sequences}),
    ):
        np.testing.assert_array_equal(transformer.transform(container), values)
    frame = clone(transformer).set_output(transform="pandas").fit_transform(sequences)
    assert frame.columns.tolist() == names.tolist()
    np.testing.assert_array_equal(frame.to_numpy(), values)


def test_base_counts_pass_the_width_of_their_counters():
    # The core counts in fields of 16 bits and empties them every 65,535 characters.
    for length in (65_535, 65_536, 200_003):
        assert gc_content(["G" * length + "A" * length, "N" + "C" * length]).tolist() == [0.5, 1.0]
        assert zcurve(["T" * length]).tolist() == [[-length, -length, length]]


def test_columns_of_transformers_carry_the_named_feature():
    kmers = KmerFrequency(k=2).fit(["AC"])
    row = dict(zip(kmers.get_feature_names_out(), kmers.transform(["ACGA"])[0], strict=True))
    assert {name: value for name, value in row.items() if value} == pytest.approx(
        {"AC": 1 / 3, "CG": 1 / 3, "GA": 1 / 3}
    )
    content = GCContent(skews=True)
    assert dict(zip(content.get_feature_names_out(), content.transform(["GGGCAT"])[0], strict=True)) == {
        "gc_content": pytest.approx(4 / 6), "gc_skew": 0.5, "at_skew": 0.0,
    }  # fmt: skip


def test_feature_set_is_the_union_of_its_parts(sequences):
    union = feature_set(["kmer", "zcurve", "gc"]).fit(sequences)
    parts = make_union(KmerFrequency(), ZCurve(), GCContent()).fit_transform(sequences)
    np.testing.assert_array_equal(union.transform(sequences), parts)
    names = union.get_feature_names_out()
    assert [names[0], *names[-4:]] == ["kmer__AAAA", "zcurve__x", "zcurve__y", "zcurve__z", "gc__gc_content"]
    assert set(features.FEATURE_SETS) == {"zcurve", "gc", "kmer"}


def test_pipeline_learns_gc_rich_from_gc_poor():
    rng = random.Random(2)
    rich = ["".join(rng.choices("ACGT", [1, 3, 3, 1], k=80)) for _ in range(40)]
    poor = ["".join(rng.choices("ACGT", [3, 1, 1, 3], k=80)) for _ in range(40)]
    model = make_pipeline(
        make_union(ZCurve("normalized"), GCContent(), KmerFrequency(k=2)), LogisticRegression()
    )
    model.fit(rich[:20] + poor[:20], [1] * 20 + [0] * 20)
    assert model.score(rich[20:] + poor[20:], [1] * 20 + [0] * 20) == 1.0


@pytest.mark.parametrize(
    ("transformer", "expected"),
    [
        (ZCurve(), 1),
        (ZCurve("parameters", orders=(1, 3), phases=3), 3),
        (GCContent(skews=True), 1),
        (KmerFrequency(5), 5),
    ],
    ids=["zcurve", "parameters", "gc", "kmer"],
)
def test_min_length_is_the_longest_kmer_asked_for(transformer: object, expected: int) -> None:
    assert transformer.min_length == expected
    # One base less leaves the longest k-mers without a count.
    full, short = (
        np.count_nonzero(transformer.transform(["A" * length])) for length in (expected, expected - 1)
    )
    assert full > short


@pytest.mark.parametrize(
    ("names", "expected"), [(["gc"], 1), (["zcurve", "gc"], 1), (["gc", "kmer"], 4), ("kmer", 4)]
)
def test_min_length_of_sets_is_the_largest(names: list[str], expected: int) -> None:
    assert min_length(names) == expected
