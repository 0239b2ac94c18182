"""AdaLoRA's importance, budget, pruning and regulariser against PEFT and float64; state, ties and history."""

import csv
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from small_triplets import RANK, SHAPES, Adapted, batch, peft_layers, under_peft
from torch.utils._python_dispatch import TorchDispatchMode

from fastgenome.adapters.adalora import AdaLoRA, BudgetSchedule
from fastgenome.adapters.rank_allocation import RankAllocator
from fastgenome.adapters.rank_sampling import ARS
from fastgenome.errors import ArgumentError, CheckpointError, MissingExtraError, ModelError

STEPS = 20


def settings(**changes: object) -> AdaLoRA:
    """Two warm-up steps, an allocation every second step until 15, then five final steps."""
    values = {
        "initial_rank": RANK,
        "target_rank": 2,
        "allocation_warmup": 2,
        "allocation_final": 5,
        "allocation_interval": 2,
    }
    return AdaLoRA(**(values | changes))


def sampling(**changes: object) -> ARS:
    """The same schedule with sampling."""
    plain = settings()
    fields = {name: getattr(plain, name) for name in AdaLoRA.__dataclass_fields__}
    return ARS(**(fields | {"orthogonality": 0.0} | changes))


def train(network: Adapted, allocator: RankAllocator, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """The loop that the allocator is made for."""
    for step in steps:
        network(batch(step)).backward()
        allocator.add_orthogonality_gradient()
        allocator.after_backward(step)
        optimizer.step()
        allocator.after_step(step)
        optimizer.zero_grad()


def adamw(network: torch.nn.Module) -> torch.optim.AdamW:
    parameters = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1)


def peft_scores(model: torch.nn.Module) -> list[float]:
    """The scores of PEFT's averages, Eq. 1 written out for every triplet."""
    averages = model.base_model.rankallocator
    element = {name: averages.exp_avg_ipt[name] * averages.exp_avg_unc[name] for name in averages.exp_avg_ipt}
    scores = []
    for i in range(len(SHAPES)):
        down, values, up = (element[f"layers.{i}.lora_{kind}.default"] for kind in "AEB")
        scores += [float(down[j].mean() + values[j, 0] + up[:, j].mean()) for j in range(RANK)]
    return scores


def test_adalora_trains_as_peft_does() -> None:
    network = Adapted()
    model = under_peft(
        network, target_r=2, tinit=2, tfinal=5, deltaT=2, total_step=STEPS, orth_reg_weight=0.3
    )
    allocator = RankAllocator(network.named(), settings(orthogonality=0.3), total_steps=STEPS)
    ours, theirs = adamw(network), adamw(model)
    for step in range(1, STEPS + 1):
        train(network, allocator, ours, range(step, step + 1))
        model.base_model(batch(step)).loss.backward()
        theirs.step()
        model.base_model.update_and_allocate(step)
        if step < 15:
            assert allocator.scores().tolist() == pytest.approx(peft_scores(model), rel=1e-4, abs=1e-12)
        theirs.zero_grad()
        pattern = model.peft_config["default"].rank_pattern
        if pattern is not None:
            assert list(pattern.values()) == list(allocator.pattern.values())
        for layer, triplet in zip(peft_layers(model), network.triplets.values(), strict=True):
            for expected, got in (
                (layer.lora_A["default"], triplet.down),
                (layer.lora_E["default"][:, 0], triplet.values),
                (layer.lora_B["default"], triplet.up),
            ):
                torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    assert sum(map(sum, allocator.pattern.values())) == 2 * len(SHAPES)
    assert sum(int((t.values != 0).sum()) for t in network.triplets.values()) == 2 * len(SHAPES)


def test_orthogonality_equals_peft_with_its_gradients() -> None:
    network = Adapted()
    model = under_peft(network, target_r=2, total_step=STEPS, orth_reg_weight=0.7)
    x = batch(0)
    without = network(x)
    (model.base_model(x).loss - without.detach()).backward()
    expected = [[layer.lora_A["default"].grad, layer.lora_B["default"].grad] for layer in peft_layers(model)]
    value = RankAllocator(network.named(), settings(), total_steps=STEPS).orthogonality()
    (without + 0.7 * value).backward()
    assert (without + 0.7 * value).item() == pytest.approx(model.base_model(x).loss.item(), rel=1e-6)
    for triplet, (down, up) in zip(network.triplets.values(), expected, strict=True):
        torch.testing.assert_close(triplet.down.grad, down, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(triplet.up.grad, up, rtol=1e-5, atol=1e-6)


def test_orthogonality_gradient_equals_backward_in_float64() -> None:
    network = Adapted()
    network.triplets["layer1"].down.data = torch.eye(RANK, 10)  # orthonormal: a norm of 0
    allocator = RankAllocator(network.named(), settings(orthogonality=0.7), total_steps=STEPS)
    network(batch(0)).backward()
    own = [p.grad.clone() for p in network.parameters_of_adapter()]
    value = allocator.add_orthogonality_gradient()
    exact = [p.detach().double().requires_grad_() for p in network.parameters_of_adapter()]
    norms = []
    for matrix in exact:
        if matrix.ndim == 2:
            wide = matrix if len(matrix) == RANK else matrix.T
            norms.append((wide @ wide.T - torch.eye(RANK, dtype=torch.float64)).norm())
    expected = 0.7 * sum(norms) / len(norms)
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    for parameter, before, reference in zip(network.parameters_of_adapter(), own, exact, strict=True):
        added = torch.zeros_like(reference) if reference.grad is None else reference.grad
        torch.testing.assert_close((parameter.grad - before).double(), added, rtol=1e-4, atol=1e-6)


def test_eq4_importance_is_that_of_the_paper_in_float64() -> None:
    network = Adapted()
    allocator = RankAllocator(
        network.named(), sampling(beta1=0.7, beta2=0.6, resample_probability=0.0), total_steps=STEPS
    )
    optimizer = adamw(network)
    average: dict[str, torch.Tensor] = {}
    spread: dict[str, torch.Tensor] = {}
    for step in range(1, 4):
        network(batch(step)).backward()
        for name, p in network.triplets.named_parameters():
            now = (p.detach().double() * p.grad.double()).abs()
            before = average.get(name, torch.zeros_like(now))
            spread[name] = 0.6 * spread.get(name, torch.zeros_like(now)) + 0.4 * (now - before).abs()
            average[name] = 0.7 * before + 0.3 * now
        allocator.after_backward(step)
        optimizer.step()
        allocator.after_step(step)
        optimizer.zero_grad()
    expected = []
    for name in network.triplets:
        s = {kind: average[f"{name}.{kind}"] * spread[f"{name}.{kind}"] for kind in ("down", "values", "up")}
        expected.append(s["values"] + s["down"].mean(1) + s["up"].mean(0))
    torch.testing.assert_close(allocator.scores().double(), torch.cat(expected), rtol=1e-5, atol=0)


def test_importance_takes_accumulated_gradients_once() -> None:
    whole, halves = Adapted(), Adapted()
    first = RankAllocator(whole.named(), sampling(), total_steps=STEPS)
    second = RankAllocator(halves.named(), sampling(), total_steps=STEPS)
    whole(batch(1)).backward()
    for part in batch(1).chunk(2):
        (halves(part) / 2).backward()
    first.after_backward(1)
    second.after_backward(1)
    torch.testing.assert_close(first.scores(), second.scores(), rtol=1e-4, atol=0)


def test_budget_is_the_cubic_curve() -> None:
    schedule = settings(allocation_warmup=10, allocation_final=0.25, allocation_interval=7).schedule(
        200, matrices=72
    )
    assert schedule == BudgetSchedule(initial=288, target=144, warmup=10, end=150, interval=7)
    for step in range(1, 201):
        share = Fraction(min(max(step - 10, 0), 140), 140)
        assert schedule.budget(step) == int(144 + (288 - 144) * (1 - share) ** 3)
        assert schedule.allocates(step) == (step == 150 or (10 < step < 150 and step % 7 == 0))


@pytest.mark.parametrize("total_steps", [1, 2, 3, 10, 100])
def test_default_schedule_ends_at_the_target_in_short_runs(total_steps: int) -> None:
    schedule = AdaLoRA().schedule(total_steps, matrices=3)
    assert schedule.allocates(schedule.end)
    assert 1 <= schedule.end <= total_steps
    assert schedule.budget(schedule.end) == 24


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"initial_rank": 0}, "rank"),
        ({"target_rank": 5}, "target_rank"),
        ({"target_rank": 2.0}, "target_rank"),
        ({"alpha": 0}, "alpha"),
        ({"dropout": 1.0}, "dropout"),
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": True}, "beta2"),
        ({"orthogonality": float("nan")}, "orthogonality"),
        ({"targets": ("qkv",)}, "targets"),
        ({"seed": -1}, "seed"),
        ({"allocation_warmup": -1}, "allocation_warmup"),
        ({"allocation_final": 1.5}, "allocation_final"),
        ({"allocation_interval": 0}, "allocation_interval"),
    ],
)
def test_settings_refuse_wrong_values(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ArgumentError, match=word):
        settings(**changes)


def test_schedule_refuses_phases_that_leave_no_step() -> None:
    with pytest.raises(ArgumentError, match="allocation_warmup"):
        settings().schedule(7, matrices=1)


def test_equal_scores_keep_exactly_the_budget_and_the_first() -> None:
    network = Adapted()
    allocator = RankAllocator(
        network.named(), settings(allocation_warmup=0, allocation_final=0), total_steps=1
    )
    network(batch(1)).backward()
    allocator.after_backward(1)  # total_steps is 1: nothing is measured, all scores are 0
    allocator.after_step(1)
    kept = [flag for flags in allocator.pattern.values() for flag in flags]
    assert kept == [True] * 10 + [False] * 10


@pytest.mark.parametrize("make", [settings, sampling], ids=["adalora", "ars"])
def test_equal_ranks_keep_everything(make) -> None:  # type: ignore[no-untyped-def]
    network = Adapted()
    chosen = make(target_rank=RANK)
    allocator = RankAllocator(network.named(), chosen, total_steps=STEPS)
    train(network, allocator, adamw(network), range(1, STEPS + 1))
    assert all(all(flags) for flags in allocator.pattern.values())


@pytest.mark.parametrize("mode", ["eq4", "adalora", "lingo"])
def test_resumed_training_is_the_same_bit_for_bit(mode: str) -> None:
    chosen = sampling(mode=mode, orthogonality=0.1, resample_probability=None if mode == "adalora" else 0.3)
    straight = Adapted()
    allocator = RankAllocator(straight.named(), chosen, total_steps=STEPS)
    train(straight, allocator, adamw(straight), range(1, STEPS + 1))
    first = Adapted()
    interrupted, optimizer = RankAllocator(first.named(), chosen, total_steps=STEPS), adamw(first)
    train(first, interrupted, optimizer, range(1, 10))
    saved = {name: tensor.clone() for name, tensor in interrupted.state_dict().items()}
    second = Adapted(seed=1)
    second.load_state_dict(
        {k: v for k, v in first.state_dict().items() if not k.endswith("mask")}, strict=False
    )
    resumed, continued = RankAllocator(second.named(), chosen, total_steps=STEPS), adamw(second)
    continued.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(saved)
    train(second, resumed, continued, range(10, STEPS + 1))
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    for name, tensor in allocator.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    np.testing.assert_array_equal(allocator.history.ranks, resumed.history.ranks)


def test_state_of_other_matrices_is_refused() -> None:
    state = RankAllocator(Adapted().named(), settings(), total_steps=STEPS).state_dict()
    turned = Adapted(shapes=(*SHAPES[2:4], *SHAPES[:2], SHAPES[4]))
    with pytest.raises(CheckpointError, match="order"):
        RankAllocator(turned.named(), settings(), total_steps=STEPS).load_state_dict(state)
    other = Adapted(shapes=SHAPES[:2])
    with pytest.raises(CheckpointError, match="shapes"):
        RankAllocator(other.named(), settings(), total_steps=STEPS).load_state_dict(state)
    del state["pattern"]
    with pytest.raises(CheckpointError, match="pattern"):
        RankAllocator(Adapted().named(), settings(), total_steps=STEPS).load_state_dict(state)


def test_gradient_that_is_not_finite_is_told_before_anything_is_saved() -> None:
    network = Adapted()
    allocator = RankAllocator(network.named(), settings(), total_steps=STEPS)
    for step in range(1, 5):
        network(batch(step)).backward()
        if step == 2:
            network.triplets["layer2"].up.grad[3, 1] = float("inf")
        allocator.after_backward(step)
        allocator.after_step(step)
        network.zero_grad()
    for read in (lambda: allocator.history, allocator.state_dict):
        with pytest.raises(ModelError, match="not finite at or before step 4"):
            read()


def test_misuse_is_told() -> None:
    network = Adapted()
    allocator = RankAllocator(network.named(), sampling(), total_steps=STEPS)
    with pytest.raises(ModelError, match="before zero_grad"):
        allocator.after_backward(1)
    with pytest.raises(ArgumentError, match="step must be 1"):
        allocator.after_backward(2)
    with pytest.raises(ArgumentError, match="after_backward"):
        allocator.after_step(1)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    allocator.after_backward(1)
    with pytest.raises(ArgumentError, match="step must be 2"):
        allocator.after_backward(1)
    with pytest.raises(ArgumentError, match="step must be 1"):
        allocator.after_step(3)
    network.triplets["layer0"].up = torch.nn.Parameter(torch.zeros(10, 3))
    with pytest.raises(ArgumentError, match="layer0"):
        RankAllocator(network.named(), sampling(), total_steps=STEPS)
    with pytest.raises(ArgumentError, match="at least one"):
        RankAllocator({}, sampling(), total_steps=STEPS)


def test_branches_of_layers_are_triplets() -> None:
    chosen = sampling(allocation_warmup=0, resample_probability=0.0, target_rank=1)
    generator = torch.Generator().manual_seed(0)
    layers = [torch.nn.Linear(10, 7), torch.nn.Linear(7, 10)]
    branches = [
        chosen.make_branch(layer, range(layer.out_features), ("query",), generator) for layer in layers
    ]
    assert all(not branch.delta().any() for branch in branches)
    assert branches[0].scale == pytest.approx(16 / (RANK + 1e-5))
    allocator = RankAllocator(dict(zip("ab", branches, strict=True)), chosen, total_steps=6)
    optimizer = torch.optim.AdamW([p for branch in branches for p in branch.parameters()], lr=0.1)
    for step in range(1, 7):
        sum((branch.delta() - 1).square().sum() for branch in branches).backward()
        allocator.after_backward(step)
        optimizer.step()
        allocator.after_step(step)
        optimizer.zero_grad()
    kept = torch.cat([branch.mask for branch in branches])
    assert kept.sum() == 2
    assert [torch.linalg.matrix_rank(b.delta()) for b in branches] == [b.mask.sum() for b in branches]


class Operations(TorchDispatchMode):
    """Notes the name of every operation that is not a mere view."""

    VIEWS = frozenset(
        {"detach", "view", "slice", "split", "split_with_sizes", "unbind", "transpose", "expand"}
    )

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.__name__.split(".")[0]
        if name not in self.VIEWS:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", ["eq4", "adalora", "lingo"])
def test_number_of_operations_does_not_grow_with_that_of_matrices(mode: str) -> None:
    counts = []
    for repeats in (1, 15):
        network = Adapted(shapes=SHAPES * repeats)
        chosen = sampling(mode=mode, orthogonality=0.5, allocation_warmup=0, allocation_interval=1)
        allocator = RankAllocator(network.named(), chosen, total_steps=STEPS)
        network(batch(1)).backward()
        with Operations() as operations:
            allocator.add_orthogonality_gradient()
            allocator.after_backward(1)
            allocator.after_step(1)
        counts.append(len(operations.names))
        assert not {"_local_scalar_dense", "item", "nonzero", "is_nonzero"} & set(operations.names)
    assert counts[0] == counts[1]
    assert counts[0] <= 80  # three widths; a transformer has two


def test_history_is_written_as_a_table_and_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    network = Adapted()
    allocator = RankAllocator(network.named(), settings(), total_steps=STEPS)
    train(network, allocator, adamw(network), range(1, STEPS + 1))
    history = allocator.history
    assert history.steps.tolist() == [0, 4, 6, 8, 10, 12, 14, 15]
    assert history.ranks.sum(1).tolist() == [20] + [allocator.schedule.budget(t) for t in history.steps[1:]]
    history.write_csv(tmp_path / "ranks.csv")
    with open(tmp_path / "ranks.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "total", *network.triplets]
    assert rows[-1][:2] == ["15", "10"]
    assert [int(cell) for cell in rows[-1][2:]] == [sum(flags) for flags in allocator.pattern.values()]
    history.plot(tmp_path / "ranks.png", total_steps=STEPS)
    assert (tmp_path / "ranks.png").read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    history = RankAllocator(Adapted().named(), settings(), total_steps=STEPS).history
    with pytest.raises(MissingExtraError, match=r"fastgenome\[plot\]"):
        history.plot(tmp_path / "ranks.png")
