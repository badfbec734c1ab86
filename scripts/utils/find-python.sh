# Sourced by the shell scripts: sets PYTHON to the interpreter that has LEAP installed.
# An activated environment wins, then .venv in the repository; PYTHON=... names another.
LEAP_REPOSITORY="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
has_leap() {  # -I: what lies in the current folder does not count as installed
    "$1" -I -c "import importlib.util as u, sys; sys.exit(not u.find_spec('leap'))" 2>/dev/null
}
for candidate in "${PYTHON:-python}" "$LEAP_REPOSITORY/.venv/bin/python"; do
    if has_leap "$candidate"; then
        PYTHON="$candidate"
        return 0
    fi
done
echo "error: LEAP is not installed for ${PYTHON:-python}. Run: bash '$LEAP_REPOSITORY/scripts/utils/setup-env.sh'" >&2
exit 2
