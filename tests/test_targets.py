"""Kinds of tasks read off labels, and labels turned into numbers."""

import numpy as np
import pytest

from fastgenome.errors import ArgumentError, InputError
from fastgenome.training.targets import Task, infer_task


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        pytest.param(["0", "1", "0"], "binary", (0, 1), id="text-digits"),
        pytest.param([1.0, 0.0, 1.0], "binary", (0, 1), id="whole-floats"),
        pytest.param(["weak", "strong", "weak"], "binary", ("strong", "weak"), id="words"),
        pytest.param([2, 0, 1, 10], "multiclass", (0, 1, 2, 10), id="integers-in-numeric-order"),
        pytest.param(["1", "b", "0"], "multiclass", (0, 1, "b"), id="mixed"),
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
        ([[0, 1], [1, 1]], None, InputError, "label_1"),
        ([0.5, float("nan")], None, InputError, "index 1"),
        (["a", None], None, InputError, "missing"),
        ([], None, InputError, "n > 0"),
        ([0, 1, 2], "binary", ArgumentError, "two classes"),
        ([0, 1], "ranking", ArgumentError, "binary, multiclass"),
        ([[0, 1], [1, 0]], "regression", ArgumentError, "multilabel"),
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
    with pytest.raises(InputError, match="'x'"):
        infer_task(["a", "b"]).encode(["a", "x"])


def test_encode_checks_the_number_of_label_columns() -> None:
    with pytest.raises(InputError, match="2 label columns"):
        Task("multilabel", (), ("p", "q")).encode([[0, 1, 1]])
