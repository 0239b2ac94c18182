"""Curves along sequences against their definitions, known relations and ZCurvePy."""

import random

import numpy as np
import pytest
from feature_definitions import awkward_sequences, each_instruction_set, reverse_complement

from fastgenome import _core
from fastgenome.errors import ArgumentError, InputError
from fastgenome.features import cumulative_zcurve, disparity_curve, gc_skew, zcurve

PLUS_MINUS = {"RY": ("AG", "CT"), "MK": ("AC", "GT"), "WS": ("AT", "CG"), "AT": ("A", "T"), "GC": ("G", "C")}


@pytest.fixture(scope="module")
def sequences() -> list[str]:
    return awkward_sequences()


def written_out_curve(sequence: str, kind: str) -> list[int]:
    if kind == "CpG":
        pairs = [sequence[i : i + 2] for i in range(len(sequence) - 1)]
        steps = [0 if "N" in pair else 1 if pair == "CG" else -1 for pair in pairs]
    else:
        plus, minus = PLUS_MINUS[kind]
        steps = [(base in plus) - (base in minus) for base in sequence]
    return np.cumsum(steps, dtype=int).tolist() if steps else []


@pytest.mark.parametrize("threads", [0, 1, 2, 7])
def test_cumulative_zcurve_equals_definition_on_each_instruction_set(threads, sequences):
    for name in each_instruction_set():
        values, offsets = cumulative_zcurve(sequences, threads=threads)
        for number, sequence in enumerate(sequences):
            expected = np.array([written_out_curve(sequence, kind) for kind in ("RY", "MK", "WS")]).T
            curve = values[offsets[number] : offsets[number + 1]]
            np.testing.assert_array_equal(curve, expected.reshape(-1, 3), err_msg=f"{name} {sequence[:40]}")


def test_cumulative_zcurve_writes_into_the_callers_array():
    buffer = np.full((7, 3), 99, np.int32)
    assert cumulative_zcurve(["ACGT", "TNA"], out=buffer).values is buffer
    np.testing.assert_array_equal(buffer, zcurve(["ACGT", "TNA"], mode="cumulative").values)
    for wrong in (np.zeros((6, 3), np.int32), np.zeros((7, 3)), np.zeros((3, 7), np.int32).T):
        with pytest.raises(ArgumentError, match="out"):
            cumulative_zcurve(["ACGT", "TNA"], out=wrong)


@pytest.mark.parametrize("kind", [*PLUS_MINUS, "CpG"])
def test_disparity_curves_equal_definition(kind, sequences):
    values, offsets, slopes = disparity_curve(sequences, kind)
    assert values.dtype == np.int32
    assert not slopes.any()
    for number, sequence in enumerate(sequences):
        curve = values[offsets[number] : offsets[number + 1]]
        assert curve.tolist() == written_out_curve(sequence, kind)


@pytest.mark.parametrize("kind", [*PLUS_MINUS, "CpG"])
@pytest.mark.parametrize("detrend", ["fit", "ends"])
def test_detrended_curves_equal_definition(kind, detrend, sequences):
    values, offsets, slopes = disparity_curve(sequences, kind, detrend=detrend)
    assert values.dtype == np.float64
    for number, sequence in enumerate(sequences):
        curve = np.array(written_out_curve(sequence, kind), dtype=float)
        n = np.arange(1, len(curve) + 1)
        if len(curve) < 2:
            slope = 0.0
        elif detrend == "ends":
            slope = curve[-1] / len(curve)
        else:
            slope = np.linalg.lstsq(np.stack([n, np.ones(len(n))], axis=1), curve, rcond=None)[0][0]
        assert slopes[number] == pytest.approx(slope, rel=1e-9, abs=1e-12)
        found = values[offsets[number] : offsets[number + 1]]
        np.testing.assert_allclose(found, curve - slope * n, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "peer"),
    [
        ("RY", "x_prime_curve"),
        ("MK", "y_prime_curve"),
        ("WS", "z_prime_curve"),
        ("AT", "AT_prime_curve"),
        ("GC", "GC_prime_curve"),
        ("CpG", "CpG_prime_curve"),
    ],
)
def test_zcurvepys_primed_curves_lie_one_slope_higher(kind, peer):
    zcurvepy = pytest.importorskip("ZCurvePy")
    sequence = "".join(random.Random(3).choices("ACGT", [4, 2, 3, 4], k=300))
    _, values, slope = getattr(zcurvepy.ZCurvePlotter(sequence), peer)()
    found = disparity_curve([sequence], kind, detrend="fit")
    # Both in single precision there, the CpG slope in a way that loses some of it.
    assert found.slopes[0] == pytest.approx(slope, abs=2e-3 if kind == "CpG" else 1e-5)
    np.testing.assert_allclose(found.values + found.slopes[0], values, atol=0.7 if kind == "CpG" else 1e-2)


def test_the_line_between_the_ends_closes_the_curve():
    values, offsets, _ = disparity_curve(["GGATC" * 20, "ACCA"], "GC", detrend="ends")
    np.testing.assert_allclose(values[offsets[1:] - 1], 0, atol=1e-12)


def test_gc_disparity_ends_at_the_skew_times_the_bases(sequences):
    values, offsets, _ = disparity_curve(sequences, "GC")
    for number, sequence in enumerate(sequences):
        if sequence:
            strong = sequence.count("G") + sequence.count("C")
            assert values[offsets[number + 1] - 1] == pytest.approx(gc_skew([sequence])[0] * strong)


def test_reverse_complement_walks_the_skews_backwards():
    sequence = "".join(random.Random(8).choices("ACGT", k=200))
    for kind in ("RY", "MK", "AT", "GC"):
        forward = disparity_curve([sequence], kind).values
        backward = disparity_curve([reverse_complement(sequence)], kind).values
        # After n bases of the other strand: less what the last n bases of this one added.
        np.testing.assert_array_equal(backward[:-1], forward[:-1][::-1] - forward[-1])


def test_a_cpg_island_lifts_the_profile():
    rng = random.Random(2)
    poor = "".join(rng.choices(["A", "T", "CA", "TG"], k=3000))
    island = "".join(rng.choices(["CG", "G", "C", "A"], k=800))
    profile = disparity_curve([poor + island + poor], "CpG", detrend="fit").values
    assert profile[len(poor) + len(island) - 1] - profile[len(poor)] > 150
    assert profile[len(poor)] < profile[0]


def test_wrong_arguments_are_refused():
    with pytest.raises(ArgumentError, match="kind='XY'"):
        disparity_curve(["A"], "XY")
    with pytest.raises(ArgumentError, match="detrend='other'"):
        disparity_curve(["A"], "RY", detrend="other")
    with pytest.raises(InputError, match="not DNA"):
        disparity_curve(["AE"], "RY")
    with pytest.raises(ArgumentError, match="one str"):
        disparity_curve("ACGT", "RY")


@pytest.mark.parametrize("offsets", [[0, 3], [0, 5], [1, 5], [0, 4, 4], [4]])
def test_the_core_refuses_offsets_of_other_sequences(offsets):
    wrong = np.array(offsets)
    with pytest.raises(ValueError, match="offsets"):
        _core.zcurve_curves(("ACGT",), wrong, np.zeros((wrong[-1], 3), np.int32))
    with pytest.raises(ValueError, match="offsets"):
        _core.subtract_trends(np.zeros(4, np.int32), wrong[::-1], "fit", np.zeros((4, 1)))
