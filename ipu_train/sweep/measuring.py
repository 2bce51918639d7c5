"""Measurements of points, each in a process of its own (see ``measured.py`` for what is measured and how)."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict

from ..config import Resolved


def measure(resolved: Resolved, steps: int) -> Dict[str, Any]:
    """Measured values of a configuration by name; ``measured_error`` in their place when it cannot run here."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / f"{resolved.name}.yaml", Path(folder) / "measured.json"
        source.write_text(resolved.dump(), encoding="utf-8")
        command = [sys.executable, "-m", "ipu_train.sweep.measured", str(source), str(steps), str(target)]
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
        if not target.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return {"measured_error": f"the measuring process ended with status {done.returncode}: {last}"}
        return json.loads(target.read_text(encoding="utf-8"))
