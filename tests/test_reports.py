"""The end of a job: its report, and what a run finds that another one left."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

import fastgenome as fg
from fastgenome.scoring import reports


@pytest.fixture(scope="module")
def predictor() -> fg.Predictor:
    draw = random.Random(0)
    sequences = ["".join(draw.choices("ACGT", k=60)) for _ in range(40)]
    return fg.finetune((sequences, [i % 2 for i in range(40)]), model=None, method="probe", features=("gc",))


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    path = tmp_path / "genome.fa"
    path.write_text(">c\n" + "".join(random.Random(1).choices("ACGT", k=3000)) + "\n")
    return path


def score(kind: str, predictor: fg.Predictor, genome: Path, out: Path, **run: Any) -> reports.Report:
    options = fg.RunOptions(workers=1, **run)
    if kind == "genome":
        return fg.score_genome(predictor, genome, out=out, window=60, run=options)
    return fg.saturate(predictor, genome, "c:100-130", out=out, window=60, run=options)


@pytest.mark.parametrize("kind", ["genome", "changes"])
def test_repeated_job_removes_only_its_own_shards(
    kind: str, predictor: fg.Predictor, genome: Path, tmp_path: Path
) -> None:
    out, folder = tmp_path / "out.tsv", tmp_path / "out.tsv.shards"
    score(kind, predictor, genome, out, shard=(1, 1))
    shutil.copytree(folder, tmp_path / "kept")
    first = score(kind, predictor, genome, out)
    assert not folder.exists()
    # Killed after the report, before the shards were removed.
    shutil.copytree(tmp_path / "kept", folder)
    again = score(kind, predictor, genome, out)
    assert (again.earlier, again.outputs) == (True, first.outputs)
    assert not folder.exists()
    settings = json.loads((tmp_path / "kept" / "job.json").read_text())
    (tmp_path / "kept" / "job.json").write_text(json.dumps({**settings, "scorer": "another"}))
    shutil.copytree(tmp_path / "kept", folder)
    assert score(kind, predictor, genome, out).earlier
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in (tmp_path / "kept").iterdir()
    )


@pytest.mark.parametrize("kind", ["genome", "changes"])
def test_report_beside_the_output_is_the_one_given(
    kind: str, predictor: fg.Predictor, genome: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.tsv"
    report = score(kind, predictor, genome, out, emissions=True)
    assert json.loads((tmp_path / "out.tsv.report.json").read_text()) == json.loads(
        json.dumps(report.to_dict())
    )
    assert report.footprint is not None
    assert 0 < report.footprint.seconds <= report.seconds
    earlier = score(kind, predictor, genome, out)
    assert earlier.to_dict() == {**report.to_dict(), "earlier": True}
    out.write_text("changed")
    assert not score(kind, predictor, genome, out).earlier
    assert out.read_text() != "changed"
