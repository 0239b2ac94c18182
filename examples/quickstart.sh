#!/usr/bin/env bash
# Makes an environment, installs fastgenome into it and runs the example.
#   bash examples/quickstart.sh [PIP ARGUMENTS FOR PYTORCH]     default: torch
# FASTGENOME_ENV names the environment's folder, by default .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${FASTGENOME_ENV:-.venv}
if [ "$#" -eq 0 ]; then set -- torch; fi
python3 -m venv "$environment"
"$environment/bin/pip" install --quiet "$@"
"$environment/bin/pip" install --quiet .
"$environment/bin/python" examples/promoters.py
