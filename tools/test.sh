#!/usr/bin/env bash
# What CI runs and a developer types: style, contracts, types, then tests from fast to slow.
set -euo pipefail
cd "$(dirname "$0")/.."
what="${1:-all}"
bin=.venv/bin
export PYTHONDONTWRITEBYTECODE=1

# A process a core; a file's tests stay together, the browser's come last (tests/conftest.py).
side_by_side=(-n "${SPARSIGHT_TEST_PROCESSES:-logical}" --maxprocesses=4 --dist=loadfile --no-loadscope-reorder)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

step() { printf '\n== %s\n' "$*"; }

if [ "$what" != fast ] && [ "$what" != fuzz ]; then
  step "format and style"
  $bin/ruff format --check .
  $bin/ruff check .
  step "import contracts"
  $bin/lint-imports --no-cache
  step "types"
  $bin/mypy
fi
case "$what" in
  lint) exit 0 ;;
  fast) step "tests"; exec $bin/pytest -q "${side_by_side[@]}" -m "not browser and not slow" ;;
  fuzz)
    step "property tests on new examples"
    # shellcheck disable=SC2046 - names of test files hold no spaces
    exec $bin/pytest -q "${side_by_side[@]}" --hypothesis-profile=new $(grep -rl "@given" tests)
    ;;
  all)
    if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then
      echo "The browser tests need Chromium. On Debian and Ubuntu: sudo apt-get install chromium fonts-noto-cjk fonts-noto-color-emoji" >&2
      exit 1
    fi
    step "tests"
    exec $bin/pytest -q "${side_by_side[@]}" --durations=25
    ;;
  *) echo "usage: tools/test.sh [all|fast|fuzz|lint]" >&2; exit 2 ;;
esac
