"""The tuning loop: gradients, order, selection; it learns what the frozen embedding does not show."""

import copy
import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_motifs import planted_motifs
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight
from small_checkpoints import write_tiny
from torch.nn import functional as F

import fastgenome as fg
from fastgenome.errors import ArgumentError, DivergedError, InputError
from fastgenome.models import Model
from fastgenome.training.heads import LinearHead
from fastgenome.training.methods import prepare
from fastgenome.training.targets import Task
from fastgenome.training.tuning_batches import TuningData, epoch_batches, held_out_split, parts_of_batch
from fastgenome.training.tuning_loss import TunedHead, Unit, example_losses, example_weights, target_tensor
from fastgenome.training.tuning_run import TuningRun, recomputed_layers
from fastgenome.training.tuning_selection import Selection

BINARY = Task("binary", (0, 1))
LENGTHS = (60, 41, 33, 60, 52, 80, 47, 60, 39, 44, 71, 60)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "small")


def sequences_of(lengths: tuple[int, ...], seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), length)) for length in lengths]


def make_run(
    model: Model, method: object, *, features: tuple[str, ...] = (), **settings: object
) -> TuningRun:
    """A run over a dozen sequences of a binary task, whose head has random weights."""
    training = fg.Training(**settings)
    predictor = fg.Predictor(model, features=features, pooling=None, layer=None)
    predictor.task = BINARY
    sequences = sequences_of(LENGTHS)
    tokens = model.tokenizer(sequences)
    data = TuningData(
        tokens,
        -(-tokens.lengths // model.encoder.stride),
        np.array(LENGTHS),
        predictor.feature_matrix(sequences),
        np.arange(len(sequences)) % 3 % 2,
    )
    rng = np.random.default_rng(1)
    width = predictor.n_inputs
    start = LinearHead(
        "binary", rng.normal(size=width), rng.uniform(0.5, 2, width), rng.normal(size=(1, width)), np.ones(1)
    )
    prepare(model, method, pooler=False)
    head = TunedHead(start, Unit(0.0, 1.0), zero=False)
    return TuningRun(predictor, head, data, data, training=training, learning_rate=1e-2)


def gradients(run: TuningRun, batch: np.ndarray) -> dict[str, torch.Tensor]:
    for part in parts_of_batch(run.data.rows, batch, run.training.batch_tokens):
        run._loss(part, len(batch)).backward()
    found = {name: p.grad.clone() for name, p in run.parameters.items() if p.grad is not None}
    run.optimizer.zero_grad()
    return found


@pytest.mark.parametrize(
    ("pooling", "layer"),
    [(None, None), ("max", None), ("mean+max+last", (0, -1)), ("mean", 1), ("attention", 1)],
)
def test_pooled_equals_embed(pooling: str | None, layer: object) -> None:
    model = fg.load("tiny", dtype="float32")
    sequences = sequences_of(LENGTHS)
    embedded = model.embed(sequences, pooling=pooling, layer=layer)
    pooled = model.pooled(model.tokenizer(sequences), pooling=pooling, layer=layer)
    assert pooled.requires_grad
    np.testing.assert_allclose(pooled.detach().numpy(), embedded, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", [fg.Full(), fg.LoRA(rank=2), fg.IA3()], ids=lambda m: type(m).__name__)
def test_gradient_of_parts_is_that_of_the_batch(small: Path, method: object) -> None:
    whole = make_run(fg.load(small, dtype="float32"), method, class_weights=(1.0, 3.0), features=("gc",))
    parts = make_run(
        fg.load(small, dtype="float32"), method, class_weights=(1.0, 3.0), features=("gc",), batch_tokens=30
    )
    batch = np.arange(len(LENGTHS))
    assert len(parts_of_batch(parts.data.rows, batch, 30)) > 3
    expected, found = gradients(whole, batch), gradients(parts, batch)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        scale = gradient.abs().max().clamp_min(1e-6)
        assert (found[name] - gradient).abs().max() <= 2e-5 * scale, name


def test_ten_steps_equal_a_plain_loop(small: Path) -> None:
    settings = {"batch_size": 5, "epochs": 4, "clip": 0.5, "weight_decay": 0.1, "warmup": 0.25, "seed": 3}
    run = make_run(fg.load(small, dtype="float32"), fg.Full(), **settings)
    model, head = fg.load(small, dtype="float32"), copy.deepcopy(run.head)
    sequences, targets = sequences_of(LENGTHS), torch.tensor(run.data.targets, dtype=torch.float32)
    parameters = [*model.encoder.parameters(), *head.parameters()]
    matrices, vectors = ([p for p in parameters if (p.dim() > 1) == wide] for wide in (True, False))
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}],
                                  weight_decay=0.1)  # fmt: skip
    order = [
        batch
        for epoch in range(4)
        for batch in epoch_batches(run.data.rows, batch_size=5, seed=3, epoch=epoch)
    ]
    rates = [1e-2 * share for share in (1 / 3, 2 / 3, 1, *((12 - step) / 9 for step in range(3, 12)))]
    for batch, rate in zip(order[:10], rates, strict=False):
        states = [model.hidden_states(model.tokenizer([sequences[i]])) for i in batch]
        scores = head(torch.stack([state.mean(0) for state in states]))[:, 0]
        loss = F.binary_cross_entropy_with_logits(scores, targets[batch])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        run._one_step()
    assert run.step == 10
    for found, expected in zip(run.model.encoder.parameters(), model.encoder.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(run.head.weight, head.weight, rtol=1e-3, atol=2e-5)


def test_recomputed_layers_leave_the_gradient_as_it_is(small: Path) -> None:
    run = make_run(
        fg.load(small, dtype="float32"), fg.LoRA(rank=2, dropout=0.5, targets=("query", "ffn_out"))
    )
    for parameter in run.parameters.values():
        torch.nn.init.normal_(parameter)
    batch, calls = np.arange(6), []
    torch.manual_seed(0)
    expected = gradients(run, batch)
    layer = run.model.encoder.layers[0]
    layer.attention_norm.register_forward_hook(lambda *_: calls.append(1))
    with recomputed_layers(run.model.network, wanted=True):
        torch.manual_seed(0)
        found = gradients(run, batch)
    assert len(calls) == 2
    assert "forward" not in vars(layer)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)
        assert gradient.abs().max() > 0


def test_epoch_batches_depend_on_seed_and_epoch_alone() -> None:
    lengths = np.random.default_rng(0).integers(50, 500, 1000)
    first = epoch_batches(lengths, batch_size=16, seed=1, epoch=0)
    assert sorted(np.concatenate(first)) == list(range(1000))
    assert sorted(map(len, first)) == [8, *[16] * 62]
    again = epoch_batches(lengths, batch_size=16, seed=1, epoch=0)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for seed, epoch in ((1, 1), (2, 0)):
        other = epoch_batches(lengths, batch_size=16, seed=seed, epoch=epoch)
        assert not np.array_equal(np.concatenate(first), np.concatenate(other))
    spread = np.mean([np.ptp(lengths[batch]) for batch in first])
    assert spread < 0.25 * np.ptp(lengths)
    # Long batches do not come first.
    means = [lengths[batch].mean() for batch in first]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.35


def test_epoch_batches_of_one_length_are_random() -> None:
    batches = epoch_batches(np.full(640, 300), batch_size=32, seed=0, epoch=0)
    assert all(np.ptp(batch) > 200 for batch in batches)


def test_held_out_split_is_stratified_and_keeps_copies_together() -> None:
    sequences = [f"{'ACGT'[i % 4]}{i:b}".replace("0", "A").replace("1", "C") for i in range(400)] + [
        "AAA"
    ] * 40
    classes = np.array([int(i % 10 == 0) for i in range(400)] + [0] * 40)
    train, held = held_out_split(sequences, classes, share=0.2, seed=0)
    assert sorted([*train, *held]) == list(range(440))
    assert not {sequences[i] for i in train} & {sequences[i] for i in held}
    assert classes[held].sum() == 8
    again = held_out_split(sequences, classes, share=0.2, seed=0)[1]
    assert np.array_equal(held, again)
    assert not np.array_equal(held, held_out_split(sequences, classes, share=0.2, seed=1)[1])


def test_held_out_split_leaves_every_class_in_training() -> None:
    train, held = held_out_split(["AC", "CA", "GA", "GG"], np.array([0, 0, 0, 1]), share=0.5, seed=0)
    assert 3 in train
    assert len(held) == 2


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_example_losses_equal_scikit_learn(kind: str) -> None:
    rng = np.random.default_rng(0)
    classes = (0, 1) if kind == "binary" else ("a", "b", "c")
    task = Task(kind, classes)
    targets = rng.integers(0, len(classes), 50)
    scores = torch.tensor(rng.normal(size=(50, 1 if kind == "binary" else 3)))
    losses = example_losses(
        task,
        scores,
        target_tensor(task, targets, Unit(0, 1)).to(scores.dtype if kind == "binary" else torch.int64),
    )
    weights = example_weights(task, targets, "balanced")
    expected_weights = compute_sample_weight("balanced", targets)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-6)
    p = torch.sigmoid(scores[:, 0]) if kind == "binary" else scores.softmax(1)
    expected = log_loss(targets, p.numpy(), sample_weight=expected_weights)
    assert np.average(losses.numpy(), weights=weights) == pytest.approx(expected)


def test_example_weights_of_labels() -> None:
    task = Task("multilabel", (), ("x", "y"))
    targets = np.array([[1, 0], [0, 0], [0, 1], [0, 1]])
    balanced = example_weights(task, targets, "balanced")
    for label in range(2):
        np.testing.assert_allclose(balanced[:, label], compute_sample_weight("balanced", targets[:, label]))
    given = example_weights(task, targets, (3.0, 1.0))
    np.testing.assert_allclose(given[:, 0], np.array([3, 1, 1, 1]) / 1.5)
    np.testing.assert_allclose(given[:, 1], 1.0)


@pytest.mark.parametrize(
    ("task", "weights", "message"),
    [
        (Task("regression"), "balanced", "no classes"),
        (BINARY, (1.0, 2.0, 3.0), "must hold 2 numbers"),
        (Task("multilabel", (), ("x", "y")), (1.0,), "must hold 2 numbers"),
    ],
    ids=["regression", "binary", "multilabel"],
)
def test_example_weights_refuse(task: Task, weights: object, message: str) -> None:
    targets = np.zeros((4, 2) if task.kind == "multilabel" else 4, dtype=np.int64)
    with pytest.raises(ArgumentError, match=message):
        example_weights(task, targets, weights)


def test_tuned_head_is_the_linear_head() -> None:
    rng = np.random.default_rng(0)
    start = LinearHead(
        "regression", rng.normal(size=5), rng.uniform(1, 2, 5), rng.normal(size=(1, 5)), np.ones(1)
    )
    head = TunedHead(start, Unit(30.0, 4.0), zero=False)
    inputs = rng.normal(size=(7, 5)).astype(np.float32)
    scores = head(torch.from_numpy(inputs)).detach().numpy()[:, 0]
    np.testing.assert_allclose(scores * 4 + 30, start.outputs(inputs), atol=1e-5)
    np.testing.assert_allclose(head.to_linear_head().outputs(inputs), start.outputs(inputs), atol=1e-5)


@pytest.mark.parametrize(
    ("criterion", "best"), [("mcc", 20), ("loss", 10), ("brier", 10)], ids=lambda value: str(value)
)
def test_selection_takes_the_best_by_the_criterion(criterion: str, best: int) -> None:
    selection = Selection(BINARY, criterion)
    rows = [(0, 0.3, 0.6), (10, 0.5, 0.4), (20, 0.6, 0.5), (30, 0.6, 0.55), (40, 0.1, 0.9)]
    for step, mcc, loss in rows:
        row = {"step": step, "mcc": mcc, "loss": loss, "brier": loss}
        selection.add(row, {"w": torch.tensor(float(step))}, eligible=True)
    assert selection.best_step == best == selection.best["w"]
    assert selection.since_best == 4 - best // 10


def test_selection_leaves_out_what_is_not_eligible() -> None:
    selection = Selection(BINARY, None)
    for step, mcc in ((0, 0.9), (10, 0.2), (20, 0.1)):
        row = {"step": step, "mcc": mcc, "loss": 1.0}
        selection.add(row, {"w": torch.zeros(1)}, eligible=step > 0)
    assert (selection.best_step, selection.since_best) == (10, 1)


def test_selection_names_a_missing_criterion() -> None:
    with pytest.raises(InputError, match=r"do not define auc .* they give loss, mcc"):
        Selection(BINARY, "auc").add({"step": 0, "loss": 1.0, "mcc": 0.0}, {}, eligible=True)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_finetune_learns_what_the_frozen_embedding_does_not_show(method: str) -> None:
    train, validation = planted_motifs(500, seed=1), planted_motifs(200, seed=2)
    probe = fg.finetune(train, validation=validation)
    training = fg.Training(learning_rate=5e-3 if method == "lora" else 1e-3, batch_size=16)
    model = fg.load("tiny", dtype="float32")
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    tuned = fg.finetune(train, model=model, validation=validation, method=method, training=training)
    test, labels = planted_motifs(200, seed=3)
    accuracy = {p: np.mean(p.predict(test) == labels) for p in (probe, tuned)}
    assert accuracy[tuned] > 0.8
    assert accuracy[tuned] > accuracy[probe] + 0.15
    # The caller's model is what it was.
    assert tuned.model is not model
    after = model.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not model.adapters.configs
    assert all(parameter.requires_grad for parameter in model.network.parameters())


def regression(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    sequences, _ = planted_motifs(count, seed=seed)
    return sequences, np.array([100 + 30 * s.count("G") / len(s) for s in sequences])


def three_classes(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    sequences, labels = planted_motifs(count, seed=seed)
    return sequences, np.array(["x", "y", "z"])[labels + np.array([s[0] in "AC" for s in sequences])]


def two_labels(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    sequences, labels = planted_motifs(count, seed=seed)
    return sequences, np.column_stack([labels, [int(s.count("A") > 15) for s in sequences]])


@pytest.mark.parametrize(
    ("make", "figure"), [(regression, "r2"), (three_classes, "mcc"), (two_labels, "label_1.mcc")]
)
def test_finetune_tunes_every_kind_of_task(small: Path, make: object, figure: str) -> None:
    training = fg.Training(epochs=2, learning_rate=3e-3, batch_size=16, batch_tokens=200, class_weights=None)
    tuned = fg.finetune(
        make(120, 0), model=small, method="lora", validation=make(60, 1), training=training, features="gc"
    )
    assert figure in tuned.metrics["validation"]
    assert tuned.metrics["validation"]["r2" if make is regression else "accuracy"] > 0.3
    assert tuned.outputs(make(5, 2)[0]).shape[0] == 5


def test_finetune_starts_from_the_probe_and_never_falls_behind_it(small: Path) -> None:
    train, validation = planted_motifs(60, seed=1), planted_motifs(60, seed=2)
    probe = fg.finetune(train, model=fg.load(small, dtype="float32"), validation=validation)
    useless = fg.Training(epochs=1, learning_rate=1e-9)
    tuned = fg.finetune(train, model=small, method="lora", validation=validation, training=useless)
    test = planted_motifs(30, seed=3)[0]
    np.testing.assert_allclose(tuned.predict_proba(test), probe.predict_proba(test), atol=1e-4)
    harmful = fg.Training(epochs=1, learning_rate=1.0, batch_size=8)
    kept = fg.finetune(train, model=small, method="lora", validation=validation, training=harmful)
    assert kept.metrics["validation"]["mcc"] >= probe.metrics["validation"]["mcc"]


def test_finetune_with_a_head_of_zeros(small: Path) -> None:
    training = fg.Training(epochs=1, learning_rate=1e-9, head_init="zero")
    tuned = fg.finetune(planted_motifs(40, seed=1), model=small, method="full", training=training)
    np.testing.assert_allclose(tuned.predict_proba(["ACGTACGT"]), 0.5, atol=1e-4)


def test_finetune_holds_out_a_share_where_there_are_no_validation_data(small: Path) -> None:
    training = fg.Training(epochs=1, held_out=0.25)
    tuned = fg.finetune(planted_motifs(80, seed=1), model=small, method="ia3", training=training)
    assert tuned.hyperparameters["held_out"] == 20
    assert tuned.hyperparameters["steps"] == 2
    assert tuned.metrics.keys() == {"train", "validation"}


def test_finetune_ends_when_patience_is_over(small: Path) -> None:
    training = fg.Training(epochs=50, learning_rate=1e-9, evaluate_every=1, patience=3)
    tuned = fg.finetune(planted_motifs(64, seed=1), model=small, method="lora", training=training)
    assert tuned.hyperparameters["steps"] <= 8


def test_finetune_allocates_ranks_and_keeps_the_final_budget(small: Path, tmp_path: Path) -> None:
    method = fg.ARS(initial_rank=4, target_rank=2, allocation_interval=1)
    training = fg.Training(epochs=4, batch_size=8, evaluate_every=1, learning_rate=1e-2)
    data = planted_motifs(60, seed=1)
    tuned = fg.finetune(data, model=small, method=method, training=training, out=tmp_path / "run")
    rows = [row.split(",") for row in (tmp_path / "run" / "ranks.csv").read_text().splitlines()]
    assert rows[0] == ["step", "total", *(f"encoder.layers.0.{name}" for name in ("qkv", "up", "down"))]
    matrices = len(rows[0]) - 2
    assert int(rows[1][1]) == 4 * matrices
    assert int(rows[-1][1]) == 2 * matrices
    assert tuned.hyperparameters["best_step"] >= int(rows[-1][0])
    loaded = fg.Predictor.load(tmp_path / "run")
    np.testing.assert_allclose(loaded.predict_proba(data[0][:9]), tuned.predict_proba(data[0][:9]), atol=1e-6)


def test_finetune_in_bfloat16_trains_float32(small: Path) -> None:
    data, training = planted_motifs(40, seed=1), fg.Training(epochs=1, dtype="bfloat16")
    for model in (small, fg.load(small, dtype="float32")):
        tuned = fg.finetune(data, model=model, method="lora", training=training)
        assert tuned.model.dtype == torch.bfloat16
    adapters = {p.dtype for p in tuned.model.adapter_parameters()}
    assert adapters == {torch.float32}
    full = fg.finetune(data, model=small, method="full", training=training)
    assert {p.dtype for p in full.model.network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "lora", "model": None, "features": "gc"}, ArgumentError, "'lora' tunes a model"),
        ({"training": fg.Training()}, ArgumentError, "the probe tunes nothing"),
        (
            {"method": "lora", "training": fg.Training(learning_rate=1e30, epochs=20, clip=float("inf"))},
            ArgumentError,
            "diverged .* lower learning_rate",
        ),
        (
            {"method": "lora", "training": fg.Training(criterion="r2")},
            ArgumentError,
            "must be one of loss, mcc",
        ),
        ({"method": "lora", "training": fg.Training(layer=9)}, ArgumentError, "layer must be"),
    ],
    ids=["no-model", "probe", "diverged", "criterion", "layer"],
)
def test_finetune_refuses_to_tune(small: Path, arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fg.finetune(planted_motifs(40, seed=1), **{"model": small, **arguments})


def test_finetune_refuses_a_model_rounded_to_bfloat16(small: Path) -> None:
    model = fg.load(small, dtype="bfloat16")
    with pytest.raises(ArgumentError, match="load it with dtype='float32'"):
        fg.finetune(planted_motifs(40, seed=1), model=model, method="full")


def test_finetune_refuses_a_model_with_adapters(small: Path) -> None:
    model = fg.load(small, dtype="float32")
    model.add_adapter(fg.LoRA())
    with pytest.raises(ArgumentError, match=r"has adapters \(default\)"):
        fg.finetune(planted_motifs(40, seed=1), model=model, method="lora")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number from 1"),
        ({"epochs": 1.5}, "epochs must be"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"warmup": 1.0}, "warmup must be"),
        ({"dtype": "float16"}, "dtype must be one of auto, float32, bfloat16"),
        ({"class_weights": "even"}, "class_weights must be None"),
        ({"class_weights": (1, -1)}, "class_weights must be None"),
        ({"criterion": "speed"}, "criterion must be one of"),
        ({"patience": 0}, "patience must be"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing must be a bool"),
        ({"seed": -1}, "seed must be"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_training_refuses(settings: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        fg.Training(**settings)


def test_training_takes_numbers_of_numpy() -> None:
    given = fg.Training(epochs=np.int64(2), clip=np.float32(2), seed=np.uint8(3), warmup=0)
    assert json.dumps(asdict(given)) == json.dumps(
        asdict(fg.Training(epochs=2, clip=2.0, seed=3, warmup=0.0))
    )
    assert json.dumps(fg.Probe(seed=np.int64(3)).seed) == "3"
    assert fg.Training(class_weights=np.array([1, 2.5])).class_weights == (1.0, 2.5)


@pytest.mark.parametrize("criterion", ["mcc", "loss", "rmse"])
def test_selection_never_takes_nan(criterion: str) -> None:
    selection = Selection(Task("regression") if criterion == "rmse" else BINARY, criterion)
    for step, value in enumerate((math.nan, 0.5, math.nan)):
        row = {"step": step, "loss": 0.3, "mcc": 0.1, criterion: value}
        selection.add(row, {"w": torch.tensor(float(step))}, eligible=True)
    assert selection.best_step == 1


def test_selection_of_correlations_of_equal_predictions() -> None:
    selection = Selection(Task("regression"), "pearson")
    selection.add({"step": 0, "loss": 0.1, "r2": 0.0}, {"w": torch.zeros(1)}, eligible=True)
    selection.add({"step": 5, "loss": 0.2, "r2": 0.0, "pearson": -0.5}, {"w": torch.ones(1)}, eligible=True)
    assert selection.best_step == 5


@pytest.mark.parametrize("place", ["embedding", "head"])
def test_divergence_at_an_evaluation(small: Path, place: str) -> None:
    run = make_run(fg.load(small, dtype="float32"), fg.LoRA())
    with torch.no_grad():
        (run.head.weight if place == "head" else run.model.encoder.layers[0].qkv.weight).fill_(math.nan)
    with pytest.raises(DivergedError, match=f"{place} is nan; use a lower learning_rate"):
        run._evaluate()


def test_held_out_split_leaves_every_label_in_training() -> None:
    sequences = [f"{'A' * i}C" for i in range(12)]
    labels = np.zeros((12, 3), dtype=np.int64)
    labels[3, 0], labels[:, 1], labels[5, 1] = 1, 1, 0
    labels[[1, 2], 2] = 1
    for seed in range(20):
        train, held = held_out_split(sequences, labels, share=0.5, seed=seed)
        assert len(held) >= 1
        for column in labels[train].T:
            assert set(column) == {0, 1}


def test_held_out_split_of_copies_of_two_classes() -> None:
    # The only member of class 1 is a copy of a member of class 0.
    for seed in range(20):
        train, _ = held_out_split(["A", "A", "C", "G"], np.array([0, 1, 0, 0]), share=0.5, seed=seed)
        assert 1 in train


def test_held_out_split_of_a_regression_holds_out_two() -> None:
    sequences = [f"{'A' * i}C" for i in range(12)]
    assert len(held_out_split(sequences, None, share=0.05, seed=0)[1]) == 2


def test_head_of_zeros_fits_no_probe(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgenome.training.tuning.fit_linear_head", None)
    training = fg.Training(epochs=1, learning_rate=1e-9, head_init="zero")
    tuned = fg.finetune(three_classes(40, 1), model=small, method="lora", training=training)
    inputs = tuned.inputs(three_classes(40, 1)[0])
    assert tuned.head.mean.shape == (inputs.shape[1],)
    assert tuned.head.scale.min() > 0


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("lora", {"criterion": "spearman"}, "criterion of a binary task must be one of loss, mcc"),
        ("lora", {"class_weights": (1, 2, 3)}, "class_weights must hold 2 numbers"),
        (fg.AdaLoRA(allocation_warmup=90, allocation_final=10), {}, "leave none of the 9 steps"),
        (fg.LoRA(targets=("ffn_in", "query")), {"layer": 0}, "layer must hold the last one, 1 or -1"),
        ("ia3", {"layer": (0, -2)}, "above 0 would learn nothing"),
    ],
    ids=["criterion", "class_weights", "schedule", "layer", "layers"],
)
def test_settings_are_refused_before_the_embedding(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: object, settings: dict, message: str
) -> None:
    monkeypatch.setattr(fg.Predictor, "joined", None)
    training = fg.Training(batch_size=12, **settings)
    with pytest.raises(ArgumentError, match=message):
        fg.finetune(
            planted_motifs(40, seed=1), model=small, method=method, training=training, out=tmp_path / "r"
        )
    assert not (tmp_path / "r").exists()


def test_targets_are_refused_before_the_embedding(parity_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fg.Predictor, "joined", None)
    with pytest.raises(ArgumentError, match="targets query are not in model"):
        fg.finetune(
            planted_motifs(40, seed=1), model=parity_dir / "caduceus_1", method=fg.LoRA(targets=("query",))
        )


def test_no_clipping_is_stored_as_json(small: Path, tmp_path: Path) -> None:
    training = fg.Training(epochs=1, clip=math.inf)
    fg.finetune(planted_motifs(40, seed=1), model=small, method="lora", training=training, out=tmp_path / "r")
    for name in ("predictor.json", "metrics.json"):
        assert "Infinity" not in (tmp_path / "r" / name).read_text()
    assert fg.Predictor.load(tmp_path / "r").hyperparameters["training"]["clip"] is None


FAMILIES = {
    "caduceus_1": ("ffn_in", "ffn_out"),
    "dnabert_1": ("query", "value"),
    "dnabert2_1": ("query", "value"),
    "hyenadna_1": ("query", "value"),
    "nt_v1_1": ("query", "value"),
    "nt_v2_1": ("query", "value"),
    "opt_1": ("query", "value"),
    "specieslm_1": ("query", "value"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_loaded_model_of_every_family_is_tuned(name: str, parity_dir: Path, tmp_path: Path) -> None:
    model = fg.load(parity_dir / name, dtype="float32")
    sequences, labels = planted_motifs(24, seed=1)
    before = model.embed(sequences)
    method, training = fg.LoRA(rank=2, targets=FAMILIES[name]), fg.Training(epochs=1, batch_size=12, seed=1)
    tuned = fg.finetune((sequences, labels), model=model, method=method, training=training)
    tuned.save(tmp_path / "saved")
    loaded = fg.Predictor.load(tmp_path / "saved")
    np.testing.assert_allclose(loaded.predict_proba(sequences), tuned.predict_proba(sequences), atol=1e-5)
    np.testing.assert_array_equal(model.embed(sequences), before)
