#!/usr/bin/env bash
# LoRA fine-tuning with a preset of configs/lora/ (light, standard, full, aggressive), on all visible GPUs; any knob can
# follow.
#
#     bash scripts/ablation/run-lora-training.sh
#     bash scripts/ablation/run-lora-training.sh --preset full        # or LORA_PRESET=full before the command
#
# The same command resumes an interrupted run. Works from any folder. NPROC, NNODES, NODE_RANK, MASTER_ADDR: see
# scripts/utils/launch.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/find-python.sh"
source "$LEAP_REPOSITORY/scripts/utils/launch.sh"
launch "$LEAP_REPOSITORY/scripts/ablation/run-lora-finetuning.py" ${LORA_PRESET:+--preset "$LORA_PRESET"} "$@"
