"""Fine-tuning, prediction and the predictor's files."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastgenome as fg
from fastgenome.errors import ArgumentError, CheckpointError, InputError

FEATURES = ("zcurve", "gc", "kmer")


def gc_rich_and_poor(count: int, seed: int = 0, length: int = 60) -> tuple[list[str], NDArray[np.int64]]:
    """Sequences whose class shows in their GC content, with some overlap."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    share = np.where(labels == 1, 0.6, 0.4)
    sequences = [
        "".join(rng.choice(list("ACGT"), length, p=[(1 - g) / 2, g / 2, g / 2, (1 - g) / 2])) for g in share
    ]
    return sequences, labels


def write_csv(
    path: Path, sequences: list[str], *columns: object, names: tuple[str, ...] = ("label",)
) -> Path:
    rows = zip(sequences, *columns, strict=True)  # type: ignore[call-overload]
    lines = [",".join(["sequence", *names])] + [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def predictor() -> fg.Predictor:
    return fg.finetune(gc_rich_and_poor(200), features=FEATURES)


def test_finetune_learns_and_predicts(predictor: fg.Predictor) -> None:
    sequences, labels = gc_rich_and_poor(200, seed=1)
    probabilities = predictor.predict_proba(sequences)
    assert probabilities.shape == (200, 2)
    assert np.mean(predictor.predict(sequences) == labels) > 0.8
    assert predictor.task.kind == "binary"


def test_finetune_equals_scikit_learn_on_the_same_inputs() -> None:
    sequences, labels = gc_rich_and_poor(120)
    predictor = fg.finetune((sequences, labels), features=FEATURES)
    inputs = np.hstack(
        [
            fg.load("tiny").embed(sequences),
            *(t.fit_transform(sequences) for t in (fg.ZCurve(), fg.GCContent(), fg.KmerFrequency(k=4))),
        ]
    )
    reference = make_pipeline(
        StandardScaler(), LogisticRegression(C=predictor.hyperparameters["C"], max_iter=5000, tol=1e-8)
    ).fit(inputs, labels)
    np.testing.assert_allclose(predictor.predict_proba(sequences), reference.predict_proba(inputs), atol=5e-3)


def test_finetune_features_alone() -> None:
    sequences, labels = gc_rich_and_poor(200)
    predictor = fg.finetune((sequences, labels), model=None, features=("gc",))
    assert predictor.model is None
    assert predictor.inputs(["GGCC", "AATT", "ACGT"])[:, 0].tolist() == [1.0, 0.0, 0.5]
    assert predictor.min_length == 1


def test_finetune_multiclass_names_its_classes() -> None:
    sequences, labels = gc_rich_and_poor(200)
    names = np.where(labels == 1, "rich", np.where(np.arange(200) % 2, "poor", "plain"))
    predictor = fg.finetune((sequences, names), model=None, features=("gc",))
    assert predictor.task.classes == ("plain", "poor", "rich")
    assert set(predictor.predict(sequences)) <= {"plain", "poor", "rich"}
    np.testing.assert_allclose(predictor.predict_proba(sequences).sum(axis=1), 1.0)


def test_finetune_multilabel_from_a_file(tmp_path: Path) -> None:
    sequences, labels = gc_rich_and_poor(200)
    starts_with_a = np.array([int(sequence[0] == "A") for sequence in sequences])
    path = write_csv(tmp_path / "train.csv", sequences, labels, starts_with_a, names=("rich", "starts"))
    predictor = fg.finetune(path, model=None, features=FEATURES, label_columns=("rich", "starts"))
    assert predictor.task.kind == "multilabel"
    assert predictor.predict(sequences).shape == (200, 2)
    assert predictor.metrics["train"]["rich.accuracy"] > 0.8


def test_finetune_regression_recovers_gc_content() -> None:
    sequences, _ = gc_rich_and_poor(300)
    target = np.array([sequence.count("G") + sequence.count("C") for sequence in sequences]) / 60 + 0.001
    predictor = fg.finetune((sequences, target), features=("gc",))
    assert predictor.task.kind == "regression"
    assert predictor.metrics["train"]["r2"] > 0.9
    with pytest.raises(ArgumentError, match="regression"):
        predictor.predict_proba(sequences)


def test_finetune_reports_validation_and_counts_records(tmp_path: Path) -> None:
    train, held = gc_rich_and_poor(100), gc_rich_and_poor(50, seed=3)
    path = write_csv(tmp_path / "train.csv", [*train[0], "ACGT" * 9, "", "NOTDNA"], [*train[1], "", 1, 0])
    predictor = fg.finetune(path, validation=held, features=("gc",))
    assert set(predictor.metrics) == {"train", "validation"}
    report = predictor.read_reports["train"]
    assert report is not None
    assert (report.n_in, report.n_out, report.n_rejected) == (103, 100, 3)
    assert report.reasons == {"missing_label": 1, "empty": 1, "not_dna": 1}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": None}, ArgumentError, "model, features, or both"),
        ({"method": "magic"}, ArgumentError, "probe"),
        ({"features": ("colour",)}, ArgumentError, "zcurve"),
        ({"method": fg.Probe(head="svm")}, ArgumentError, "scikit-learn estimator"),
        ({"task": "ranking"}, ArgumentError, "regression"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_finetune_refuses_arguments(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fg.finetune(gc_rich_and_poor(20), **arguments)


@pytest.mark.parametrize(
    ("sequences", "labels", "message"),
    [
        (["ACGTACGT"] * 3, [0, 1], "3 sequences, but 2 labels"),
        (["ACGTACGT"] * 2, [1, 1], "one class only"),
        (["ACGTACGT", "MKVLAAGIV"], [0, 1], "1"),
        (["ACGTACGT", ""], [0, 1], "1"),
        (["ACGTACGT"] * 2, [0.5, float("nan")], "NaN"),
        ([], [], "no sequence"),
    ],
)
def test_finetune_refuses_data(sequences: list[str], labels: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fg.finetune((sequences, labels))


def test_finetune_names_the_missing_label_column(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "train.csv", ["ACGTACGT"], [1], names=("target",))
    with pytest.raises(InputError, match="target"):
        fg.finetune(path)


def test_predictor_round_trips(predictor: fg.Predictor, tmp_path: Path) -> None:
    sequences, _ = gc_rich_and_poor(50, seed=2)
    predictor.save(tmp_path / "run")
    loaded = fg.Predictor.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.predict_proba(sequences), predictor.predict_proba(sequences))
    assert loaded.metrics == predictor.metrics
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"predictor.json", "head.safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_predictor_with_a_scikit_learn_head_round_trips(tmp_path: Path) -> None:
    sequences, labels = gc_rich_and_poor(100)
    forest = RandomForestClassifier(n_estimators=20, random_state=0)
    predictor = fg.finetune((sequences, labels), method=fg.Probe(head=forest), features=("gc",))
    predictor.save(tmp_path / "run")
    loaded = fg.Predictor.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.predict_proba(sequences), predictor.predict_proba(sequences))
    assert not hasattr(forest, "estimators_")


class Untrusted(DummyClassifier):
    """A type that skops does not know."""


def test_predictor_refuses_untrusted_types(tmp_path: Path) -> None:
    data = gc_rich_and_poor(20)
    fg.finetune(data, model=None, features=("gc",), method=fg.Probe(head=Untrusted())).save(tmp_path / "run")
    with pytest.raises(CheckpointError, match="not trusted"):
        fg.Predictor.load(tmp_path / "run")


def test_predictor_checks_the_base_model(predictor: fg.Predictor, tmp_path: Path) -> None:
    predictor.save(tmp_path / "run")
    path = tmp_path / "run" / "predictor.json"
    description = json.loads(path.read_text())
    description["model"]["sha256"] = "0" * 64
    path.write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match="sha256 0000"):
        fg.Predictor.load(tmp_path / "run")


@pytest.mark.parametrize(
    "damage", ["missing-head", "truncated-head", "bad-json", "other-format", "missing-key"]
)
def test_predictor_load_refuses_damage(predictor: fg.Predictor, tmp_path: Path, damage: str) -> None:
    run = tmp_path / "run"
    predictor.save(run)
    head, description = run / "head.safetensors", run / "predictor.json"
    content = json.loads(description.read_text())
    if damage == "missing-head":
        head.unlink()
    elif damage == "truncated-head":
        head.write_bytes(head.read_bytes()[:-1])
    elif damage == "bad-json":
        description.write_text(description.read_text()[:-5])
    elif damage == "other-format":
        description.write_text(json.dumps({**content, "format": 99}))
    else:
        del content["features"]
        description.write_text(json.dumps(content))
    with pytest.raises(CheckpointError):
        fg.Predictor.load(run)


def test_predictor_save_keeps_other_folders(predictor: fg.Predictor, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(ArgumentError, match="no predictor"):
        predictor.save(tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "keep"


def test_predictor_save_replaces_an_earlier_one(predictor: fg.Predictor, tmp_path: Path) -> None:
    fg.finetune(gc_rich_and_poor(20), model=None, features=("gc",)).save(tmp_path / "run")
    predictor.save(tmp_path / "run")
    assert fg.Predictor.load(tmp_path / "run").features == FEATURES


def test_predictor_save_failing_leaves_nothing(
    predictor: fg.Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        predictor.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_predict_reads_files(predictor: fg.Predictor, tmp_path: Path) -> None:
    sequences, _ = gc_rich_and_poor(20, seed=5)
    path = tmp_path / "in.fa"
    path.write_text("".join(f">{i}\n{sequence}\n" for i, sequence in enumerate(sequences)))
    np.testing.assert_array_equal(predictor.predict(path), predictor.predict(sequences))
    path.write_text(path.read_text() + ">bad\n\n")
    with pytest.raises(InputError, match="empty"):
        predictor.predict(path)


def test_predict_takes_lower_case_and_rna(predictor: fg.Predictor) -> None:
    sequence = "ACGTTGCAAC" * 5
    expected = predictor.predict_proba([sequence])
    for other in (sequence.lower(), sequence.replace("T", "U")):
        np.testing.assert_array_equal(predictor.predict_proba([other]), expected)
