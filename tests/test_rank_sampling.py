"""Adaptive rank sampling: Eq. 4's statistics, values that come back, and how its three modes differ."""

import math

import pytest
import torch
from small_triplets import RANK, Adapted, batch

from fastgenome.adapters.rank_allocation import RankAllocator
from fastgenome.adapters.rank_sampling import ARS, resampled
from fastgenome.errors import ArgumentError

STEPS = 200
SETTINGS = {
    "initial_rank": RANK,
    "target_rank": 2,
    "allocation_warmup": 4,
    "allocation_final": 40,
    "allocation_interval": 8,
}


class Run:
    """A network in training under one mode; every step is done with `step`."""

    def __init__(self, **changes: object) -> None:
        self.network = Adapted()
        self.allocator = RankAllocator(self.network.named(), ARS(**(SETTINGS | changes)), total_steps=STEPS)
        self.optimizer = torch.optim.AdamW(self.network.parameters_of_adapter(), lr=0.01, weight_decay=0.1)

    def step(self) -> torch.Tensor:
        """One optimizer step; returns λ of all triplets before the allocation that follows it."""
        step = self.allocator.step + 1
        self.network(batch(step)).backward()
        self.allocator.after_backward(step)
        self.optimizer.step()
        trained = self.values()
        self.allocator.after_step(step)
        self.optimizer.zero_grad()
        return trained

    def to(self, step: int) -> None:
        """Trains up to a step."""
        while self.allocator.step < step:
            self.step()

    def values(self) -> torch.Tensor:
        """λ of all triplets."""
        return torch.cat([triplet.values.detach() for triplet in self.network.triplets.values()])

    def masks(self) -> torch.Tensor:
        """What the network multiplies λ by."""
        return torch.cat([triplet.mask for triplet in self.network.triplets.values()])

    def pattern(self) -> torch.Tensor:
        """What the allocator reports."""
        return torch.tensor([kept for flags in self.allocator.pattern.values() for kept in flags])


def top_of(scores: torch.Tensor, budget: int) -> torch.Tensor:
    """The highest scores, of equal ones the first, in plain Python."""
    ranked = sorted(range(len(scores)), key=lambda i: (-scores[i].item(), i))
    return torch.tensor([i in set(ranked[:budget]) for i in range(len(scores))])


def test_resampling_keeps_as_many_as_equation_4_on_average() -> None:
    triplets, budget, p, draws = 864, 500, 0.05, 10_000
    top = torch.rand(triplets, generator=torch.Generator().manual_seed(1)).argsort() < budget
    generator = torch.Generator().manual_seed(2)
    of_top = of_others = 0
    for _ in range(draws):
        kept = resampled(top, probability=p, generator=generator)
        of_top += int((kept & top).sum())
        of_others += int((kept & ~top).sum())
    # Sums of draws · b and draws · (R − b) independent Bernoulli variables.
    for count, trials, chance in ((of_top, budget, 1 - p), (of_others, triplets - budget, p)):
        assert abs(count - draws * trials * chance) < 4 * math.sqrt(draws * trials * p * (1 - p))
    expected = (1 - p) * budget + p * (triplets - budget)
    assert abs((of_top + of_others) / draws - expected) < 4 * math.sqrt(triplets * p * (1 - p) / draws)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_resampling_at_its_ends(p: float) -> None:
    top = torch.tensor([True, False, True, False])
    kept = resampled(top, probability=p, generator=torch.Generator())
    assert torch.equal(kept, ~top if p else top)


def test_seed_alone_decides_what_is_drawn() -> None:
    first, second, other = Run(), Run(), Run(seed=1)
    torch.manual_seed(0)
    first.to(100)
    torch.manual_seed(5)  # neither this nor other draws from PyTorch's own generator matter
    torch.rand(3)
    second.to(100)
    other.to(100)
    assert torch.equal(first.pattern(), second.pattern())
    assert first.allocator.history.ranks.tolist() == second.allocator.history.ranks.tolist()
    assert first.allocator.history.ranks.tolist() != other.allocator.history.ranks.tolist()


def test_eq4_mask_is_the_top_but_for_what_is_drawn() -> None:
    run = Run(resample_probability=0.3)
    run.to(7)
    run.step()
    top = top_of(run.allocator.scores(), run.allocator.schedule.budget(8))
    drawn = torch.rand(len(top), generator=torch.Generator().manual_seed(0)) < 0.3
    kept = torch.where(top, ~drawn, drawn)
    assert (top & drawn).any()
    assert (~top & drawn).any()
    assert torch.equal(run.pattern(), kept)
    assert torch.equal(run.masks(), kept)


def test_eq4_pruned_value_rests_and_comes_back_as_it_was() -> None:
    run = Run(resample_probability=0.3)
    at_pruning = run.values()
    masks, came_back = run.masks(), 0
    for _ in range(150):
        trained = run.step()
        returned = run.masks() & ~masks
        pruned = masks & ~run.masks()
        rests = ~masks
        assert torch.equal(run.values()[rests], at_pruning[rests])
        at_pruning = torch.where(pruned, trained, at_pruning)
        assert torch.equal(run.values()[pruned], trained[pruned])
        came_back += int(returned.sum())
        masks = run.masks()
    assert came_back > 20


def test_eq4_gives_pruned_triplets_no_gradient_so_their_scores_fade() -> None:
    run = Run(resample_probability=0.0)
    run.to(96)
    pruned = ~run.masks()
    before = run.allocator.scores()
    assert pruned.any()
    run.network(batch(97)).backward()
    down, values, up = (
        [getattr(triplet, kind).grad for triplet in run.network.triplets.values()]
        for kind in ("down", "values", "up")
    )
    assert not torch.cat(values)[pruned].any()
    assert not torch.cat([gradient.abs().sum(1) for gradient in down])[pruned].any()
    assert not torch.cat([gradient.abs().sum(0) for gradient in up])[pruned].any()
    run.allocator.after_backward(97)
    assert (run.allocator.scores()[pruned] < before[pruned]).all()


@pytest.mark.parametrize("mode", ["eq4", "adalora", "lingo"])
def test_final_budget_draws_nothing(mode: str) -> None:
    run = Run(mode=mode, resample_probability=None if mode == "adalora" else 0.3)
    run.to(159)
    run.step()
    assert torch.equal(run.pattern(), top_of(run.allocator.scores(), 10))
    kept = run.masks()
    assert torch.equal(kept, run.pattern())
    for _ in range(40):
        run.step()
        assert torch.equal(run.masks(), kept)
        assert torch.equal(run.pattern(), kept)
        if mode != "eq4":
            assert not run.values()[~kept].any()
    assert run.allocator.history.ranks[-1].sum() == 10


def test_eq4_keeps_values_where_the_other_modes_set_them_to_0() -> None:
    runs = {mode: Run(mode=mode) for mode in ("eq4", "adalora", "lingo")}
    for mode, run in runs.items():
        run.to(96)
        assert run.values().all() == (mode == "eq4")
        assert run.masks().all() == (mode != "eq4")


def test_adalora_keeps_the_top_alone() -> None:
    run = Run(mode="adalora")
    run.to(7)
    trained = run.step()
    top = top_of(run.allocator.scores(), run.allocator.schedule.budget(8))
    assert torch.equal(run.pattern(), top)
    assert torch.equal(run.values(), trained * top)


def test_lingo_reintroduces_in_its_pattern_only_and_prunes_the_top() -> None:
    run = Run(mode="lingo", resample_probability=0.4, allocation_interval=56)
    run.to(55)
    trained = run.step()
    top = top_of(run.allocator.scores(), run.allocator.schedule.budget(56))
    drawn = torch.rand(len(top), generator=torch.Generator().manual_seed(0)) < 0.4
    assert (~top & drawn).any()
    assert (top & drawn).any()
    assert torch.equal(run.pattern(), top ^ drawn)  # re-introduced ones are reported as kept …
    assert torch.equal(run.values(), trained * (top & ~drawn))  # … and are 0 all the same
    run.step()
    assert run.values()[~(top & ~drawn)].all()  # the optimizer moves every 0 away at once
    assert run.masks().all()


def test_lingo_updates_scores_every_50_steps_only() -> None:
    run, every = Run(mode="lingo"), Run(mode="adalora")
    run.to(49)
    every.to(49)
    assert not run.allocator.scores().any()
    assert every.allocator.scores().any()
    run.step()
    at_50 = run.allocator.scores()
    assert at_50.any()
    run.to(99)
    assert torch.equal(run.allocator.scores(), at_50)
    run.step()
    assert not torch.equal(run.allocator.scores(), at_50)


def test_lingo_takes_uncertainty_from_the_average_after_its_update() -> None:
    run = Run(mode="lingo", allocation_warmup=60)
    run.to(49)
    run.network(batch(50)).backward()
    run.allocator.after_backward(50)
    run.optimizer.step()
    weighed = {}
    for name, p in run.network.triplets.named_parameters():
        now = (p.detach().double() * p.grad.double()).abs()
        average = 0.15 * now
        weighed[name] = average * (0.15 * (now - average).abs())  # the paper: now − 0
    run.allocator.after_step(50)
    expected = torch.cat(
        [
            weighed[f"{name}.values"] + weighed[f"{name}.down"].mean(1) + weighed[f"{name}.up"].mean(0)
            for name in run.network.triplets
        ]
    )
    torch.testing.assert_close(run.allocator.scores().double(), expected, rtol=1e-4, atol=0)


def test_lingo_prunes_at_the_published_rate_by_default() -> None:
    assert ARS(mode="lingo").probability == 0.1
    assert ARS().probability == 0.05
    assert ARS(mode="adalora").probability == 0.0
    assert ARS(resample_probability=0.0).probability == 0.0


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"mode": "eq5"}, "mode"),
        ({"resample_probability": 1.5}, "resample_probability"),
        ({"resample_probability": float("nan")}, "resample_probability"),
        ({"mode": "adalora", "resample_probability": 0.1}, "adalora"),
        ({"target_rank": 13}, "target_rank"),
    ],
)
def test_settings_refuse_wrong_values(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ArgumentError, match=word):
        ARS(**changes)
