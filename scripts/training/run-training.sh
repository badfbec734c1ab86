#!/usr/bin/env bash
# Full fine-tuning with the recipe configs/training/full.yaml; any knob can follow.
#
#     bash scripts/training/run-training.sh
#     bash scripts/training/run-training.sh --train_file data/my_rows.jsonl --output_dir output/my_run
#
# The same command resumes an interrupted run. Works from any folder.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/find-python.sh"
exec "$PYTHON" "$LEAP_REPOSITORY/scripts/training/run-finetuning.py" "$@"
