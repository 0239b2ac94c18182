"""Jobs whose writes fail: no file looks complete that is not, and a later run gives the same bytes."""

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sharded_genome import score

from fastgenome.errors import ArgumentError
from fastgenome.scoring.jobs import JobFolder

pytest.importorskip("pyBigWig")
pytestmark = pytest.mark.usefixtures("small_genome_shards")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_score_genome_never_leaves_a_file_that_looks_complete(
    step: str, place: Path, tmp_path: Path, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(os, step)
    for failing in range(1, 70):
        folder = tmp_path / str(failing)
        folder.mkdir()
        calls = 0

        def fail(*arguments: Any, failing: int = failing) -> Any:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            failed = False
            with suppress(OSError):
                failed = True
                score(place, [folder / "s.parquet", folder / "s.bw"])
                failed = False
        assert failed == (calls >= failing)
        if not failed:
            break
        for path in (folder / "s.parquet",):
            assert not path.exists() or path.read_bytes() == undisturbed
        score(place, [folder / "s.parquet", folder / "s.bw"])
        assert (folder / "s.parquet").read_bytes() == undisturbed
    else:
        pytest.fail("no run ended well")


LIMITED = """
import resource, sys
from pathlib import Path
import fastgenome as fg
from fastgenome.scoring import window_plan
window_plan._SHARD_WINDOWS = 100
place, out = Path(sys.argv[1]), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
fg.score_genome(place / "predictor", place / "genome.fa", out=out, window=60, stride=20,
                run=fg.RunOptions(workers=1, folder=Path(sys.argv[4])))
"""


@pytest.mark.parametrize("ending", [".parquet", ".bw", ".bedgraph", ".bedgraph.gz", ".bed", ".tsv.gz"])
def test_score_genome_whose_writes_fail_leaves_no_output(
    ending: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / f"whole{ending}"
    score(place, whole)
    size = whole.stat().st_size
    shards = tmp_path / "shards"
    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "remove", lambda self: None)
        # Shards are there already, so that only the output meets the limit.
        score(place, tmp_path / f"first{ending}", folder=shards)
    for limit in (size // 2, size - 1):
        out = tmp_path / f"{limit}{ending}"
        command = [sys.executable, "-c", LIMITED, str(place), str(out), str(limit), str(shards)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert run.returncode != 0, limit
        assert "File too large" in run.stderr or "could not be written to its end" in run.stderr, run.stderr
        assert not out.exists()
        assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]


def test_score_genome_in_a_read_only_folder_fails_before_any_work(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    with pytest.raises(ArgumentError, match="no permission to write"):
        score(place, tmp_path / "scores.parquet")
    assert not list(tmp_path.iterdir())
