"""Fixtures that find the real data and the parity checkpoints beside the project."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastgenome import _core

ROOT = Path(__file__).resolve().parent.parent


def _outside_folder(variable: str, name: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / name))
    if not folder.is_dir():
        pytest.skip(f"needs the folder shared/{name} beside the project, or {variable} pointing at it")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real sequences (GUE, yeast genome, iEnhancer, tokenizer vocabularies)."""
    return _outside_folder("FASTGENOME_DATA", "data")


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Folder of tiny checkpoints in the published formats with the reference outputs."""
    return _outside_folder("FASTGENOME_PARITY", "parity")


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test once with each instruction set that the processor has."""
    best = _core.instruction_set()
    try:
        if _core.limit_instruction_set(request.param) != request.param:
            pytest.skip(f"the processor has no {request.param}")
        yield request.param
    finally:
        _core.limit_instruction_set(best)
