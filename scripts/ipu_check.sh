#!/usr/bin/env bash
# One run over everything that a machine with IPUs can confirm or refute, and one report file to attach to a bug report:
# environment, contract tests, quick start, the PopART operator against float64, predicted beside measured memory and
# cycles. PYTHON is the interpreter that has PopTorch and ipu-train (default python3, with the SDK enabled). Without an
# SDK it rehearses on the embedded emulator. Arguments: scripts/ipu_check.sh --help
set -euo pipefail
PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c "import ipu_train, pytest" 2>/dev/null; then
    echo "ipu_check: $PYTHON has no ipu-train or no pytest. In the environment that has PopTorch, run:" >&2
    echo "    $PYTHON -m pip install --editable '$(cd "$(dirname "$0")/.." && pwd)[test]'" >&2
    exit 2
fi
exec "$PYTHON" "$(dirname "$0")/ipu_check.py" "$@" # in the present folder, where the report goes
