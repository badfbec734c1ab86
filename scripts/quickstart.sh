#!/usr/bin/env bash
# From an empty machine to a trained and evaluated planner, in a workspace of its own (output/quickstart).
#
#     bash scripts/quickstart.sh            first run, or continue where it stopped
#     bash scripts/quickstart.sh --fresh    throw the quickstart's workspace away and start over
#
# Needs Python 3.11 or newer; no GPU, no download of weights or data. The tiny planner is a real Qwen3-VL with random
# weights, trained on drawn tabletop scenes by the same scripts that train and evaluate Qwen3-VL-2B-Instruct.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
WORKSPACE="$ROOT/output/quickstart"

fresh=no
for argument in "$@"; do
    case "$argument" in
        --fresh) fresh=yes ;;
        -h | --help) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) echo "error: unknown argument $argument; see: bash scripts/quickstart.sh --help" >&2; exit 2 ;;
    esac
done

say() { printf '\n== %s\n' "$*"; }

say "1/6 environment"
bash "$ROOT/scripts/utils/setup-env.sh"
PYTHON="$ROOT/.venv/bin/python"
if [ "$fresh" = yes ]; then rm -rf "$WORKSPACE"; fi
mkdir -p "$WORKSPACE"
export PYTHON LEAP_WORKSPACE="$WORKSPACE"
base="$WORKSPACE/models/tiny-planner"
evaluate=("$PYTHON" "$ROOT/scripts/evaluation/run_vlm_evaluation.py" --base_model "$base" --dimension all
    --prompt builtin --batch_size 40 --max_new_tokens 96)

say "2/6 tiny planner, training rows, tabletop benchmark"
"$PYTHON" "$ROOT/scripts/utils/make_demo.py"
"$PYTHON" "$ROOT/scripts/utils/verify_dataset.py"

say "3/6 training (most of the time goes here)"
bash "$ROOT/scripts/training/run-training.sh" --config "$ROOT/configs/training/quickstart.yaml"
trained="$(ls -d "$WORKSPACE"/output/checkpoint-* | sort -V | tail -n 1)"

say "4/6 evaluation: base, trained, trained without seeing, two plans that never look"
"${evaluate[@]}"
"${evaluate[@]}" --checkpoint "$trained"
"${evaluate[@]}" --checkpoint "$trained" --blank-images
"${evaluate[@]}" --planner constant
"${evaluate[@]}" --planner everything

say "5/6 blind review: plans for ten rows nobody trained on, judged without an endpoint"
"$PYTHON" "$ROOT/scripts/evaluation/run_vlm_output.py" --base_model "$base" --checkpoint "$trained" --max_new_tokens 96
"$PYTHON" "$ROOT/scripts/evaluation/analyze_output_results.py" --judge reference
"$PYTHON" "$ROOT/scripts/evaluation/draw_blind10_scores.py"

say "6/6 figures, comparison, report"
"$PYTHON" "$ROOT/scripts/evaluation/draw_evaluation_results.py"
name="$(basename "$trained")"
"$PYTHON" "$ROOT/scripts/evaluation/compare_models.py" "${name}_blank" "$name"
"$PYTHON" "$ROOT/scripts/evaluation/make_report.py"

say "results"
cat "$WORKSPACE/eva_results/figures/results_table.md"
cat <<END

Everything is in $WORKSPACE
  models/tiny-planner   the untrained model       data/      training and validation rows
  output/               checkpoints               dataset/   the benchmark
  eva_results/          answers, scores, figures/, comparisons/, blind_10/
  eva_results/report.html   open it in a browser: every example, picture and plan

Next, with the real model (see README.md):
  source .venv/bin/activate
  bash scripts/download/download_model.sh
  python scripts/download/download_vlabench_with_retry.py
  python scripts/evaluation/run_vlm_evaluation.py --dimension all
END
