"""The scikit-learn transformer of embeddings."""

import pickle

import numpy as np
import pytest
from over_numbers import OverNumbers
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.utils.estimator_checks import check_estimator

import fastgenome as fg
from fastgenome.errors import ArgumentError, InputError, ModelError

SEQUENCES = ["ACGTTGCAAC" * 5, "GGGCATTA" * 9, "TTTTACGN" * 4]


class NumericEmbedder(OverNumbers, fg.Embedder):
    pass


def test_embedder_equals_the_model() -> None:
    embedder = fg.Embedder("tiny", pooling="mean", layer=0, dtype="float32").fit(SEQUENCES)
    expected = fg.load("tiny", dtype="float32").embed(SEQUENCES, pooling="mean", layer=0)
    np.testing.assert_array_equal(embedder.transform(SEQUENCES), expected)


def test_embedder_takes_a_loaded_model() -> None:
    model = fg.load("tiny")
    embedder = fg.Embedder(model).fit(SEQUENCES)
    assert embedder.model_ is model
    assert embedder.transform(SEQUENCES).shape == (3, model.embedding_dim)
    assert len(embedder.get_feature_names_out()) == model.embedding_dim


@pytest.mark.filterwarnings("ignore:Can't test estimator")
def test_embedder_passes_scikit_learns_checks_for_strings() -> None:
    assert check_estimator(fg.Embedder(), on_skip=None, on_fail="raise")


def test_embedder_passes_scikit_learns_numeric_checks_over_rows_turned_into_dna() -> None:
    results = check_estimator(NumericEmbedder(pooling="mean", layer=0), on_skip=None, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert failed == {}
    assert sum(r["status"] == "passed" for r in results) > 30


def test_embedder_works_cloned_pickled_and_as_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    embedder = fg.Embedder(layer=-1).fit(SEQUENCES)
    values = embedder.transform(SEQUENCES)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(embedder)).transform(SEQUENCES), values)
    np.testing.assert_array_equal(clone(embedder).fit_transform(SEQUENCES), values)
    np.testing.assert_array_equal(embedder.transform(pandas.DataFrame({"sequence": SEQUENCES})), values)
    frame = clone(embedder).set_output(transform="pandas").fit_transform(SEQUENCES)
    assert frame.columns.tolist() == embedder.get_feature_names_out().tolist()


def test_embedder_learns_in_a_pipeline() -> None:
    rng = np.random.default_rng(0)
    rich, poor = (
        ["".join(rng.choice(list("ACGT"), 80, p=p)) for _ in range(40)]
        for p in ([0.15, 0.35, 0.35, 0.15], [0.35, 0.15, 0.15, 0.35])
    )
    union = make_union(fg.Embedder(), fg.ZCurve(), fg.GCContent(), fg.KmerFrequency(k=4))
    pipeline = make_pipeline(union, LogisticRegression(max_iter=2000))
    pipeline.fit(rich[:20] + poor[:20], [1] * 20 + [0] * 20)
    assert pipeline.score(rich[20:] + poor[20:], [1] * 20 + [0] * 20) == 1.0


def test_embedder_refuses() -> None:
    with pytest.raises(NotFittedError):
        fg.Embedder().transform(SEQUENCES)
    with pytest.raises(ModelError, match="no model"):
        fg.Embedder("unheard-of").fit(SEQUENCES)
    embedder = fg.Embedder().fit(SEQUENCES)
    with pytest.raises(InputError, match="sequences"):
        embedder.transform(["ACGT", "MKVL"])
    with pytest.raises(ArgumentError, match="list"):
        embedder.transform("ACGT")
