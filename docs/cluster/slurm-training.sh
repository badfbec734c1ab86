#!/usr/bin/env bash
#SBATCH --job-name=leap
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
# Full fine-tuning on two nodes of four GPUs: `sbatch docs/cluster/slurm-training.sh` from the repository's root. Two minutes
# before the time limit SLURM sends SIGTERM; a checkpoint is saved, and the next job continues from it.
set -euo pipefail
source .venv/bin/activate
export NNODES="$SLURM_NNODES" NPROC=4
MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export MASTER_ADDR
# 6 rows x 8 GPUs x 1 = 48 rows a step; one device takes 6 x 6 = 36.
srun --kill-on-bad-exit=1 bash -c \
    'NODE_RANK=$SLURM_NODEID bash scripts/training/run-training.sh --gradient_accumulation_steps 1'
