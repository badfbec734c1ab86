#!/usr/bin/env bash
# Run the test suite; makes the environment first if it is not there.
#
#     bash scripts/run-tests.sh
#     bash scripts/run-tests.sh tests/vlabench -k scoring
set -euo pipefail
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
fi
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$ROOT/scripts/utils/setup-env.sh"
cd "$ROOT"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0 HF_HUB_OFFLINE=1
unset LEAP_WORKSPACE
"$ROOT/.venv/bin/python" -m ruff check .
# A process a core, up to four; the tests of a file stay together. What comes later wins: -n 0 runs all in one process.
exec "$ROOT/.venv/bin/python" -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
