#!/usr/bin/env bash
# Makes an environment, installs fastgenome with its tools into it and passes the tests.
#   bash tests/run.sh [PIP ARGUMENTS FOR PYTORCH]     default: torch
# FASTGENOME_ENV names the environment's folder, by default .venv.
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
clang-format --dry-run --Werror csrc/include/fastgenome/*.hpp csrc/bindings/*.[ch]pp
pytest --quiet --benchmark-disable benchmarks
pytest --quiet tests
