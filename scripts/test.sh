#!/usr/bin/env bash
# Sets up a virtual environment when there is none and runs the tests. Arguments go to pytest; without any, the whole
# suite runs in as many processes as there are cores, up to four: each of them needs some 2 GB.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # tests are many and small: cores are for processes, not for threads
[ $# -gt 0 ] || set -- -n logical --maxprocesses 4 --dist worksteal
exec "$VENV/bin/python" -m pytest "$@"
