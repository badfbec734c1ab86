#!/usr/bin/env bash
# LoRA fine-tuning with a preset of configs/lora/ (light, standard, full, aggressive); any knob can follow.
#
#     bash scripts/ablation/run-lora-training.sh
#     bash scripts/ablation/run-lora-training.sh --preset full
#
# The same command resumes an interrupted run. Works from any folder.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/find-python.sh"
exec "$PYTHON" "$LEAP_REPOSITORY/scripts/ablation/run-lora-finetuning.py" "$@"
