#!/usr/bin/env bash
#SBATCH --job-name=leap-ray
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --output=logs/slurm-%j.log
# A Ray cluster on the machines of this allocation, and one command on it, from the repository's root:
#
#     sbatch docs/cluster/slurm-ray.sh python scripts/ablation/run-ablation.py
#     sbatch docs/cluster/slurm-ray.sh python scripts/evaluation/run_vlm_evaluation.py --all-checkpoints
#
# The same command goes on where an earlier allocation ended.
set -euo pipefail
source .venv/bin/activate
export RAY_USAGE_STATS_ENABLED=0
port=$((20000 + SLURM_JOB_ID % 20000))
head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
resources=(--num-cpus "${SLURM_CPUS_PER_TASK:-1}")
if [ -n "${SLURM_GPUS_ON_NODE:-}" ]; then resources+=(--num-gpus "$SLURM_GPUS_ON_NODE"); fi

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    ray start --head --port "$port" --include-dashboard=false --block "${resources[@]}" &
for _ in $(seq 60); do
    if ray status --address "$head:$port" >/dev/null 2>&1; then break; fi
    sleep 2
done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks-per-node=1 --exclude="$head" --overlap \
        ray start --address "$head:$port" --block "${resources[@]}" &
fi
status=0
"${@:1:2}" --ray "$head:$port" "${@:3}" || status=$?  # behind the name of the script
kill $(jobs -p) 2>/dev/null || true
exit "$status"
