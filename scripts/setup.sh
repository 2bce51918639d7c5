# Sourced by the one-line commands of the README: a virtual environment with ipu-train in it, made once.
# VENV chooses where (default .venv), PYTHON the interpreter, EXTRAS the optional parts.
set -euo pipefail
VENV=${VENV:-.venv}
EXTRAS=${EXTRAS:-plots,test}
stamp="$VENV/.ipu-train-$(cksum setup.cfg | cut -d' ' -f1)-$EXTRAS"
if [ ! -e "$stamp" ]; then
    "${PYTHON:-python3}" -m venv "$VENV"
    echo "Installing ipu-train and what it needs into $VENV (torch is large: some minutes the first time)"
    "$VENV/bin/python" -m pip install --quiet --editable ".[$EXTRAS]"
    touch "$stamp"
fi
