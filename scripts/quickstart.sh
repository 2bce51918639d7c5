#!/usr/bin/env bash
# Sets up a virtual environment when there is none and trains configs/quickstart.yaml on the embedded emulator.
# Arguments go to ipu-train, for example training.epochs=3.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
# Threads wait for each other in a loop. Where one of two cores is busy otherwise, a network as small as this one trains
# seventy times slower with two threads than with one; on an idle machine one is about as fast.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$VENV/bin/ipu-train" --config quickstart "$@"
