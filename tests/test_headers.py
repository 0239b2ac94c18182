"""Each header of the core stands alone, with and without the instruction sets of x86-64."""

import shutil
import subprocess
from pathlib import Path

import pytest

INCLUDE = Path(__file__).resolve().parent.parent / "csrc" / "include"
COMPILERS = [compiler for compiler in ("g++", "clang++") if shutil.which(compiler)]


@pytest.mark.skipif(not COMPILERS, reason="needs g++ or clang++")
@pytest.mark.parametrize("portable", [False, True], ids=["x86", "portable"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_headers_compile_alone_without_warnings(compiler: str, portable: bool, tmp_path: Path) -> None:
    headers = sorted((INCLUDE / "fastgenome").glob("*.hpp"))
    assert headers
    for header in headers:
        source = tmp_path / f"{header.stem}.cpp"
        source.write_text(f'#include "fastgenome/{header.name}"\nint main() {{}}\n')
        command = [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{INCLUDE}"]
        if portable:
            command.append("-DFASTGENOME_PORTABLE")
        result = subprocess.run([*command, str(source)], capture_output=True, text=True)
        assert result.returncode == 0, f"{header.name}: {result.stderr[:2000]}"
