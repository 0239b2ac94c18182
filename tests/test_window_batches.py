"""How a genome's windows are gathered: in shards, in batches of the model, in processes and by region."""

import random
import signal
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from genome_files import wrapped

import fastgenome as fg
from fastgenome.genome import Genome
from fastgenome.models.model import Model
from fastgenome.scoring import engines, jobs, window_plan, window_scores
from fastgenome.scoring.genome_outputs import region_figures
from fastgenome.scoring.genome_work import GenomeWork
from fastgenome.scoring.scored_windows import ScoredWindows
from fastgenome.scoring.scorer import Scorer
from fastgenome.scoring.shared_context import SharedContext
from fastgenome.scoring.window_plan import WindowOptions, WindowPlan
from fastgenome.scoring.window_scores import SeparateWindows, scored_parts


def letters(seed: int, length: int) -> str:
    return "".join(random.Random(seed).choices("ACGT", k=length))


@pytest.fixture(scope="module")
def of_gc() -> fg.Predictor:
    sequences = ["".join(random.Random(i).choices("ACGT" if i % 2 else "AACCGT", k=80)) for i in range(60)]
    labels = [i % 2 for i in range(60)]
    return fg.finetune((sequences, labels), model=None, method="probe", features=("gc",))


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">c{n}\n{wrapped(letters(n, 900 + 70 * n), 60)}" for n in range(5)))
    return path


@pytest.mark.parametrize("with_model", [True, False])
@pytest.mark.parametrize("bases", [0, 59, 60, 5_000, 300_000, 3_000_000, 500_000_000])
def test_window_plan_gives_small_jobs_small_shards(bases: int, with_model: bool) -> None:
    plan = WindowPlan([0, 1], [0, 5], [bases, 10_000], WindowOptions(60, 30), with_model=with_model)
    counts = [sum(piece.windows for piece in plan.pieces(shard)) for shard in range(plan.n_shards)]
    assert sum(counts) == plan.windows
    assert len(set(counts[:-1])) <= 1
    least, most = (256, 8192) if with_model else (16384, 32768)
    assert max(counts) <= max(least, -(-plan.windows // 32))
    assert max(counts) <= most
    assert plan.n_shards <= max(32, plan.windows // most + 1)
    if most * 32 >= plan.windows >= 32 * least:
        assert plan.n_shards in (31, 32)


def test_many_small_regions_share_passes_of_the_model(
    genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = tmp_path / "regions.bed"
    bed.write_text("".join(f"c{n % 5}\t{4 * n}\t{4 * n + 60}\n" for n in range(200)))
    sizes: list[int] = []
    real = Model.embed

    def embed(self: Model, sequences: Any, **options: Any) -> Any:
        sizes.append(len(sequences))
        return real(self, sequences, **options)

    monkeypatch.setattr(Model, "embed", embed)
    model, out = fg.load("tiny"), tmp_path / "out.zarr"
    pytest.importorskip("zarr")
    report = fg.score_genome(model, genome, out=out, window=60, regions=bed, run=fg.RunOptions(workers=1))
    assert report.windows.n_scored == 200
    assert sizes == [200, 200]


@pytest.mark.parametrize("context", [None, 300])
def test_scores_prepared_ahead_are_the_same(context: int | None, genome: Path) -> None:
    opened, model = Genome(genome), fg.load("tiny")
    options, scorer = WindowOptions(60, 25, context=context), Scorer(fg.load("tiny"))
    score: Any = (
        SeparateWindows(scorer, options) if context is None else SharedContext(opened, scorer, options)
    )
    plan = WindowPlan([0, 1, 2], [0, 7, 30], [900, 40, 500], options, with_model=model is not None)
    found = []
    for ahead in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(window_scores, "_MOST_WINDOWS", 10)
            parts = list(scored_parts(plan.pieces(0), opened, options, score, ahead=ahead))
        # A piece of 34 windows and one of 18: the first ends in the fourth group.
        assert [len(values) for _, values in parts] == [10, 10, 10, 10, 10, 2]
        assert [len(group) for group, _ in parts] == [1, 1, 1, 2, 1, 1]
        found.append(np.concatenate([values for _, values in parts]))
    np.testing.assert_array_equal(*found)


def test_failure_of_what_is_prepared_ahead_is_raised(genome: Path) -> None:
    opened = Genome(genome)

    class Failing:
        def prepare(self, parts: Any) -> Any:
            raise MemoryError("no room")

        def __call__(self, prepared: Any) -> Any:
            raise AssertionError("nothing was prepared")

    options = WindowOptions(60, 25)
    plan = WindowPlan([0], [0], [900], options, with_model=True)
    with pytest.raises(MemoryError, match="no room"):
        list(scored_parts(plan.pieces(0), opened, options, Failing(), ahead=True))


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_default_workers", lambda work: 2)
    monkeypatch.setattr(window_plan, "_SHARD_WINDOWS", 20)


def score(predictor: fg.Predictor, genome: Path, out: Path, **options: Any) -> Any:
    fg.score_genome(predictor, genome, out=out, window=60, stride=20, run=fg.RunOptions(**options))
    return parquet.read_table(out)


@pytest.mark.usefixtures("two_cores")
def test_small_job_is_done_before_processes_would_start(
    of_gc: fg.Predictor, genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = score(of_gc, genome, tmp_path / "one.parquet", workers=1)
    monkeypatch.setattr(engines, "_in_processes", None)
    assert score(of_gc, genome, tmp_path / "out.parquet").equals(expected)


@pytest.mark.usefixtures("two_cores")
def test_job_that_takes_longer_goes_on_in_processes(
    of_gc: fg.Predictor, genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = score(of_gc, genome, tmp_path / "one.parquet", workers=1)
    real, handed, here = engines._in_processes, [], []
    real_store = jobs.JobFolder.store

    def store(self: Any, shard: int, result: Any) -> None:
        here.append(shard)
        real_store(self, shard, result)

    def in_processes(work: Any, job: Any, shards: list[int], workers: int) -> Iterator[int]:
        handed.append((shards, workers))
        return real(work, job, shards, workers)

    monkeypatch.setattr(jobs.JobFolder, "store", store)
    monkeypatch.setattr(engines, "_in_processes", in_processes)
    monkeypatch.setattr(engines, "_SECONDS_ALONE", 0.0)
    assert score(of_gc, genome, tmp_path / "out.parquet").equals(expected)
    ((shards, workers),) = handed
    assert workers == 2
    assert len(shards) >= 8
    assert sorted([*here, *shards]) == list(range(len(here) + len(shards)))


@pytest.mark.usefixtures("two_cores")
def test_failure_of_this_process_ends_the_job(
    of_gc: fg.Predictor, genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store(self: Any, shard: int, result: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(jobs.JobFolder, "store", store)
    with pytest.raises(OSError, match="disk full"):
        score(of_gc, genome, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.usefixtures("two_cores")
def test_interrupt_ends_the_job_before_another_shard(
    of_gc: fg.Predictor, genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed, real = [], GenomeWork.open

    def interrupted(work: GenomeWork) -> Any:
        compute = real(work)

        def shard_of(shard: int) -> Any:
            computed.append(shard)
            if shard == 2:
                # As Ctrl-C does: to the main thread, whichever computes.
                signal.raise_signal(signal.SIGINT)
            return compute(shard)

        return shard_of

    monkeypatch.setattr(GenomeWork, "open", interrupted)
    threads = set(threading.enumerate())
    # Of those that run in the background the signal may be ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            score(of_gc, genome, tmp_path / "out.parquet")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert set(threading.enumerate()) <= threads
    assert computed == [0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_region_figures_do_not_depend_on_where_tables_end(seed: int) -> None:
    draw = np.random.default_rng(seed)
    spans = np.sort(draw.choice(draw.choice(50, 12, replace=False), 60))
    values = draw.normal(size=(60, 3)).astype(np.float32)
    cuts = [0, *np.sort(draw.integers(0, 61, 15)).tolist(), 60]
    places = np.zeros(60, np.int64)
    tables = [
        ScoredWindows(places[a:b], places[a:b], places[a:b], spans[a:b], values[a:b])
        for a, b in pairwise(cuts)
    ]
    parts = list(region_figures(tables, 3))
    assert np.concatenate([part.spans for part in parts]).tolist() == np.unique(spans).tolist()
    for part in parts:
        for place, span in enumerate(part.spans.tolist()):
            own = values[spans == span]
            assert part.windows[place] == len(own)
            np.testing.assert_allclose(part.of("mean")[place], own.mean(axis=0), rtol=1e-5, atol=1e-7)
            np.testing.assert_array_equal(part.of("max")[place], own.max(axis=0))
