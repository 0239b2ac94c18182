"""Fine-tuning, prediction and the predictor's files."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastgenome as fg
from fastgenome.errors import ArgumentError, CheckpointError, InputError
from fastgenome.models.tiny import TinyConfig, create
from fastgenome.models.transformer import TransformerConfig

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


def shuffled_repeats(count: int, seed: int = 0) -> tuple[list[str], NDArray[np.int64]]:
    """Class 1 repeats a motif, class 0 holds the same bases in any order: composition says nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    motifs = [list("ACGT" + "".join(rng.choice(list("ACGT"), 2))) * 10 for _ in labels]
    return [
        "".join(motif if label else rng.permutation(motif))
        for motif, label in zip(motifs, labels, strict=True)
    ], labels


def test_finetune_learns_the_order_of_bases_from_the_embedding() -> None:
    sequences, labels = shuffled_repeats(200, seed=1)
    composition = fg.finetune(shuffled_repeats(200), model=None, features="gc")
    assert np.mean(composition.predict(sequences) == labels) < 0.65
    predictor = fg.finetune(shuffled_repeats(200), features=())
    assert np.mean(predictor.predict(sequences) == labels) > 0.9


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
        ({"method": "magic"}, ArgumentError, "method must be one of probe, .*; got 'magic'"),
        ({"features": ("colour",)}, ArgumentError, "no feature set 'colour'"),
        ({"method": {"head": "linear"}}, ArgumentError, "probe, .* or a config"),
        ({"method": fg.Probe(pooling="colour")}, ArgumentError, "pooling must be"),
        ({"method": fg.Probe(layer=99)}, ArgumentError, "layer"),
        ({"method": fg.Probe(head=Ridge())}, ArgumentError, "no predict_proba"),
        (
            {"method": fg.Probe(head=RandomForestClassifier()), "task": "regression"},
            ArgumentError,
            "classifier, but the task is a regression",
        ),
        ({"task": "ranking"}, ArgumentError, "task must be one of .*; got 'ranking'"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_finetune_refuses_arguments(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fg.finetune(gc_rich_and_poor(20), **arguments)


def test_finetune_refuses_a_head_before_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fg.load("tiny")
    monkeypatch.setattr(model, "embed", lambda *_, **__: pytest.fail("embedded"))
    with pytest.raises(ArgumentError, match="no predict_proba"):
        fg.finetune(gc_rich_and_poor(20), model=model, method=fg.Probe(head=Ridge()))


def test_finetune_reports_what_an_estimator_refuses() -> None:
    sequences, labels = gc_rich_and_poor(20)
    head = fg.Probe(head=LogisticRegression())
    with pytest.raises(ArgumentError, match="LogisticRegression cannot be fitted to multilabel targets"):
        fg.finetune(
            (sequences, np.stack([labels, 1 - labels], axis=1)), model=None, features="gc", method=head
        )


@pytest.mark.parametrize(
    "settings",
    [{"head": "svm"}, {"head": RandomForestClassifier}, {"head": None}, {"seed": -1}, {"seed": 0.5}],
    ids=str,
)
def test_probe_refuses_settings(settings: dict) -> None:
    with pytest.raises(ArgumentError, match=f"^{next(iter(settings))} must be"):
        fg.Probe(**settings)


@pytest.mark.parametrize("argument", ["data", "validation"])
@pytest.mark.parametrize(
    ("value", "got"),
    [
        pytest.param(pd.DataFrame({"sequence": ["ACGT"], "label": [1]}), "got DataFrame", id="frame"),
        pytest.param([["ACGT", "GGCC"], [0, 1]], "got list", id="list"),
        pytest.param((["ACGT", "GGCC"], [0, 1], None), "got a tuple of 3", id="triple"),
    ],
)
def test_finetune_names_what_data_must_be(argument: str, value: object, got: str) -> None:
    arguments = {"data": gc_rich_and_poor(20), argument: value}
    with pytest.raises(ArgumentError, match=rf"^{argument} must be .*\(sequences, labels\); {got}"):
        fg.finetune(**arguments, model=None, features="gc")


def test_finetune_takes_one_name_for_several(tmp_path: Path) -> None:
    sequences, labels = gc_rich_and_poor(20)
    path = write_csv(tmp_path / "train.csv", sequences, labels, names=("target",))
    predictor = fg.finetune(path, model=None, features="gc", label_columns="target")
    assert predictor.features == ("gc",)
    assert predictor.task.label_names == ("target",)


@pytest.mark.parametrize(
    ("sequences", "labels", "message"),
    [
        (["ACGTACGT"] * 3, [0, 1], "3 sequences, but 2 labels"),
        (["ACGTACGT"] * 2, [1, 1], "one class only"),
        (["ACGTACGT", "MKVLAAGIV"], [0, 1], r"1 of 2 sequences .* indexes 1 "),
        (["ACGTACGT", ""], [0, 1], r"indexes 1 \(empty\)"),
        (["ACGTACGT"] * 2, [0.5, float("nan")], "1 labels are missing or NaN, first at index 1"),
        ([], [], "no sequence"),
    ],
)
def test_finetune_refuses_data(sequences: list[str], labels: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fg.finetune((sequences, labels))


def test_finetune_names_the_missing_label_column(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "train.csv", ["ACGTACGT"], [1], names=("target",))
    with pytest.raises(InputError, match=r"no column 'label'.*target"):
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
    with pytest.raises(CheckpointError, match=r"trusted=.*Tree"):
        fg.Predictor.load(tmp_path / "run")
    loaded = fg.Predictor.load(tmp_path / "run", trusted=["sklearn.tree._tree.Tree"])
    np.testing.assert_array_equal(loaded.predict_proba(sequences), predictor.predict_proba(sequences))
    assert not hasattr(forest, "estimators_")


class Untrusted(DummyClassifier):
    """A type that skops does not know."""


def test_predictor_refuses_untrusted_types(tmp_path: Path) -> None:
    data = gc_rich_and_poor(20)
    fg.finetune(data, model=None, features=("gc",), method=fg.Probe(head=Untrusted())).save(tmp_path / "run")
    with pytest.raises(CheckpointError, match="not trusted"):
        fg.Predictor.load(tmp_path / "run")


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    """Directory of a small model with random weights."""
    torch.manual_seed(0)
    shape = TransformerConfig(5, 16, 1, 2, 16, activation="geglu", final_norm=True, stem_stride=4)
    create(TinyConfig(shape, default_layers=(-1,))).save(tmp_path / "small")
    return tmp_path / "small"


def test_predictor_checks_the_base_model(predictor: fg.Predictor, small_model: Path, tmp_path: Path) -> None:
    predictor.save(tmp_path / "run")
    for other in (small_model, str(small_model), fg.load(small_model)):
        with pytest.raises(
            CheckpointError, match=rf"trained on 'tiny' .*small' has {sha256_start(small_model)}"
        ):
            fg.Predictor.load(tmp_path / "run", model=other)
    assert fg.Predictor.load(tmp_path / "run", model=fg.load("tiny")).model is not None


def sha256_start(model: Path) -> str:
    return hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()[:16]


def test_predictor_finds_a_model_directory_from_anywhere(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sequences, labels = gc_rich_and_poor(20)
    predictor = fg.finetune((sequences, labels), model=small_model.name)
    predictor.save("run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = fg.Predictor.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.predict_proba(sequences), predictor.predict_proba(sequences))
    small_model.rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match=r"give model=.*small"):
        fg.Predictor.load(tmp_path / "run")
    loaded = fg.Predictor.load(tmp_path / "run", model=tmp_path / "moved")
    np.testing.assert_array_equal(loaded.predict_proba(sequences), predictor.predict_proba(sequences))


def test_predictor_save_needs_a_model_from_files(small_model: Path, tmp_path: Path) -> None:
    model = fg.load(small_model)
    model.files = None
    predictor = fg.finetune(gc_rich_and_poor(20), model=model)
    with pytest.raises(ArgumentError, match="not loaded from files"):
        predictor.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def change_description(run: Path, path: tuple[str, ...], value: object) -> None:
    """Set, or remove, the field at `path` of predictor.json."""
    content = json.loads((run / "predictor.json").read_text())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if value is REMOVED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    (run / "predictor.json").write_text(json.dumps(content))


REMOVED = "(removed)"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 99, "not of format 1"),
        (("features",), REMOVED, "'features' is missing"),
        (("features",), ["colour"], "no feature set 'colour'"),
        (("features",), "gc", "'features' is 'gc'"),
        (("features",), ["gc"], "inputs, but its model and features give"),
        (("inputs",), 7, "trained on 7 inputs"),
        (("pooling",), "colour", "pooling"),
        (("layer",), 99, "layer"),
        (("layer",), "last", "'layer' is 'last'"),
        (("task",), "x", "'task' is 'x'"),
        (("task",), {}, "'kind' is missing"),
        (("task", "kind"), "zzz", "got 'zzz'"),
        (("task", "kind"), "multiclass", "cannot have the classes"),
        (("task", "kind"), "regression", "cannot have the classes"),
        (("task", "classes"), [0, 1, 2], "cannot have the classes"),
        (("task", "classes"), [[0], [1]], "whole numbers or texts"),
        (("task", "label_names"), ["a", "b"], "label columns"),
        (("model",), {"name": "tiny"}, "is missing"),
        (("model", "dtype"), "float8", "float32 or bfloat16"),
        (("model", "sha256"), None, "'sha256' is None"),
        (("model", "name"), "nowhere", "give model="),
    ],
    ids=str,
)
def test_predictor_load_refuses_a_damaged_description(
    predictor: fg.Predictor, tmp_path: Path, path: tuple[str, ...], value: object, message: str
) -> None:
    predictor.save(tmp_path / "run")
    change_description(tmp_path / "run", path, value)
    with pytest.raises(CheckpointError, match=message):
        fg.Predictor.load(tmp_path / "run")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\udcff"])
def test_predictor_load_refuses_a_description_that_is_no_object(
    predictor: fg.Predictor, tmp_path: Path, text: str
) -> None:
    predictor.save(tmp_path / "run")
    (tmp_path / "run" / "predictor.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=r"no readable predictor|not of format"):
        fg.Predictor.load(tmp_path / "run")


DAMAGES: dict[str, Callable[[dict[str, NDArray[np.float64]]], object]] = {
    "narrow": lambda tensors: tensors.update(weight=tensors["weight"][:, :5].copy()),
    "all narrow": lambda tensors: tensors.update({k: v[..., :5].copy() for k, v in tensors.items()}),
    "nan": lambda tensors: tensors["weight"].__setitem__((0, 3), np.nan),
    "two outputs": lambda tensors: tensors.update(
        weight=np.repeat(tensors["weight"], 2, axis=0), bias=np.repeat(tensors["bias"], 2)
    ),
    "zero scale": lambda tensors: tensors["scale"].__setitem__(0, 0.0),
    "whole numbers": lambda tensors: tensors.update(bias=tensors["bias"].astype(np.int64)),
    "without bias": lambda tensors: tensors.pop("bias"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_predictor_load_refuses_a_damaged_head(predictor: fg.Predictor, tmp_path: Path, damage: str) -> None:
    predictor.save(tmp_path / "run")
    head = tmp_path / "run" / "head.safetensors"
    tensors = load_file(head)
    DAMAGES[damage](tensors)
    save_file(tensors, head)
    with pytest.raises(CheckpointError, match=r"head\.safetensors"):
        fg.Predictor.load(tmp_path / "run")


def test_predictor_load_refuses_a_missing_or_truncated_head(predictor: fg.Predictor, tmp_path: Path) -> None:
    predictor.save(tmp_path / "run")
    head = tmp_path / "run" / "head.safetensors"
    head.write_bytes(head.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"cannot read .*head\.safetensors"):
        fg.Predictor.load(tmp_path / "run")
    head.unlink()
    with pytest.raises(CheckpointError, match=r"neither head\.safetensors nor head\.skops"):
        fg.Predictor.load(tmp_path / "run")


def test_predictor_load_refuses_an_estimator_of_another_task(tmp_path: Path) -> None:
    sequences, labels = gc_rich_and_poor(60)
    names = np.where(labels == 1, "rich", np.where(np.arange(60) % 2, "poor", "plain"))
    probe = fg.Probe(head=LogisticRegression())
    fg.finetune((sequences, names), model=None, features="gc", method=probe).save(tmp_path / "run")
    assert fg.Predictor.load(tmp_path / "run").task.classes == ("plain", "poor", "rich")
    change_description(tmp_path / "run", ("task", "classes"), ["a", "b", "c", "d"])
    with pytest.raises(CheckpointError, match="does not give the 4 outputs"):
        fg.Predictor.load(tmp_path / "run")


def test_predictor_load_refuses_an_estimator_with_nan(tmp_path: Path) -> None:
    probe = fg.Probe(head=LogisticRegression())
    predictor = fg.finetune(gc_rich_and_poor(20), model=None, features="gc", method=probe)
    predictor.head.estimator.coef_[:] = np.nan  # type: ignore[attr-defined]
    predictor.save(tmp_path / "run")
    with pytest.raises(CheckpointError, match="does not give the 2 outputs"):
        fg.Predictor.load(tmp_path / "run")


def test_predictor_needs_sequences_that_hold_a_kmer() -> None:
    predictor = fg.finetune(gc_rich_and_poor(20), model=None, features=("gc", "kmer"))
    assert predictor.min_length == 4
    with pytest.raises(InputError, match="fewer than 4 bases"):
        predictor.predict(["ACGT", "ACG"])


def test_predictor_save_keeps_other_folders(predictor: fg.Predictor, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(ArgumentError, match="no predictor"):
        predictor.save(tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "keep"


@pytest.mark.parametrize("path", ["file", "file/sub"])
def test_predictor_save_refuses_files(predictor: fg.Predictor, tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("keep")
    with pytest.raises(ArgumentError, match="file is not a folder"):
        predictor.save(tmp_path / path)
    assert (tmp_path / "file").read_text() == "keep"


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
    with pytest.raises(InputError, match=r"1 records of .* first number 21 \(empty"):
        predictor.predict(path)


def test_predict_takes_lower_case_and_rna(predictor: fg.Predictor) -> None:
    sequence = "ACGTTGCAAC" * 5
    expected = predictor.predict_proba([sequence])
    for other in (sequence.lower(), sequence.replace("T", "U")):
        np.testing.assert_array_equal(predictor.predict_proba([other]), expected)


def test_predictor_notices_another_config_of_the_base_model(tmp_path: Path) -> None:
    copy = tmp_path / "model"
    model = fg.load("tiny")
    model.save(copy)
    fg.finetune(gc_rich_and_poor(40), model=copy).save(tmp_path / "run")
    sequences, _ = gc_rich_and_poor(10, seed=3)
    before = fg.Predictor.load(tmp_path / "run").predict_proba(sequences)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "default_layers": [2, 1, 0]}))
    np.testing.assert_array_equal(fg.Predictor.load(tmp_path / "run").predict_proba(sequences), before)
    config["transformer"]["rotary_base"] = 500.0
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="describes another network"):
        fg.Predictor.load(tmp_path / "run")


def test_predictor_takes_numpy_layers_and_saves_them(tmp_path: Path) -> None:
    predictor = fg.finetune(gc_rich_and_poor(40), method=fg.Probe(layer=np.int64(1), pooling="max"))
    predictor.save(tmp_path / "run")
    loaded = fg.Predictor.load(tmp_path / "run")
    assert (loaded.layer, loaded.pooling) == ((1,), "max")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "run").iterdir()}
    assert len(modes) == 1


def test_predictor_of_a_path_named_like_a_registered_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fg.load("tiny", dtype="float32").save("tiny")
    fg.finetune(gc_rich_and_poor(40), model=Path("tiny")).save("run")
    assert fg.Predictor.load("run").model.name == str(tmp_path / "tiny")


def test_finetune_refuses_one_label_for_all() -> None:
    with pytest.raises(ArgumentError, match="sequence of labels"):
        fg.finetune((["ACGT"], "1.csv".join([""] * 2)))  # two paths taken for data and labels


def test_infer_task_refuses_numbers_spoilt_by_words() -> None:
    labels = ["2.6", "3.5", "unknown", "4.1"] * 5
    with pytest.raises(InputError, match="unknown"):
        fg.finetune((["ACGTACGTAA"] * 20, labels), model=None, features=("gc",))
    predictor = fg.finetune(
        ([f"ACGT{'AC' * i}GT" for i in range(20)], labels), model=None, features=("gc",), task="multiclass"
    )
    assert len(predictor.task.classes) == 4
