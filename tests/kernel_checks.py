"""Checks of Triton kernels in processes of their own: the interpreter is chosen when triton is imported."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent


def run_check(file: str, check: str, *, interpreted: bool) -> None:
    """Run one function of a test file, whose last lines call `main`, and see it pass."""
    pytest.importorskip("triton", reason="the kernel needs triton: pip install 'fastgenome[triton]'")
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    environment.pop("TRITON_INTERPRET", None)
    if interpreted:
        environment["TRITON_INTERPRET"] = "1"
    run = subprocess.run(
        [sys.executable, file, check], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [check, "passed"]


def poison_new_tensors() -> None:
    """Let torch.empty and new_empty give what shows wherever a kernel leaves it, or reads it too early."""

    def poisoned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def made(*arguments: object, **options: object) -> Tensor:
            x = make(*arguments, **options)
            return x.fill_(torch.nan if x.is_floating_point() else -7)

        return made

    for place, name in ((torch, "empty"), (Tensor, "new_empty")):
        setattr(place, name, poisoned(getattr(place, name)))


def main(functions: dict[str, object]) -> None:
    """Call the check that the command line names, of a test file's globals."""
    check = functions[sys.argv[1]]
    assert callable(check)
    check()
    print(sys.argv[1], "passed")
