#!/usr/bin/env bash
# Makes the environment: a venv with the pinned packages and this project.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3}"
VENV="${VENV:-.venv}"

fail() { printf '\nSparsight cannot be set up: %s\n%s\n' "$1" "$2" >&2; exit 1; }

command -v "$PYTHON" >/dev/null || fail "there is no $PYTHON." "Install Python 3.11 or newer, or run: make PYTHON=/path/to/python demo"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || fail "$("$PYTHON" --version) is too old." "Install Python 3.11 or newer, or run: make PYTHON=/path/to/python3.11 demo"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null \
  || fail "Python's venv module is missing." "On Debian and Ubuntu: sudo apt-get install python3-venv"

free_kib=$(df -Pk . | awk 'NR==2 {print $4}')
[ "$free_kib" -gt 6000000 ] || fail "only $((free_kib / 1024)) MiB of disk are free here." "About 6 GB are needed for packages, the demo model and the database."

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
"$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$VENV/bin/python" -m ensurepip --upgrade >/dev/null
echo "Installing the pinned packages into $VENV (once; a few minutes) …"
log=$(mktemp)
if ! "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.lock >"$log" 2>&1; then
  tail -n 15 "$log" >&2
  fail "pip could not install the pinned packages." "Check the network (PyPI must be reachable) and the lines above, then run the command again."
fi
if ! "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -e . >"$log" 2>&1; then
  tail -n 15 "$log" >&2
  fail "pip could not install Sparsight itself." "See the lines above."
fi
rm -f "$log"
