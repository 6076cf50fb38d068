#!/usr/bin/env bash
# Writes requirements.lock anew: the newest versions that pyproject.toml admits, frozen.
set -euo pipefail
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"${PYTHON:-python3}" -m venv "$fresh"
"$fresh/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 ".[app,worker,dev]"
{
  echo "# Every package that Sparsight and its tests need, pinned. Written by tools/lock.sh."
  "$fresh/bin/pip" freeze --disable-pip-version-check | grep -v '^sparsight' | sed -E 's/^(torch==[0-9.]+)\+cpu$/\1/'
} > requirements.lock
