#!/usr/bin/env bash
# Sets up a virtual environment when there is none and trains configs/quickstart.yaml on the embedded emulator.
# Arguments go to ipu-train, for example training.epochs=3.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
exec "$VENV/bin/ipu-train" --config quickstart "$@"
