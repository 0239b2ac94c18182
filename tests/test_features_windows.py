"""Features of sliding windows equal those of each window taken by itself."""

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
from feature_definitions import block_parameters, each_instruction_set, parameters

from fastgenome import _core
from fastgenome.errors import ArgumentError, InputError
from fastgenome.features import (
    PARAMETER_SETS,
    GCContent,
    KmerFrequency,
    ParameterSet,
    ZCurve,
    cumulative_skew,
    kmer_frequencies,
    windowed,
)

FEATURES = [
    ZCurve(),
    ZCurve("normalized"),
    ZCurve("parameters", parameters=189),
    ZCurve("parameters", parameters=69),
    ZCurve("parameters", parameters=ParameterSet(((4, 5), (2, 2)), "length")),
    ZCurve("parameters", parameters=ParameterSet(((2, 3), (3, 1)), "conditional", "prefix-major", "AGCT")),
    GCContent(),
    GCContent(skews=True),
    KmerFrequency(k=1, counts=True),
    KmerFrequency(k=3),
    KmerFrequency(k=5, canonical=True, counts=True),
]
GEOMETRIES = [
    (1, 1),
    (2, 1),
    (7, 3),
    (30, 30),
    (30, 31),
    (50, 7),
    (64, 200),
    (300, 1),
    (999, 250),
    (1500, 1100),
]


def chromosome(size: int = 2600, seed: int = 3) -> str:
    rng = random.Random(seed)
    bases = rng.choices("ACGT", [6, 5, 4, 7], k=size)
    for _ in range(size // 150):
        begin = rng.randrange(size)
        bases[begin : begin + rng.choice((1, 1, 2, 9, 40))] = "N"
    return "".join(bases)[:size]


def cut(sequence: str, window: int, stride: int) -> list[str]:
    return [sequence[i : i + window] for i in range(0, len(sequence) - window + 1, stride)]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("feature", FEATURES, ids=repr)
def test_each_window_has_the_features_of_its_bases(feature, geometry):
    window, stride = geometry
    sequence = chromosome()
    parts = cut(sequence, window, stride)
    starts, values = windowed(sequence, feature, window=window, stride=stride)
    assert starts.tolist() == list(range(0, len(sequence) - window + 1, stride))
    np.testing.assert_array_equal(values, feature.fit_transform(parts))


@pytest.mark.parametrize("norm", ["count", "length", "phase", "conditional"])
@pytest.mark.parametrize(("window", "stride"), [(20, 1), (33, 5), (40, 40)])
def test_windows_equal_the_definition(window, stride, norm):
    sequence = chromosome(300)
    feature = ZCurve("parameters", parameters=ParameterSet(((2, 3), (1, 3)), norm))
    expected = [
        block_parameters(part, 2, 3, norm) + block_parameters(part, 1, 3, norm)
        for part in cut(sequence, window, stride)
    ]
    values = windowed(sequence, feature, window=window, stride=stride).values
    np.testing.assert_allclose(values, expected, rtol=1e-14, atol=1e-16)


def test_phases_count_from_the_start_of_each_window():
    feature = ZCurve("parameters", orders=(1,), phases=3)
    values = windowed("ACG" * 10, feature, window=6, stride=1).values
    names = feature.get_feature_names_out().tolist()
    # A stands at the first, then the third, then the second phase; of the three letters, it alone has z > 0.
    at = [names.index(f"z_phase{phase}") for phase in (1, 3, 2)]
    for start, row in enumerate(values):
        assert row[at[start % 3]] == 1


@pytest.mark.parametrize(
    ("size", "window", "stride", "count"),
    [
        (0, 1, 1, 0),
        (9, 10, 1, 0),
        (10, 10, 1, 1),
        (10, 10, 99, 1),
        (11, 10, 1, 2),
        (25, 10, 10, 2),
        (5, 1, 9, 1),
    ],
)
def test_number_of_windows(size, window, stride, count):
    for feature in (KmerFrequency(k=3), GCContent(), ZCurve("parameters", orders=(1, 2), phases=3)):
        starts, values = windowed("A" * size, feature, window=window, stride=stride)
        assert len(starts) == len(values) == count
        assert values.shape[1] == len(feature.get_feature_names_out())


def test_windows_without_bases_and_shorter_than_k_are_zeros():
    assert not windowed("N" * 50, ZCurve("parameters", parameters=189), window=10, stride=1).values.any()
    assert not windowed("ACGT" * 9, KmerFrequency(k=5), window=4, stride=1).values.any()


def test_stride_is_the_window_unless_given():
    assert windowed("ACGT" * 5, GCContent(), window=8).starts.tolist() == [0, 8]


def test_positions_count_in_the_cleaned_sequence():
    feature = KmerFrequency(k=2, counts=True)
    expected = windowed("ACGTNTACGGA", feature, window=5, stride=2)
    for written in ("acg-tRTACGGA", "AC GUKUACGGA\n", b"acgtnt.acgga"):
        found = windowed(written, feature, window=5, stride=2)
        np.testing.assert_array_equal(found.starts, expected.starts)
        np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize("feature", [FEATURES[2], FEATURES[4], FEATURES[9]], ids=repr)
@pytest.mark.parametrize(("window", "stride"), [(100, 1), (40, 64), (1500, 3)])
def test_threads_and_instruction_sets_give_the_same_bits(feature, window, stride):
    sequence = chromosome(5000, seed=9)
    expected = feature.fit_transform(cut(sequence, window, stride))
    for name in each_instruction_set():
        for threads in (0, 1, 2, 7):
            values = windowed(sequence, feature, window=window, stride=stride, threads=threads).values
            np.testing.assert_array_equal(values, expected, err_msg=f"{name}, {threads}")


@pytest.mark.parametrize("stride", [1, 2, 8, 9])
@pytest.mark.parametrize("blocks", [((2, 3),), ((1, 3), (4, 2)), PARAMETER_SETS[189], PARAMETER_SETS[765]])
def test_small_steps_through_bases_alone(blocks, stride):
    """Where no N is near, the core moves its window by single bases, tables side by side."""
    sequence = "".join(random.Random(6).choices("ACGT", k=2300)) + "NN" + "CAG" * 500
    feature = ZCurve("parameters", parameters=ParameterSet(blocks, "count"))
    starts, values = windowed(sequence, feature, window=40, stride=stride)
    chosen = slice(None, None, 37)
    expected = [parameters(sequence[start : start + 40], blocks, "count") for start in starts[chosen]]
    np.testing.assert_array_equal(values[chosen], expected)


@pytest.mark.parametrize("stride", [1, 700, 1023, 1024, 1025, 2049, 3000, 5999])
def test_strides_around_the_blocks_of_the_core(stride):
    sequence = chromosome(20_000, seed=4)
    feature = ZCurve("parameters", orders=(1, 3), phases=3)
    stop = 7000 if stride == 1 else None
    parts = cut(sequence[:stop], 6000, stride)
    np.testing.assert_array_equal(
        windowed(sequence[:stop], feature, window=6000, stride=stride).values, feature.transform(parts)
    )


@pytest.mark.parametrize(
    "feature", [ZCurve("parameters", parameters=9), GCContent(), KmerFrequency(k=2)], ids=repr
)
@pytest.mark.parametrize("threads", [1, 3])
def test_policies_for_unknown_bases(feature, threads):
    sequence = "ACGTACGTNACGTACCGTTNNACG"
    parts = cut(sequence, 4, 2)
    expected = feature.fit_transform(parts)
    holds_unknown = np.array(["N" in part for part in parts])
    masked = windowed(sequence, feature.set_params(unknown="nan"), window=4, stride=2, threads=threads).values
    np.testing.assert_array_equal(np.isnan(masked).all(axis=1), holds_unknown)
    np.testing.assert_array_equal(masked[~holds_unknown], expected[~holds_unknown])
    first = int(holds_unknown.argmax())
    with pytest.raises(InputError, match=rf"windows\[{first}\] holds an N"):
        windowed(sequence, feature.set_params(unknown="error"), window=4, stride=2, threads=threads)
    feature.set_params(unknown="skip")


@pytest.mark.parametrize(("window", "stride"), [(10, 1), (10, 4), (25, 25), (4, 9)])
def test_sums_of_windows_are_those_of_their_rows(window, stride):
    sequence = chromosome(700)
    columns = np.arange(16, dtype=np.uint16)
    rows = _core.KmerRows(2, columns, 16, False)
    counts = kmer_frequencies(cut(sequence, window, stride), 2, counts=True).sum(axis=0)
    found = [rows.sum_windows(sequence, column, window=window, stride=stride) for column in columns]
    assert found == counts.tolist()
    with pytest.raises(ValueError, match="no such counter"):
        rows.sum_windows(sequence, 16, window=window, stride=stride)


def test_dtype_and_out():
    sequence = chromosome(400)
    for feature in (KmerFrequency(k=2), GCContent(skews=True)):
        expected = windowed(sequence, feature, window=50, stride=3).values
        single = windowed(sequence, feature, window=50, stride=3, dtype=np.float32).values
        assert single.dtype == np.float32
        np.testing.assert_array_equal(single, expected.astype(np.float32))
        buffer = np.full(expected.shape, np.nan)
        assert windowed(sequence, feature, window=50, stride=3, out=buffer).values is buffer
        np.testing.assert_array_equal(buffer, expected)


def test_a_window_of_a_whole_yeast_chromosome_is_its_row(data_dir: Path):
    files = sorted((data_dir / "yeast_genome").glob("*.fa.gz"))
    if not files:
        pytest.skip(f"needs a FASTA file in {data_dir / 'yeast_genome'}")
    with gzip.open(files[0], "rt") as file:
        next(file)
        sequence = "".join(line.strip() for line, _ in zip(file, range(3000), strict=False) if line[0] != ">")
    feature = KmerFrequency(k=6, canonical=True)
    whole = windowed(sequence, feature, window=len(sequence)).values
    np.testing.assert_array_equal(whole, kmer_frequencies([sequence], 6, canonical=True))
    starts, values = windowed(sequence, GCContent(), window=10_000, stride=777, threads=2)
    for i in (0, 5, len(starts) - 1):
        part = sequence[starts[i] : starts[i] + 10_000]
        assert values[i, 0] == (part.count("G") + part.count("C")) / 10_000


def test_cumulative_skew_is_the_running_sum_of_windows():
    sequence = chromosome(900)
    starts, values = cumulative_skew(sequence, window=60, stride=30)
    skews = GCContent(skews=True).fit_transform(cut(sequence, 60, 30))[:, 1:]
    np.testing.assert_array_equal(values, np.cumsum(skews, axis=0))
    assert starts[1] == 30


def test_cumulative_gc_skew_is_lowest_at_a_planted_origin():
    # The leading strand, to the right of an origin, is rich in G.
    rng = random.Random(1)
    lagging = rng.choices("ACGT", [5, 6, 4, 5], k=30_000)
    leading = rng.choices("ACGT", [5, 4, 6, 5], k=50_000)
    starts, values = cumulative_skew("".join(lagging + leading), window=1000)
    assert abs(int(starts[values[:, 0].argmin()]) + 1000 - 30_000) <= 2000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: windowed("ACGT", GCContent(), window=0), "window=0"),
        (lambda: windowed("ACGT", GCContent(), window=2**31), "window=2147483648"),
        (lambda: windowed("ACGT", GCContent(), window=2, stride=0), "stride=0"),
        (lambda: windowed(["ACGT"], GCContent(), window=2), "sequence is list"),
        (lambda: windowed("ACGT", "gc", window=2), "feature='gc'"),
        (lambda: windowed("ACGT", GCContent(unknown="other"), window=2), "unknown='other'"),
        (lambda: windowed("ACGT", GCContent(), window=2, out=np.zeros((9, 1))), "out is float64"),
        (lambda: windowed("ACGT", KmerFrequency(), window=2, dtype=np.int8), "dtype=int8"),
        (lambda: windowed("ACGT", ZCurve("cumulative"), window=2), "cumulative"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_text_that_is_not_dna_is_an_input_error():
    with pytest.raises(InputError, match="'E' at position 2"):
        windowed("ACE", GCContent(), window=2)


def test_the_core_refuses_a_sequence_that_is_not_clean():
    rows = _core.ZCurveRows([(1, 1)], "phase")
    with pytest.raises(ValueError, match="clean"):
        rows.fill_windows("acgt", np.zeros((1, 3)), window=4, stride=1, unknown="skip")
