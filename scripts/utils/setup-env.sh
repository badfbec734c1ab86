#!/usr/bin/env bash
# Make .venv in the repository with the exact versions of requirements.lock and LEAP itself.
#
#     bash scripts/utils/setup-env.sh
#
# Needs Python 3.11 or newer. Uses uv where it is there or can be installed, else pip. Does nothing if up to date.
# Where there is no NVIDIA driver, torch comes from PyTorch's own index without CUDA, if that can be reached.
set -euo pipefail
if [ $# -gt 0 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    [ "$1" = --help ] || [ "$1" = -h ] || { echo "error: unknown argument $1" >&2; exit 2; }
    exit 0
fi
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV="$ROOT/.venv"
STAMP="$VENV/leap-installed"

wanted="$(cat "$ROOT/requirements.lock" "$ROOT/pyproject.toml" "$ROOT/setup.py"; printf '%s' "$ROOT")"
if [ -f "$STAMP" ] && [ "$wanted" = "$(cat "$STAMP")" ] && [ -x "$VENV/bin/python" ]; then
    exit 0
fi

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'
python=""
for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if command -v "$candidate" >/dev/null && "$candidate" -c "$new_enough" 2>/dev/null; then
        python="$(command -v "$candidate")"
        break
    fi
done
if [ -z "$python" ]; then
    echo "error: no Python 3.11 or newer found. Install one, or use conda: conda env create -f qwen-ft-env.yml" >&2
    exit 2
fi

if [ -e "$VENV" ] && [ ! -e "$VENV/made-by-leap" ]; then
    echo "error: $VENV is there and is not LEAP's. Move it away, or install into it: pip install -r requirements.lock -e ." >&2
    exit 2
fi
echo "installing into .venv with $("$python" --version)"
mkdir -p "$VENV"
touch "$VENV/made-by-leap"
if ! "$python" -m venv "$VENV" 2>/dev/null; then
    if ! { command -v uv >/dev/null && uv venv -q --allow-existing --python "$python" "$VENV"; }; then
        echo "error: $python cannot make virtual environments. Install its venv package (python3-venv) or uv" >&2
        exit 2
    fi
fi
if command -v uv >/dev/null; then
    uv=(uv)
elif "$VENV/bin/python" -m pip install -q uv 2>/dev/null; then
    uv=("$VENV/bin/uv")
else
    uv=()
fi
if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then
    # Else every start would compile torch and transformers anew. pip does so by itself.
    export UV_COMPILE_BYTECODE=1
fi
# The lock without torch and what only its CUDA build needs.
without_torch() {
    awk '/^[a-z]/ { out = $1 ~ /^(torch|torchvision|triton|nvidia-.*|cuda-.*)==/ } !out' "$ROOT/requirements.lock"
}
# torch and torchvision of the lock's versions without CUDA; that index has hashes of its own.
install_cpu_torch() {
    local index="${LEAP_TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}" reachable versions
    [ ${#uv[@]} -gt 0 ] && [ "$(uname -s)" = Linux ] && [ ! -e /dev/nvidiactl ] || return 1
    reachable="import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)"
    "$VENV/bin/python" -c "$reachable" "$index/torch/" 2>/dev/null || return 1
    versions="$(grep -oE '^(torch|torchvision)==[0-9.]+' "$ROOT/requirements.lock")"
    echo "no NVIDIA driver here: torch without CUDA, from $index"
    # shellcheck disable=SC2086  # one word a package
    "${uv[@]}" pip install --python "$VENV/bin/python" --no-deps --index-url "$index" $versions || return 1
    without_torch | "${uv[@]}" pip install --python "$VENV/bin/python" --no-deps --require-hashes -r -
}

if install_cpu_torch; then
    "${uv[@]}" pip install --python "$VENV/bin/python" --no-deps -e "$ROOT"
elif [ ${#uv[@]} -gt 0 ]; then
    echo "PyPI's torch brings CUDA along: 6.4 GB on disk in all"
    "${uv[@]}" pip install --python "$VENV/bin/python" --require-hashes -r "$ROOT/requirements.lock"
    "${uv[@]}" pip install --python "$VENV/bin/python" --no-deps -e "$ROOT"
else
    "$VENV/bin/python" -m pip install --no-cache-dir --require-hashes -r "$ROOT/requirements.lock"
    "$VENV/bin/python" -m pip install --no-deps -e "$ROOT"
fi
printf '%s' "$wanted" >"$STAMP"
