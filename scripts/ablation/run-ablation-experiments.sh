#!/usr/bin/env bash
# Compare fine-tuning presets (light, standard, full; also aggressive and fullft) under one budget: train, evaluate, table.
#
#     bash scripts/ablation/run-ablation-experiments.sh
#     PRESETS="light standard" MAX_STEPS=2000 SEEDS="42 43" bash scripts/ablation/run-ablation-experiments.sh
#     bash scripts/ablation/run-ablation-experiments.sh --presets light full fullft --max_steps 2000 --seeds 42 43
#
# The same command continues an interrupted sweep. Works from any folder; see --help for all flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/find-python.sh"
exec "$PYTHON" "$LEAP_REPOSITORY/scripts/ablation/run-ablation.py" "$@"
