#!/usr/bin/env bash
# Makes an environment in a folder (default .venv), installs fastgenome with its tools into it and passes the tests.
#   bash tests/run.sh [PIP ARGUMENTS FOR PYTORCH]     default: torch
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${FASTGENOME_ENV:-.venv}
if [ "$#" -eq 0 ]; then set -- torch; fi
python3 -m venv "$environment"
"$environment/bin/pip" install --quiet "$@"
"$environment/bin/pip" install --quiet --editable ".[test,bench,dev,triton]"
PATH="$environment/bin:$PATH"
ruff check .
ruff format --check .
mypy
git ls-files 'csrc/*.?pp' | xargs clang-format --dry-run --Werror
pytest --quiet tests
pytest --quiet --benchmark-disable benchmarks
