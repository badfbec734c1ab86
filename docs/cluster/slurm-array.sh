#!/usr/bin/env bash
#SBATCH --job-name=leap-jobs
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --output=logs/slurm-%A-%a.log
# One command of a list for each task of an array, from the repository's root:
#
#     python scripts/evaluation/run_vlm_evaluation.py --all-checkpoints --list_jobs jobs.txt
#     sbatch --array=1-"$(wc -l < jobs.txt)" docs/cluster/slurm-array.sh jobs.txt
#
# Two minutes before the time limit SLURM sends SIGTERM, and a training saves a checkpoint. The same list may be submitted
# again: what is done is not done twice.
set -euo pipefail
source .venv/bin/activate
command="$(sed -n "${SLURM_ARRAY_TASK_ID}p" "$1")"
echo "$command"
exec bash -c "exec $command"  # in place of this shell, so that SIGTERM reaches the command itself
