#!/usr/bin/env bash
# Learning by rewards, after the quickstart: GRPO from its checkpoint, beside rejection sampling and more supervised
# training for the same seconds, tested on scenes that none of them saw (output/quickstart).
#
#     bash scripts/quickstart.sh && bash scripts/reinforce-demo.sh
#
# A quarter of an hour on two cores. The same command goes on where it stopped. REWARD_SECONDS: training time of each
# method (default 120); REWARD_SEEDS: seeds (default 42).
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
case "${1:-}" in
    "") ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "error: unknown argument $1; see: bash scripts/reinforce-demo.sh --help" >&2; exit 2 ;;
esac

export LEAP_WORKSPACE="$ROOT/output/quickstart"
PYTHON="$ROOT/.venv/bin/python"
start="$(ls -d "$LEAP_WORKSPACE"/output/checkpoint-* 2>/dev/null | sort -V | tail -n 1 || true)"
if [ ! -x "$PYTHON" ] || [ -z "$start" ]; then
    echo "error: there is no checkpoint of the quickstart to start from; run: bash scripts/quickstart.sh" >&2
    exit 2
fi
export PYTHON
seconds="${REWARD_SECONDS:-120}"
read -ra seeds <<<"${REWARD_SEEDS:-42}"

say() { printf '\n== %s\n' "$*"; }

say "1/3 rows of full tables, and test scenes"
"$PYTHON" "$ROOT/scripts/utils/make_reward_demo.py"

say "2/3 GRPO, rejection sampling and more supervised training from $(basename "$start"), $seconds s each"
"$PYTHON" "$ROOT/scripts/ablation/run-methods.py" --name reinforce --checkpoint "$start" \
    --rows "$LEAP_WORKSPACE/data/reward/train.jsonl" --val_file "$LEAP_WORKSPACE/data/reward/val.jsonl" \
    --data_path "$LEAP_WORKSPACE/dataset/held_out" --methods grpo rft sft --seeds "${seeds[@]}" \
    --max_seconds "$seconds" \
    --train_args --tuning full --lr 1e-4 --num_train_epochs 100 --warmup_steps 5 \
    --per_device_train_batch_size 128 --gradient_accumulation_steps 1 --per_device_eval_batch_size 64 \
    --num_generations 8 --max_completion_length 96 --beta 0 --model_max_length 512 \
    --image_tokens_min 1 --image_tokens_max 16 --shared_instructions --save_steps 40 --val_plans 400 \
    --val_max_new_tokens 96 --logging_steps 5 \
    --eval_args --prompt builtin --batch_size 40 --max_new_tokens 96

say "3/3 the same without pictures: what is learned must come from looking"
learned="$(ls -d "$LEAP_WORKSPACE"/output/reinforce/grpo_seed"${seeds[0]}"/checkpoint-* | sort -V | tail -n 1)"
blank=("$PYTHON" "$ROOT/scripts/evaluation/run_vlm_evaluation.py" --data_path "$LEAP_WORKSPACE/dataset/held_out"
    --dimension all --prompt builtin --batch_size 40 --max_new_tokens 96 --blank-images --suffix reinforce
    --base_model "$start")
"${blank[@]}"
"${blank[@]}" --checkpoint "$learned"
"$PYTHON" "$ROOT/scripts/evaluation/compare_models.py" baseline_blank_reinforce \
    "grpo_seed${seeds[0]}-$(basename "$learned")_blank_reinforce" --metric entity_match_score

say "results"
cat "$LEAP_WORKSPACE/eva_results/reinforce/methods.md"
cat <<END

Everything is in $LEAP_WORKSPACE
  output/reinforce/<method>_seed<S>/   checkpoints, reward.png      eva_results/reinforce/   table and figure
What the terms of the reward are, and when this helps: docs/reinforcement.md
END
