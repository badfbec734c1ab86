#!/usr/bin/env bash
# Everything that is worth knowing on a GPU, the most telling part first; as much of it as fits into BUDGET seconds.
#
#     bash scripts/benchmark/gpu.sh                      # results in eva_results/gpu
#     bash scripts/benchmark/gpu.sh /tmp/gpu             # or in a folder of yours
#     SMALL=1 bash scripts/benchmark/gpu.sh              # with the tiny planner, to try the script without a GPU
#
# Needs torch and LEAP's packages, downloads nothing. Every part has a limit of its own; one that fails or runs out of
# time leaves the others alone, and after BUDGET seconds (480) no other one begins. PARTS="parts packed" runs only those.
# Compiling takes most of the time, so that all of them want BUDGET=1800. A table comes last.
set -uo pipefail
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
fi
LEAP_REPOSITORY="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$LEAP_REPOSITORY"
# A bare machine has torch and no environment of LEAP's: any python that can import it will do.
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    if [ -x .venv/bin/python ]; then PYTHON="$LEAP_REPOSITORY/.venv/bin/python"; fi
fi
OUT="$(mkdir -p "${1:-eva_results/gpu}" && cd "${1:-eva_results/gpu}" && pwd)"
SCRATCH="$(mktemp -d)"
trap 'rm -rf "$SCRATCH"' EXIT
export PYTHONPATH="$LEAP_REPOSITORY${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export LEAP_WORKSPACE="$SCRATCH/space"
SIZE=2b SMALL_FLAG=()
if [ -n "${SMALL:-}" ]; then SIZE=tiny SMALL_FLAG=(--small); fi
PARTS="${PARTS:-parts packed padded evaluation pure_bf16 lora resume scores trl}"
BEGIN=$SECONDS BUDGET="${BUDGET:-480}"

# part NAME LIMIT_S COMMAND...: what it prints goes to $OUT/NAME.log, its end to the terminal.
part() {
    local name=$1 limit=$2
    shift 2
    [[ " $PARTS " == *" $name "* ]] || return 0
    local left=$((BUDGET - SECONDS + BEGIN))
    if [ "$left" -lt 20 ]; then
        echo "--- $name: no time left"
        return 0
    fi
    limit=$((limit < left ? limit : left))
    echo "--- $name, $((SECONDS - BEGIN)) s since the start"
    timeout --kill-after=5 "$limit" "$@" >"$OUT/$name.log" 2>&1
    local status=$?
    case $status in
        0) ;;
        124 | 137) echo "$name: stopped after its $limit s" | tee -a "$OUT/$name.log" ;;
        *) echo "$name: failed with status $status" | tee -a "$OUT/$name.log" ;;
    esac
    tail -n 12 "$OUT/$name.log"
}
training() { "$PYTHON" scripts/benchmark/training.py --size "$SIZE" --rows 72 --rounds 1 --real_command "$@"; }

resume_is_exact() {
    local tiny="$SCRATCH/space/models/tiny-planner" run="$SCRATCH/resume"
    "$PYTHON" scripts/utils/make_demo.py --rows 200 --val_rows 20 --examples_per_task 2 || return 1
    local command=("$PYTHON" scripts/training/run-finetuning.py --config configs/training/quickstart.yaml
        --model_name_or_path "$tiny" --bf16 --packing --packing_tokens 1024 --max_steps 6 --save_steps 3 --val_plans 0
        --torch_compile --save_total_limit none --keep_optimizer_of_last 2 --report_to none --output_dir "$run")
    "${command[@]}" || return 1
    mv "$run/checkpoint-6" "$SCRATCH/checkpoint-6"
    "${command[@]}" || return 1
    cmp "$run/checkpoint-6/model.safetensors" "$SCRATCH/checkpoint-6/model.safetensors" && echo "resume is bit-identical"
}

# The trained tiny planner scores in bfloat16 on the GPU what it scores in float32 on the CPU.
scores_agree() {
    local run="$SCRATCH/tiny"
    export LEAP_WORKSPACE="$SCRATCH/scored"
    "$PYTHON" scripts/utils/make_demo.py --rows 4000 --val_rows 20 || return 1
    "$PYTHON" scripts/training/run-finetuning.py --config configs/training/quickstart.yaml --max_steps 600 --val_plans 0 \
        --save_steps 600 --report_to none --output_dir "$run" || return 1
    for device in cpu auto; do
        "$PYTHON" scripts/evaluation/run_vlm_evaluation.py --checkpoint "$run/checkpoint-600" --dimension Spatial \
            --device "$device" --output_dir "$SCRATCH/scores-$device" || return 1
    done
    "$PYTHON" scripts/benchmark/gpu_table.py --same_scores "$SCRATCH/scores-cpu" "$SCRATCH/scores-auto"
}
export -f resume_is_exact scores_agree training
export PYTHON SIZE SCRATCH

part parts 90 "$PYTHON" scripts/benchmark/parts.py "${SMALL_FLAG[@]}" --output "$OUT/parts.json"
part packed 240 bash -c 'training --modes packed --output "$0"' "$OUT/packed.json"
part evaluation 120 "$PYTHON" scripts/benchmark/evaluation.py --size "$SIZE" --examples 128 --single_examples 4 --rounds 1 \
    --batch_size 64 --output "$OUT/evaluation.json"
part padded 200 bash -c 'training --modes grouped --output "$0"' "$OUT/padded.json"
part pure_bf16 180 bash -c 'training --modes packed --pure_bf16 --output "$0"' "$OUT/pure_bf16.json"
part lora 150 bash -c 'training --modes packed --kind lora --output "$0"' "$OUT/lora.json"
part resume 180 bash -c resume_is_exact
part scores 200 bash -c scores_agree
part trl 240 "$PYTHON" scripts/benchmark/against_trl.py --size "$SIZE" --rows 72 --repeats 1 --output "$OUT/trl.json"
echo "--- all parts, $((SECONDS - BEGIN)) s"
"$PYTHON" scripts/benchmark/gpu_table.py --results "$OUT"
