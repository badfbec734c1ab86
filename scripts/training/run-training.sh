#!/usr/bin/env bash
# Full fine-tuning with the recipe configs/training/full.yaml, on all visible GPUs; any knob can follow.
#
#     bash scripts/training/run-training.sh
#     bash scripts/training/run-training.sh --rows data/my_rows.jsonl --output_dir output/my_run
#     ACCELERATE_CONFIG=configs/accelerate/fsdp2.yaml bash scripts/training/run-training.sh
#
# The same command resumes an interrupted run. Works from any folder. NPROC, NNODES, NODE_RANK, MASTER_ADDR: see
# scripts/utils/launch.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/find-python.sh"
source "$LEAP_REPOSITORY/scripts/utils/launch.sh"
launch "$LEAP_REPOSITORY/scripts/training/run-finetuning.py" "$@"
