#!/usr/bin/env bash
# Training by rewards with the recipe configs/training/grpo.yaml, on all visible GPUs; any knob can follow.
#
#     bash scripts/training/run-rl.sh --checkpoint output --rows data/my_rows.jsonl --val_file data/my_val.jsonl
#
# The same command resumes an interrupted run. Works from any folder. NPROC, NNODES, NODE_RANK, MASTER_ADDR: see
# scripts/utils/launch.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/find-python.sh"
source "$LEAP_REPOSITORY/scripts/utils/launch.sh"
launch "$LEAP_REPOSITORY/scripts/training/run-reinforcement.py" "$@"
