"""Rows of features: parameter sets, norms and layouts, policies for N, and every way to compute them."""

import random
from collections import Counter
from functools import partial

import numpy as np
import pytest
from feature_definitions import (
    awkward_sequences,
    block_parameters,
    each_instruction_set,
    kmers_of,
    parameters,
    reverse_complement,
)

from fastgenome import _core, features
from fastgenome.errors import ArgumentError, InputError
from fastgenome.features import (
    PARAMETER_SETS,
    GCContent,
    KmerFrequency,
    ParameterSet,
    ZCurve,
    base_counts,
    kmer_frequencies,
    kmer_names,
    zcurve_names,
    zcurve_parameters,
)

NORMS = ["count", "length", "phase", "conditional"]


@pytest.fixture(scope="module")
def sequences() -> list[str]:
    return awkward_sequences()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("phases", range(1, 7))
@pytest.mark.parametrize("order", range(1, 7))
def test_any_order_phase_and_norm_equals_definition(order, phases, norm):
    rng = random.Random(order * 10 + phases)
    lengths = (0, order - 1, order, order + 1, 97, 401) if order < 5 else (order, 203)
    batch = ["".join(rng.choices("ACGTN", [6, 5, 4, 7, 1], k=n)) for n in lengths]
    expected = [block_parameters(sequence, order, phases, norm) for sequence in batch]
    values = zcurve_parameters(batch, parameters=ParameterSet(((order, phases),), norm))
    np.testing.assert_allclose(values, expected, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("phases", [1, 3])
@pytest.mark.parametrize("order", range(1, 5))
def test_many_kmers_of_one_kind_are_counted(order, phases):
    """Beyond what a counter of one byte holds, and at each phase of a stretch between two N."""
    rng = random.Random(order)
    batch = ["A" * (765 + more) for more in (0, 3, 4, 8)]
    batch += ["N" * lead + unit * (2000 // len(unit)) for lead in range(3) for unit in ("T", "CAG", "GC")]
    batch += ["".join(rng.choices("ACGT", k=n)) for n in (*range(250, 275), *range(762, 780), 3000)]
    batch += ["N" * lead + "".join(rng.choices("ACGT", k=400)) + "NN" + "CGT" * 100 for lead in range(3)]
    expected = [block_parameters(sequence, order, phases, "count") for sequence in batch]
    chosen = ParameterSet(((order, phases),), "count")
    for name in each_instruction_set():
        values = zcurve_parameters(batch, parameters=chosen)
        np.testing.assert_array_equal(values, expected, err_msg=name)


@pytest.mark.parametrize("number", PARAMETER_SETS)
def test_published_sets_have_their_size_and_equal_definition(number, sequences):
    blocks = PARAMETER_SETS[number]
    values = zcurve_parameters(sequences, parameters=number)
    assert values.shape == (len(sequences), number)
    assert len(set(zcurve_names("parameters", parameters=number))) == number
    chosen = sequences[::5]
    np.testing.assert_allclose(
        zcurve_parameters(chosen, parameters=number),
        [parameters(sequence, blocks) for sequence in chosen],
        rtol=1e-14,
        atol=1e-16,
    )
    np.testing.assert_array_equal(ZCurve("parameters", parameters=number).transform(sequences), values)


@pytest.mark.parametrize("layout", ["phase-major", "prefix-major"])
@pytest.mark.parametrize("letters", ["ACGT", "AGCT", "TGCA"])
def test_each_named_column_holds_the_kmers_that_it_names(layout, letters):
    chosen = ParameterSet(((1, 3), (2, 3), (3, 2)), "count", layout, letters)
    names = chosen.names()
    assert len(set(names)) == len(names) == 9 + 36 + 96
    for column, name in enumerate(names):
        axis, *rest = name.split("_")
        phase = int(rest.pop().removeprefix("phase")) - 1
        prefix = rest[0] if rest else ""
        phases = 2 if len(prefix) == 2 else 3
        # One k-mer alone, at the phase of the column: the prefix, and a base that the axis adds or takes.
        for base in "ACGT":
            sequence = "N" * (6 + phase) + prefix + base + "N" * 3
            sign = 1 if base in {"x": "AG", "y": "AC", "z": "AT"}[axis] else -1
            assert zcurve_parameters([sequence], parameters=chosen)[0, column] == sign, name
        elsewhere = "N" * (6 + (phase + 1) % phases) + prefix + "A"
        assert zcurve_parameters([elsewhere], parameters=chosen)[0, column] == 0, name


# Where ZCurvePy 1.5.9 is right: not in dinucleotides, whose y is x, nor in "local" beyond trinucleotides.
@pytest.mark.parametrize(
    ("norm", "freq", "local"),
    [("phase", True, False), ("conditional", True, True), ("count", False, False)],
    ids=["phase", "conditional", "count"],
)
@pytest.mark.parametrize(("order", "phases"), [(1, 1), (1, 3), (3, 1), (3, 3), (4, 3)])
def test_zcurvepys_columns_are_phase_major_in_the_order_agct(order, phases, norm, freq, local):
    zcurvepy = pytest.importorskip("ZCurvePy")
    if order > 3 and local:
        pytest.skip("ZCurvePy has no conditional frequencies of this order")
    rng = random.Random(order)
    batch = ["".join(rng.choices("ACGT", k=n)) for n in (40, 301, 500)]
    peer = zcurvepy.BatchZCurveEncoder(
        hyper_params=[{"k": order, "phase": phases, "freq": freq, "local": local}], n_jobs=1
    )
    chosen = ParameterSet(((order, phases),), norm, letters="AGCT")
    np.testing.assert_allclose(zcurve_parameters(batch, parameters=chosen), peer(batch), atol=2e-7)


@pytest.mark.parametrize("k", [2, 3, 6])
def test_pykmertools_columns_are_the_canonical_ones(k):
    pykmertools = pytest.importorskip("pykmertools")
    rng = random.Random(k)
    batch = ["".join(rng.choices("ACGT", k=n)) for n in (40, 301, 500)]
    peer = pykmertools.OligoComputer(k)
    assert peer.get_header() == kmer_names(k, canonical=True)
    np.testing.assert_allclose(
        kmer_frequencies(batch, k, canonical=True), peer.vectorise_batch(batch), atol=1e-15
    )


def test_reverse_complement_mirrors_phase_free_components_of_pairs(sequences):
    # A dinucleotide of one strand is its reverse complement on the other.
    forward = dict(zip(kmer_names(2), kmer_frequencies(sequences, 2, counts=True).T, strict=True))
    other = [reverse_complement(sequence) for sequence in sequences]
    backward = dict(zip(kmer_names(2), kmer_frequencies(other, 2, counts=True).T, strict=True))
    for kmer, counts in forward.items():
        np.testing.assert_array_equal(counts, backward[reverse_complement(kmer)])


def test_base_counts_equal_definition_at_every_length():
    rng = random.Random(5)
    batch = ["".join(rng.choices("ACGTN", k=n)) for n in (*range(140), 64 * 255, 64 * 256 + 63, 70_001)]
    expected = [[Counter(sequence)[base] for base in "ACGT"] for sequence in batch]
    for name in each_instruction_set():
        np.testing.assert_array_equal(base_counts(batch), expected, err_msg=name)


WAYS = {
    "base counts": lambda batch, **k: base_counts(batch, **k),
    "z-curve 189": partial(zcurve_parameters, parameters=189),
    "z-curve 69 conditional": partial(
        zcurve_parameters, parameters=ParameterSet(PARAMETER_SETS[69], "conditional")
    ),
    "z-curve order 5, 6 phases": partial(zcurve_parameters, orders=(5,), phases=6),
    "z-curve prefix-major": partial(
        zcurve_parameters, parameters=ParameterSet(PARAMETER_SETS[189], "length", "prefix-major", "AGCT")
    ),
    "3-mers": partial(kmer_frequencies, k=3),
    "6-mers, canonical": partial(kmer_frequencies, k=6, canonical=True),
    "8-mer counts": partial(kmer_frequencies, k=8, counts=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_threads_and_instruction_sets_give_the_same_bits(way, sequences):
    run = WAYS[way]
    _core.limit_instruction_set("baseline")
    try:
        expected = run(sequences, threads=1)
    finally:
        _core.limit_instruction_set("avx512")
    for name in each_instruction_set():
        for threads in (1, 2, 7):
            np.testing.assert_array_equal(run(sequences, threads=threads), expected, err_msg=name)


@pytest.mark.parametrize(
    "rows",
    [
        _core.ZCurveRows([(1, 3), (2, 3), (3, 3), (4, 1)], "phase"),
        _core.KmerRows(4, np.arange(256, dtype=np.uint16), 256, True),
    ],
    ids=["zcurve", "kmers"],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_counters_of_64_bits_count_the_same(rows, dtype, sequences):
    batch = tuple(sequences)
    narrow, wide = (np.full((len(batch), rows.width), 7, dtype) for _ in range(2))
    assert rows.fill(batch, narrow, unknown="skip") == (-1, -1)
    assert rows.fill(batch, wide, unknown="skip", wide=True) == (-1, -1)
    np.testing.assert_array_equal(narrow, wide)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "base counts"])
def test_dtype_and_out_hold_the_same_rows(way, sequences):
    run = WAYS[way]
    expected = run(sequences)
    assert expected.dtype == np.float64
    single = run(sequences, dtype=np.float32)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, expected.astype(np.float32))
    for dtype in (np.float64, np.float32):
        buffer = np.full(expected.shape, np.nan, dtype)
        assert run(sequences, out=buffer) is buffer
        np.testing.assert_array_equal(buffer, expected.astype(dtype))


def test_base_counts_write_into_the_callers_array():
    buffer = np.full((2, 4), -1)
    assert base_counts(["ACGGT", "NNT"], out=buffer) is buffer
    assert buffer.tolist() == [[1, 1, 2, 1], [0, 0, 0, 1]]


POLICED = [
    zcurve_parameters,
    features.zcurve,
    partial(features.zcurve, mode="normalized"),
    partial(zcurve_parameters, parameters=ParameterSet(((2, 3),), layout="prefix-major")),
    features.gc_content,
    features.gc_skew,
    features.at_skew,
    partial(kmer_frequencies, k=2),
]


@pytest.mark.parametrize("run", POLICED)
def test_policies_for_unknown_bases(run):
    batch = ["ACGTTGCAAG", "ACGTRGCAAG", "acgt-ugca.a", "ACGN", ""]
    with pytest.raises(InputError, match="not DNA"):
        run([*batch, "ACTU"], unknown="skip")
    batch[2] = "acgg-gca.a"
    skipped = run(batch)
    assert not np.isnan(skipped).any()
    masked = run(batch, unknown="nan")
    rows_with_unknown = np.isnan(masked).reshape(len(batch), -1)
    assert rows_with_unknown.all(axis=1).tolist() == [False, True, False, True, False]
    assert rows_with_unknown.any(axis=1).tolist() == [False, True, False, True, False]
    np.testing.assert_array_equal(masked[[0, 2, 4]], skipped[[0, 2, 4]])
    with pytest.raises(InputError, match=r"sequences\[1\] holds an N"):
        run(batch, unknown="error")
    np.testing.assert_array_equal(run([batch[0], batch[2]], unknown="error"), skipped[[0, 2]])


@pytest.mark.parametrize(
    "transformer",
    [
        ZCurve(unknown="nan"),
        ZCurve("parameters", parameters=69, unknown="nan"),
        GCContent(skews=True, unknown="nan"),
        KmerFrequency(3, counts=True, unknown="nan"),
    ],
    ids=repr,
)
def test_transformers_take_the_policy(transformer):
    assert np.isnan(transformer.fit_transform(["ACGT", "ANGT"])).all(axis=1).tolist() == [False, True]


def test_transformer_of_counts_counts():
    values = KmerFrequency(2, counts=True).transform(["ACGAC"])[0]
    found = dict(zip(kmer_names(2), values, strict=True))
    assert {name: value for name, value in found.items() if value} == {"AC": 2, "CG": 1, "GA": 1}
    assert len(kmers_of("ACGAC", 2)) == values.sum()


def test_blocks_may_be_lists():
    assert zcurve_parameters(["ACGT"], parameters=ParameterSet([[1, 3], [2, 1]])).shape == (1, 21)


read_only = np.zeros((1, 16))
read_only.flags.writeable = False


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ParameterSet(((0, 1),)), "orders of 1 to 8"),
        (lambda: ParameterSet(((9, 1),)), "orders of 1 to 8"),
        (lambda: ParameterSet(((1, 0),)), "phases of 1 to 1024"),
        (lambda: ParameterSet(((1, 1),), "other"), "norm='other'"),
        (lambda: ParameterSet(((1, 1),), layout="other"), "layout='other'"),
        (lambda: ParameterSet(((1, 1),), letters="ACGG"), "letters='ACGG'"),
        (lambda: ParameterSet(((1, 1), (1, 1))), "twice"),
        (lambda: zcurve_parameters(["A"], parameters=ParameterSet(())), "no blocks"),
        (lambda: zcurve_parameters(["A"], parameters=7), "parameters=7"),
        (lambda: kmer_frequencies(["A"], 2, unknown="other"), "unknown='other'"),
        (lambda: features.gc_content(["A"], unknown="other"), "unknown='other'"),
        (lambda: kmer_frequencies(["A"], 2, dtype=np.int32), "dtype=int32"),
        (lambda: kmer_frequencies(["A"], 2, out=np.zeros((2, 16))), "out is float64 \\(2, 16\\)"),
        (lambda: kmer_frequencies(["A"], 2, out=np.zeros((1, 16), np.int64)), "out is int64"),
        (lambda: kmer_frequencies(["A"], 2, out=np.zeros((16, 1)).T[:, ::-1]), "C-contiguous"),
        (lambda: kmer_frequencies(["A"], 2, out=read_only), "writable"),
        (lambda: kmer_frequencies(["A"], 2, out=[0.0] * 16), "out is list"),
        (lambda: base_counts(["A"], out=np.zeros((1, 4))), "int64"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((2, 12)),
        np.zeros((1, 12), np.float16),
        np.zeros((1, 12), np.int64),
        np.zeros((1, 24))[:, ::2],
        np.zeros(12),
    ],
)
def test_the_core_itself_refuses_an_array_that_does_not_fit(out):
    rows = _core.ZCurveRows([(2, 1)], "phase")
    with pytest.raises(ValueError, match="out must be"):
        rows.fill(("ACGT",), out, unknown="skip")
    with pytest.raises(ValueError, match="out must be"):
        rows.fill_windows("ACGT", out, window=4, stride=1, unknown="skip")
