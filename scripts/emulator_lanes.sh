#!/usr/bin/env bash
# Runs the emulator's tests in two lanes: Python 3.8 with torch 2.0.1 (what PopTorch 3.4 was built for), and the newest
# torch. Each lane has a virtual environment of its own below LANES (default .lanes), made once. Arguments go to pytest.
# PYTHON_OLDEST and PYTHON_NEWEST choose interpreters; without a Python 3.8 on the path, pyenv or uv
# provide one where they are installed.
set -euo pipefail
cd "$(dirname "$0")/.."
LANES=${LANES:-.lanes}

interpreter() { # $1: wanted version, $2: name or path given by the user, if any
    if [ -n "$2" ]; then
        echo "$2"
    elif "python$1" -c "" 2>/dev/null; then # a name on the path may be a shim with nothing behind it
        command -v "python$1"
    elif command -v pyenv >/dev/null && pyenv versions --bare | grep -q "^$1\."; then
        echo "$(pyenv prefix "$(pyenv versions --bare | grep "^$1\." | tail -1)")/bin/python"
    elif command -v uv >/dev/null; then
        uv python install --quiet "$1" && uv python find "$1"
    else
        echo "No Python $1 found: install it (or pyenv or uv), or say where it is in PYTHON_OLDEST" >&2
        return 1
    fi
}

environment() { # $1: lane, $2: interpreter, $3...: packages
    local folder="$LANES/$1" python="$2"
    shift 2
    local stamp="$folder/.ready-$(echo "$python $* $(cat setup.cfg)" | cksum | cut -d' ' -f1)"
    if [ ! -e "$stamp" ]; then
        "$python" -m venv "$folder"
        echo "Installing $* into $folder (torch is large: some minutes the first time)"
        "$folder/bin/python" -m pip install --quiet --upgrade pip
        "$folder/bin/python" -m pip install --quiet "$@" pytest
        "$folder/bin/python" -m pip install --quiet --no-deps --editable .
        touch "$stamp"
    fi
}

status=0
lane() { # $1: lane, $2...: arguments of pytest
    local python="$LANES/$1/bin/python"
    shift
    "$python" -c "import sys, torch; print('Python', sys.version.split()[0], 'torch', torch.__version__)"
    "$python" -m pytest -q tests/emulator "$@" || status=1
}

oldest=$(interpreter 3.8 "${PYTHON_OLDEST:-}")
environment oldest "$oldest" "torch==2.0.1" "numpy<1.25"
environment newest "${PYTHON_NEWEST:-python3}" torch numpy
lane oldest "$@"
lane newest "$@"
exit $status
