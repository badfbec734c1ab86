#!/usr/bin/env bash
# A Ray cluster on machines that you reach by ssh, and one command on it, from the repository's root:
#
#     bash docs/cluster/ssh-ray.sh gpu1 gpu2 gpu3 -- python scripts/ablation/run-ablation.py
#
# This machine is the head. All see the repository, its .venv and the workspace in the same place, on a shared disk.
# PORT (default 6379) is where the head listens; HEAD its address for the others (default: the first that this machine
# has). At the end, also after Ctrl-C, `ray stop` ends what Ray runs of yours on all of them.
set -euo pipefail
machines=()
while [ "$#" -gt 0 ] && [ "$1" != -- ]; do
    machines+=("$1")
    shift
done
if [ "$#" -lt 2 ] || [ "${#machines[@]}" -eq 0 ]; then
    echo "usage: bash docs/cluster/ssh-ray.sh MACHINE... -- COMMAND..." >&2
    exit 2
fi
shift
source .venv/bin/activate
export RAY_USAGE_STATS_ENABLED=0
head="${HEAD:-$(hostname -I | cut -d' ' -f1)}"
address="$head:${PORT:-6379}"
ray="$(printf %q "$PWD/.venv/bin/ray")"

end() {
    for machine in "${machines[@]}"; do
        ssh -o BatchMode=yes "$machine" "$ray stop" >/dev/null 2>&1 || true
    done
    ray stop >/dev/null 2>&1 || true
}
ray start --head --node-ip-address "$head" --port "${PORT:-6379}" --include-dashboard=false >/dev/null
trap end EXIT
for machine in "${machines[@]}"; do
    ssh -o BatchMode=yes "$machine" "$ray start --address $address" >/dev/null
done
"${@:1:2}" --ray "$address" "${@:3}"  # behind the name of the script
