"""Heads against scikit-learn, and figures of merit against their definitions."""

import numpy as np
import pytest
from sklearn.datasets import make_classification, make_regression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from fastgenome.errors import ArgumentError
from fastgenome.training.head_fitting import PENALTIES, fit_estimator_head, fit_linear_head
from fastgenome.training.heads import LinearHead
from fastgenome.training.metrics import evaluate
from fastgenome.training.targets import Task


def classes(n_classes: int) -> tuple[np.ndarray, np.ndarray, Task]:
    x, y = make_classification(
        400, 20, n_informative=8, n_classes=n_classes, n_clusters_per_class=1, random_state=0
    )
    kind = "binary" if n_classes == 2 else "multiclass"
    return x * 7 + 3, y, Task(kind, tuple(range(n_classes)))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_linear_head_equals_scikit_learn(n_classes: int) -> None:
    x, y, task = classes(n_classes)
    head, chosen = fit_linear_head(task, x, y)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=chosen["C"], max_iter=2000, tol=1e-8))
    expected = reference.fit(x, y).predict_proba(x)
    np.testing.assert_allclose(head.outputs(x), expected, atol=5e-3)
    np.testing.assert_allclose(head.outputs(x).sum(axis=1), 1.0, atol=1e-12)


def test_linear_head_regression_equals_ridge() -> None:
    x, y = make_regression(200, 10, noise=5.0, random_state=0)
    head, chosen = fit_linear_head(Task("regression"), x, y)
    reference = make_pipeline(StandardScaler(), Ridge(alpha=1.0 / chosen["C"])).fit(x, y)
    np.testing.assert_allclose(head.outputs(x), reference.predict(x), rtol=1e-8)


def test_linear_head_multilabel_fits_every_label() -> None:
    x, y, _ = classes(2)
    labels = np.stack([y, 1 - y, (x[:, 0] > 3).astype(int)], axis=1)
    head, chosen = fit_linear_head(Task("multilabel", (), ("a", "b", "c")), x, labels)
    assert head.outputs(x).shape == (400, 3)
    assert set(chosen) == {"C.0", "C.1", "C.2"}
    np.testing.assert_allclose(head.outputs(x)[:, 0], 1 - head.outputs(x)[:, 1], atol=1e-2)


def test_linear_head_chooses_the_penalty_on_validation_data() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 200)), rng.integers(0, 2, 60)
    noise = (rng.normal(size=(500, 200)), rng.integers(0, 2, 500))
    # Labels unrelated to the inputs call for the strongest penalty, the training data for the weakest.
    assert fit_linear_head(Task("binary", (0, 1)), x, y, validation=noise)[1]["C"] == min(PENALTIES)
    assert fit_linear_head(Task("binary", (0, 1)), x, y, validation=(x, y))[1]["C"] == max(PENALTIES)


def test_linear_head_ignores_constant_inputs() -> None:
    x, y, task = classes(2)
    x[:, 4] = 1e6
    head, _ = fit_linear_head(task, x, y)
    assert np.isfinite(head.outputs(x)).all()
    assert head.scale[4] == 1.0


def test_linear_head_fits_two_examples() -> None:
    head, _ = fit_linear_head(Task("binary", (0, 1)), np.array([[0.0], [1.0]]), np.array([0, 1]))
    assert head.outputs(np.array([[0.0], [1.0]])).argmax(axis=1).tolist() == [0, 1]


def test_linear_head_checks_the_width() -> None:
    head = LinearHead("binary", np.zeros(3), np.ones(3), np.ones((1, 3)), np.zeros(1))
    with pytest.raises(ArgumentError, match=r"\(n, 3\)"):
        head.outputs(np.zeros((2, 4)))


def test_linear_head_scales_each_input_by_its_own_spread() -> None:
    x, y, task = classes(2)
    expected = fit_linear_head(task, x, y)[0].outputs(x)
    # A large input must not make the small ones pass for constants.
    wide = np.column_stack([x * 1e-4, np.full(len(x), 1e9)])
    np.testing.assert_allclose(fit_linear_head(task, wide, y)[0].outputs(wide), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.ones((1, 2))}, r"weight must be float64 \(1, 3\)"),
        ({"scale": np.ones(2)}, "scale must be float64"),
        ({"bias": np.zeros(1, np.float32)}, "bias must be float64"),
        ({"mean": np.array([0.0, np.nan, 0.0])}, "mean holds NaN"),
        ({"scale": np.array([1.0, 0.0, 1.0])}, "scale must be positive"),
        ({"weight": np.ones((2, 3)), "bias": np.zeros(2)}, "one output; got 2"),
    ],
    ids=str,
)
def test_linear_head_refuses_arrays_that_do_not_fit(change: dict, message: str) -> None:
    arrays = {"mean": np.zeros(3), "scale": np.ones(3), "weight": np.ones((1, 3)), "bias": np.zeros(1)}
    with pytest.raises(ArgumentError, match=message):
        LinearHead("binary", **{**arrays, **change})


def test_linear_head_probabilities_stay_finite() -> None:
    for kind, outputs in (("binary", 1), ("multiclass", 3)):
        head = LinearHead(kind, np.zeros(1), np.ones(1), np.full((outputs, 1), 1e4), np.zeros(outputs))
        assert np.isfinite(head.outputs(np.array([[1e3], [-1e3]]))).all()


def test_estimator_head_needs_probabilities() -> None:
    x, y, task = classes(2)
    with pytest.raises(ArgumentError, match="CalibratedClassifierCV"):
        fit_estimator_head(task, x, y, LinearSVC())


def test_evaluate_binary_equals_definitions() -> None:
    targets = np.array([1, 1, 1, 0, 0, 0])
    probability = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1])
    figures = evaluate(Task("binary", (0, 1)), targets, np.stack([1 - probability, probability], axis=1))
    true_positive, false_positive, false_negative, true_negative = 2, 1, 1, 2
    expected_mcc = (true_positive * true_negative - false_positive * false_negative) / 9
    assert figures["mcc"] == pytest.approx(expected_mcc)
    assert figures["accuracy"] == pytest.approx(4 / 6)
    # 8 of the 9 pairs of a positive and a negative stand in the right order.
    assert figures["auc"] == pytest.approx(8 / 9)
    assert figures["brier"] == pytest.approx(np.mean((probability - targets) ** 2))


def test_evaluate_leaves_out_what_is_undefined() -> None:
    figures = evaluate(Task("binary", (0, 1)), np.array([1, 1]), np.array([[0.4, 0.6], [0.2, 0.8]]))
    assert "auc" not in figures
    assert figures["accuracy"] == 1.0


def test_evaluate_regression_equals_definitions() -> None:
    targets, values = np.array([1.0, 2.0, 3.0, 5.0]), np.array([1.5, 1.5, 3.5, 4.0])
    figures = evaluate(Task("regression"), targets, values)
    assert figures["r2"] == pytest.approx(1 - ((targets - values) ** 2).sum() / ((targets - 2.75) ** 2).sum())
    assert figures["pearson"] == pytest.approx(np.corrcoef(targets, values)[0, 1])
    assert figures["rmse"] == pytest.approx(np.sqrt(((targets - values) ** 2).mean()))


def test_evaluate_multilabel_averages_and_lists() -> None:
    targets = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    outputs = np.array([[0.9, 0.6], [0.2, 0.7], [0.8, 0.4], [0.1, 0.1]])
    figures = evaluate(Task("multilabel", (), ("p", "q")), targets, outputs)
    assert figures["accuracy"] == pytest.approx((figures["p.accuracy"] + figures["q.accuracy"]) / 2)
    assert figures["p.accuracy"] == 1.0
    assert figures["q.accuracy"] == 0.5


def test_evaluate_multiclass_counts_the_likeliest_class() -> None:
    targets = np.array([0, 1, 2])
    outputs = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    figures = evaluate(Task("multiclass", (0, 1, 2)), targets, outputs)
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["auc"] == pytest.approx((1.0 + 0.75 + 0.5) / 3)
