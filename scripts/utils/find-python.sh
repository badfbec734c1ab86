# Sourced by the shell scripts: sets PYTHON to the interpreter that has LEAP installed.
# An activated environment wins, then .venv in the repository; PYTHON=... names another.
LEAP_REPOSITORY="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
if [ -z "${PYTHON:-}" ]; then
    if [ -n "${VIRTUAL_ENV:-}" ] || { [ -n "${CONDA_DEFAULT_ENV:-}" ] && [ "$CONDA_DEFAULT_ENV" != base ]; }; then
        PYTHON=python
    elif [ -x "$LEAP_REPOSITORY/.venv/bin/python" ]; then
        PYTHON="$LEAP_REPOSITORY/.venv/bin/python"
    else
        PYTHON=python3
    fi
fi
if ! "$PYTHON" -c "import importlib.util as u, sys; sys.exit(not (u.find_spec('leap') and u.find_spec('configs')))" 2>/dev/null; then
    echo "error: LEAP is not installed for $PYTHON. Run: bash '$LEAP_REPOSITORY/scripts/utils/setup-env.sh'" >&2
    exit 2
fi
