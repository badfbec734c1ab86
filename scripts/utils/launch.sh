# Sourced by the training scripts, after find-python.sh: `launch SCRIPT ARGUMENTS...` runs SCRIPT on all visible GPUs.
#
# One GPU or none: a plain process. More: one process each through torchrun, on NNODES machines.
#     NPROC                         processes on this machine (default: the visible GPUs)
#     NNODES NODE_RANK              machines in all, and which one this is (default: 1, 0)
#     MASTER_ADDR MASTER_PORT       where machine 0 listens (default: 127.0.0.1, 29500)
#     ACCELERATE_CONFIG=FILE        a recipe of configs/accelerate/, in place of plain data parallelism
visible_gpus() {
    if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
        tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c . || true
    elif command -v nvidia-smi >/dev/null; then
        nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU' || true
    else
        echo 0
    fi
}

launch() {
    local nodes="${NNODES:-1}" rank="${NODE_RANK:-0}" address="${MASTER_ADDR:-127.0.0.1}" port="${MASTER_PORT:-29500}"
    local processes="${NPROC:-$(visible_gpus)}" argument
    for argument in "$@"; do
        case "$argument" in -h | --help) exec "$PYTHON" "$@" ;; esac
    done
    if [ "$processes" -lt 1 ]; then processes=1; fi
    if [ -n "${ACCELERATE_CONFIG:-}" ]; then
        if [ ! -f "$ACCELERATE_CONFIG" ]; then
            echo "error: ACCELERATE_CONFIG: no file $ACCELERATE_CONFIG; ready ones are in $LEAP_REPOSITORY/configs/accelerate" >&2
            exit 2
        fi
        exec "$PYTHON" -m accelerate.commands.launch --config_file "$ACCELERATE_CONFIG" \
            --num_processes $((processes * nodes)) --num_machines "$nodes" --machine_rank "$rank" \
            --main_process_ip "$address" --main_process_port "$port" "$@"
    elif [ "$nodes" -gt 1 ]; then
        exec "$PYTHON" -m torch.distributed.run --nproc_per_node "$processes" --nnodes "$nodes" --node_rank "$rank" \
            --master_addr "$address" --master_port "$port" "$@"
    elif [ "$processes" -gt 1 ]; then
        exec "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$processes" "$@"
    fi
    exec "$PYTHON" "$@"
}
