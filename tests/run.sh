#!/usr/bin/env bash
# Makes an environment, installs fastgenome with its tools into it and passes the tests.
#   bash tests/run.sh [PIP ARGUMENTS FOR PYTORCH]     default: torch
# FASTGENOME_ENV names the environment's folder, by default .venv; FUZZ_SECONDS how long to fuzz, by default 60.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${FASTGENOME_ENV:-.venv}
if [ "$#" -eq 0 ]; then set -- torch; fi
python3 -m venv "$environment"
"$environment/bin/pip" install --quiet "$@"
"$environment/bin/pip" install --quiet --editable ".[test,bench,dev,triton,fuzz]"
PATH="$environment/bin:$PATH"
ruff check .
ruff format --check .
mypy
clang-format --dry-run --Werror csrc/include/fastgenome/*.hpp csrc/bindings/*.[ch]pp tests/*/*.[ch]pp
# Two processes; waiting threads leave the cores to those that compute.
export OMP_WAIT_POLICY=passive
pytest --quiet --numprocesses 2 --dist loadfile --benchmark-disable benchmarks
pytest --quiet --numprocesses 2 --dist loadfile tests
bash tests/threads/run.sh
bash tests/fuzz/run.sh "${FUZZ_SECONDS:-60}"
