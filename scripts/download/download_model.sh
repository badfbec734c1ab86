#!/usr/bin/env bash
# Fetch a model into models/: Qwen/Qwen3-VL-2B-Instruct, or another one, an adapter, or a checkpoint of LEAP's.
#
#     bash scripts/download/download_model.sh
#     bash scripts/download/download_model.sh Qwen/Qwen3-VL-4B-Instruct --revision main
#     bash scripts/download/download_model.sh EvanSirius/leap-ckpts --step 5000
#
# The same command goes on with an interrupted download. Works from any folder; see --help for all flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../utils/find-python.sh"
exec "$PYTHON" "$LEAP_REPOSITORY/scripts/download/download_model.py" "$@"
