"""Digests of scorers: of all that the numbers depend on, the same in every process."""

import subprocess
import sys
from pathlib import Path

import pytest
from scored_genomes import letters, trained
from sklearn.ensemble import RandomForestClassifier

import fastgenome as fg
from fastgenome.scoring.scorer import Scorer, as_scorer


@pytest.fixture(scope="module")
def of_tiny() -> fg.Predictor:
    return trained("tiny", ("gc",))


def test_scorer_digest_changes_with_what_the_numbers_depend_on(of_tiny: fg.Predictor) -> None:
    digest = as_scorer(of_tiny).sha256
    assert Scorer(of_tiny).sha256 == digest
    assert of_tiny.model is not None
    weight = next(of_tiny.model.network.parameters())
    old = weight.data.clone()
    try:
        weight.data[0, 0] += 1e-3
        assert Scorer(of_tiny).sha256 != digest
    finally:
        weight.data.copy_(old)
    assert trained("tiny", ()) is not None
    assert Scorer(trained("tiny", ())).sha256 != digest
    assert as_scorer(fg.load("tiny")).sha256 != digest


def test_scorer_digest_of_a_forest_is_that_of_every_process(tmp_path: Path) -> None:
    sequences = [letters(seed, 80) for seed in range(40)]
    forest = fg.Probe(head=RandomForestClassifier(9, random_state=0))
    predictor = fg.finetune(
        (sequences, [i % 2 for i in range(40)]), model=None, method=forest, features=("gc",)
    )
    predictor.save(tmp_path / "forest")
    script = (
        "import sys\nimport fastgenome as fg\nfrom fastgenome.scoring.scorer import Scorer\n"
        "print(Scorer(fg.Predictor.load(sys.argv[1], trusted=['sklearn.tree._tree.Tree'])).sha256)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "forest")]
    digests = {subprocess.run(command, check=True, capture_output=True).stdout for _ in range(2)}
    assert digests == {Scorer(predictor).sha256.encode() + b"\n"}
    other = fg.Probe(head=RandomForestClassifier(9, random_state=1))
    twin = fg.finetune((sequences, [i % 2 for i in range(40)]), model=None, method=other, features=("gc",))
    assert Scorer(twin).sha256 != Scorer(predictor).sha256
