"""The walls of docs/architecture.md: which module may import which, and what importing the package loads."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fastgenome

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastgenome"

# Every module belongs to the first room that its name starts with; a room may import its own and lower ones.
ROOMS = [
    ("errors", 0),
    ("_version", 0),
    ("emissions", 0),
    ("memory", 0),
    ("tensor_state", 0),
    ("progress", 0),
    ("atomic", 0),
    ("cleaning", 0),
    ("_core", 0),
    ("kernels", 0),
    ("ops", 2),
    ("packed_weights", 2),
    ("frozen_linear", 2),
    ("pooling", 2),
    ("batching", 2),
    ("tokenizers", 1),
    ("vocabularies", 1),
    ("byte_level", 1),
    ("features", 1),
    ("sequence_transformer", 1),
    ("sequences", 1),
    ("records", 1),
    ("admission", 1),
    ("streams", 1),
    ("tables", 1),
    ("formats", 1),
    ("regions", 1),
    ("bgzf", 1),
    ("genome", 1),
    ("genome_index", 1),
    ("bed", 1),
    ("variants", 1),
    ("models", 3),
    ("adapters", 3),
    ("training", 4),
    ("prediction", 4),
    ("scoring", 4),
    ("plotting", 4),
    ("embedder", 4),
    ("embedding", 4),
    ("serving", 5),
    ("studies", 5),
    ("cli_options", 5),
    ("cli_output", 5),
    ("cli_models", 5),
    ("cli_finetune", 5),
    ("cli_plot", 5),
    ("cli_score", 5),
    ("cli_variants", 5),
    ("cli_settings", 5),
    ("cli", 5),
    ("__main__", 5),
]
CORE_USERS = {"tokenizers", "features", "sequences", "genome"}


def modules() -> list[tuple[str, Path]]:
    """Dotted name below fastgenome and path of every Python file of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")) + sorted((ROOT / "kernels").glob("*.py")):
        top = PACKAGE if path.is_relative_to(PACKAGE) else ROOT
        name = ".".join(path.relative_to(top).with_suffix("").parts)
        found.append((name.removesuffix(".__init__"), path))
    return [(name, path) for name, path in found if name != "__init__"]


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it; `from a import b` gives a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(name: str) -> tuple[str, int]:
    for prefix, level in ROOMS:
        if name == prefix or name.startswith(prefix + "."):
            return prefix, level
    raise AssertionError(f"module {name} stands in no room; add it to ROOMS and to docs/architecture.md")


def inner_imports(path: Path) -> list[str]:
    return [name.removeprefix("fastgenome.") for name in imports(path) if name.startswith("fastgenome.")]


def wrong_imports(name: str, path: Path) -> list[str]:
    """What a module imports from rooms above its own."""
    own = room(name)[1]
    return [other for other in inner_imports(path) if other != "__version__" and room(other)[1] > own]


@pytest.mark.parametrize(
    ("name", "path"), modules(), ids=lambda value: str(value) if "/" not in str(value) else ""
)
def test_imports_go_one_way(name: str, path: Path) -> None:
    assert wrong_imports(name, path) == []


def test_wrong_direction_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "ops.py"
    wrong.write_text("def f():\n    from fastgenome.training.finetune import finetune\n")
    assert wrong_imports("ops", wrong) == ["training.finetune.finetune"]


def test_only_ops_imports_kernels() -> None:
    users = {
        name
        for name, path in modules()
        if not name.startswith("kernels") and any(i.startswith("kernels") for i in inner_imports(path))
    }
    assert users == {"ops"}


def test_only_the_typed_faces_import_the_core() -> None:
    users = {
        room(name)[0]
        for name, path in modules()
        if any(i.split(".")[0] == "_core" for i in inner_imports(path))
    }
    assert users
    assert users <= CORE_USERS


def test_headers_know_no_python() -> None:
    headers = list((ROOT / "csrc" / "include").rglob("*.hpp"))
    assert headers
    for header in headers:
        text = header.read_text()
        assert "Python.h" not in text, header
        assert "pybind11" not in text, header


def test_all_names_exist_and_are_sorted() -> None:
    assert fastgenome.__all__ == sorted(fastgenome.__all__)
    for name in fastgenome.__all__:
        assert getattr(fastgenome, name) is not None
    assert set(fastgenome._HOME) | {"__version__"} == set(fastgenome.__all__)


def test_all_is_the_public_interface() -> None:
    assert fastgenome.__all__ == [
        "ARS",
        "AdaLoRA",
        "DoRA",
        "Embedder",
        "FastgenomeError",
        "Full",
        "GCContent",
        "IA3",
        "KmerFrequency",
        "LoRA",
        "Predictor",
        "PretrainConfig",
        "Probe",
        "ReadOptions",
        "RunOptions",
        "Tokens",
        "Training",
        "ZCurve",
        "__version__",
        "embed",
        "finetune",
        "load",
        "load_tokenizer",
        "plot_track",
        "pretrain",
        "saturate",
        "score_genome",
        "score_variants",
        "sweep",
        "track_emissions",
    ]


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fastgenome.nothing


def test_modules_import_alone() -> None:
    for name, _ in modules():
        if name.startswith("kernels.") and name != "kernels.reference":
            continue
        importlib.import_module(f"fastgenome.{name}")


def test_import_loads_no_heavy_library() -> None:
    code = (
        "import sys, fastgenome; "
        "heavy = {'transformers', 'triton', 'sklearn', 'pyarrow', 'codecarbon', 'typer', 'torch._inductor'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.strip() == "[]"


def test_import_and_load_take_little_time() -> None:
    code = (
        "import numpy, torch, time; start = time.perf_counter(); import fastgenome; "
        "fastgenome.load; print(time.perf_counter() - start)"
    )
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
            ).stdout
        )
        for _ in range(3)
    ]
    assert min(times) < 0.3
