#!/usr/bin/env bash
# Sets up a virtual environment when there is none and runs the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
exec "$VENV/bin/python" -m pytest "$@"
