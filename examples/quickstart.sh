#!/usr/bin/env bash
# Makes an environment in .venv, installs fastgenome into it and runs the example.
#   bash examples/quickstart.sh [PIP ARGUMENTS FOR PYTORCH]     default: torch
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$#" -eq 0 ]; then set -- torch; fi
python3 -m venv .venv
.venv/bin/pip install --quiet "$@"
.venv/bin/pip install --quiet .
.venv/bin/python examples/promoters.py
.venv/bin/fastgenome finetune examples/train.csv --features zcurve,gc,kmer -o .venv/example/predictor
.venv/bin/fastgenome predict examples/test.csv --predictor .venv/example/predictor -o .venv/example/predictions.tsv
