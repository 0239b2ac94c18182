"""Kinds of tasks read off labels, and labels turned into numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastgenome.errors import ArgumentError, InputError
from fastgenome.records import is_missing_label
from fastgenome.sequences import read_sequences
from fastgenome.training.targets import Task, infer_task


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        pytest.param(["0", "1", "0"], "binary", (0, 1), id="text-digits"),
        pytest.param([1.0, 0.0, 1.0], "binary", (0, 1), id="whole-floats"),
        pytest.param(["weak", "strong", "weak"], "binary", ("strong", "weak"), id="words"),
        pytest.param([2, 0, 1, 10], "multiclass", (0, 1, 2, 10), id="integers-in-numeric-order"),
        pytest.param(["1", "b", "0"], "multiclass", (0, 1, "b"), id="mixed"),
        pytest.param(["1e1", "10", "10"], "binary", (10, "1e1"), id="text-like-a-number"),
        pytest.param(["1.0", "+2", "1", "03."], "multiclass", (1, 2, 3), id="spellings-of-whole-numbers"),
        pytest.param([True, False, True], "binary", (0, 1), id="truth-values"),
        pytest.param(np.array([True, False]), "binary", (0, 1), id="numpy-truth-values"),
        pytest.param([0.5, 1.0, -2.0], "regression", (), id="fractions"),
        pytest.param(list(range(51)), "regression", (), id="many-integers"),
        pytest.param([[0, 1], [1, 0]], "multilabel", (), id="two-columns"),
    ],
)
def test_infer_task_reads_the_kind(labels: list[object], kind: str, classes: tuple[object, ...]) -> None:
    task = infer_task(labels)
    assert (task.kind, task.classes) == (kind, classes)


def test_infer_task_keeps_fifty_integers_as_classes() -> None:
    assert infer_task(list(range(50))).kind == "multiclass"


def test_infer_task_takes_a_named_kind() -> None:
    task = infer_task([0, 1, 1], kind="regression")
    assert task.encode([0, 1, 1]).dtype == np.float64


@pytest.mark.parametrize(
    ("labels", "kind", "error", "message"),
    [
        ([1, 1, 1], None, InputError, "one class only"),
        ([[0, 1], [1, 1]], None, InputError, r"columns \['label_1'\] hold one class only"),
        ([0.5, float("nan")], None, InputError, "index 1"),
        (["a", None], None, InputError, "1 labels are missing"),
        ([[0, 1], [1]], None, InputError, "as many columns in every row"),
        ([], None, InputError, "n > 0"),
        ([0, 1, 2], "binary", ArgumentError, "two classes"),
        ([0, 1], "ranking", ArgumentError, "one of binary, multiclass, .*; got 'ranking'"),
        ([[0, 1], [1, 0]], "regression", ArgumentError, "2 label columns fit task='multilabel' only"),
        (["a", "b"], "regression", InputError, "not a number"),
        ([1.5, 1.5], None, InputError, "one value only"),
        ([[0, 2], [1, 0]], None, InputError, "0 or 1"),
    ],
)
def test_infer_task_refuses(labels: list[object], kind: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        infer_task(labels, kind=kind)  # type: ignore[arg-type]


def test_encode_then_decode_is_the_identity() -> None:
    labels = ["c", "a", "b", "a"]
    task = infer_task(labels)
    assert task.decode(task.encode(labels)).tolist() == labels


def test_encode_names_unknown_labels() -> None:
    with pytest.raises(InputError, match=r"labels \['x'\] are not among the classes \['a', 'b'\]"):
        infer_task(["a", "b"]).encode(["a", "x"])


def test_encode_checks_the_number_of_label_columns() -> None:
    with pytest.raises(InputError, match="2 label columns"):
        Task("multilabel", (), ("p", "q")).encode([[0, 1, 1]])


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, "", " ", "NA", "n/a", "NaN", "null", "None"],
    ids=repr,
)
def test_is_missing_label_knows_the_spellings(value: object, tmp_path: Path) -> None:
    assert is_missing_label(value)
    with pytest.raises(InputError, match="1 labels are missing or NaN, first at index 2"):
        infer_task(["a", "b", value])
    path = tmp_path / "table.csv"
    text = value if isinstance(value, str) else ""
    path.write_text(f"sequence,label\nACGT,a\nACGT,{text}\n")
    reader = read_sequences(path, label_columns=("label",))
    assert [record.labels for record in reader] == [("a",)]
    assert reader.report.reasons == {"missing_label": 1}


@pytest.mark.parametrize("value", [0, 0.0, False, "0", "nano", "nonene", "-", float("inf")], ids=repr)
def test_is_missing_label_leaves_labels(value: object) -> None:
    assert not is_missing_label(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("zzz",), "task must be one of"),
        (("binary",), "cannot have the classes"),
        (("multiclass", (0, 1, 2, 2)), "cannot have the classes"),
        (("multiclass", (0, 1)), "cannot have the classes"),
        (("regression", (0, 1)), "cannot have the classes"),
        (("binary", (0.5, 1)), "whole numbers or texts"),
        (("multilabel", (), ()), "one or more texts"),
        (("multilabel", (), (1, 2)), "one or more texts"),
        (("multilabel", (), ("a", "a")), "differ"),
        (("binary", (0, 1), ("a", "b")), "2 label columns"),
    ],
    ids=str,
)
def test_task_refuses_parts_that_do_not_fit(arguments: tuple, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Task(*arguments)
