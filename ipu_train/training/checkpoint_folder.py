"""The folder ``checkpoints/`` of a run: names, order, what is kept, and what killed processes left. No torch in here.

A checkpoint is a folder ``step_00001234``. Everything that begins with a dot is on its way in or out: ``.partial`` is
being written, ``.replaced`` waits until its successor has the name, ``.deleted`` is being removed.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from ..tracking.patience import score

STATE, SUMS, WEIGHTS = "state.json", "SHA256SUMS", "weights.safetensors"
PARTIAL, REPLACED, DELETED = "partial", "replaced", "deleted"

_NAME = re.compile(r"step_(\d{8,})")
_ON_ITS_WAY = re.compile(r"\.(step_\d{8,})\.\d+\.(partial|replaced|deleted)")


def folder_name(step: int) -> str:
    return f"step_{step:08d}"


def step_of(path: Path) -> Optional[int]:
    """The weight update in a checkpoint's name; None for a folder of another name."""
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else None


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is a checkpoint, whole or damaged."""
    return (path / STATE).is_file() or (path / SUMS).is_file()


def list_checkpoints(folder: Path, last: Optional[int] = None) -> List[Path]:
    """Checkpoints under ``folder`` up to weight update ``last``, oldest first; some may be damaged."""
    steps = {path: step_of(path) for path in folder.glob("step_*") if is_checkpoint(path)}
    known = {
        path: step for path, step in steps.items() if step is not None and (last is None or step <= last)
    }
    return sorted(known, key=lambda path: known[path])


def to_go_on_from(folder: Path) -> List[Path]:
    """Checkpoints as :func:`tidy` leaves them: one that a killed process was about to replace has its name again."""
    names = (_ON_ITS_WAY.fullmatch(path.name) for path in folder.glob(f".step_*.{REPLACED}"))
    back = {folder / match.group(1) for match in names if match is not None}
    found = {*list_checkpoints(folder), *(path for path in back if not path.exists())}
    return sorted(found, key=lambda path: step_of(path) or 0)


def newest(folder: Path) -> Optional[Path]:
    """The checkpoint of the latest weight update under ``folder``, which may be damaged."""
    found = list_checkpoints(folder)
    return found[-1] if found else None


def on_its_way(path: Path, what: str) -> Path:
    """Where ``path`` is while it is written, replaced or deleted by this process."""
    return path.with_name(f".{path.name}.{os.getpid()}.{what}")


def remove(path: Path) -> None:
    """Delete a checkpoint: its name goes at once, so that a half-deleted one is never taken for whole."""
    going = on_its_way(path, DELETED)
    shutil.rmtree(going, ignore_errors=True)
    try:
        os.replace(str(path), str(going))
    except OSError:  # gone already, or a folder that may not be written
        return
    shutil.rmtree(going, ignore_errors=True)


def prune(folder: Path, written: Path, keep: int, keep_best: bool = True) -> None:
    """Delete what is not kept after ``written``.

    Kept are the newest ``keep`` and, with ``keep_best``, the one with the best validation accuracy. Checkpoints of
    later weight updates are of a run that was taken up again before them.
    """
    found, past = list_checkpoints(folder), list_checkpoints(folder, step_of(written))
    kept = past[-keep:]
    best = _best(past) if keep_best else None
    for path in found:
        if path not in kept and path != best:
            remove(path)


def best(folder: Path) -> Optional[Path]:
    """The checkpoint of the best validation, the earliest of equals; None without validation.

    They are judged by the metric of the newest one (``validation.metric``).
    """
    return _best(list_checkpoints(folder))


def _best(paths: Sequence[Path]) -> Optional[Path]:
    states = [_state(path) for path in paths]
    metric = next((str(state["metric"]) for state in reversed(states) if "metric" in state), "accuracy")
    scores = [
        (found, -index) for index, found in enumerate(_score(s, metric) for s in states) if found is not None
    ]
    return paths[-max(scores)[1]] if scores else None


def _state(path: Path) -> Dict[str, Any]:
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # damaged
        return {}
    return state if isinstance(state, dict) else {}


def epochs_of(path: Path) -> Optional[float]:
    """Epochs that a checkpoint has behind it, half a one more where another has begun; None: it does not tell."""
    state = _state(path)
    epoch, call, step = state.get("epoch"), state.get("call"), state.get("step")
    if not isinstance(epoch, int) or not isinstance(call, int) or not isinstance(step, int) or call > step:
        return None
    return epoch + 0.5 * (call > 0)


def _score(state: Dict[str, Any], metric: str) -> Optional[float]:
    """Higher is better; checkpoints of earlier versions know the accuracy alone."""
    figures = state.get("validation")
    if not isinstance(figures, dict) or not figures:
        figures = {"accuracy": state.get("validation_accuracy")}
    return score(figures, metric)


def tidy(folder: Path) -> None:
    """Finish what killed processes left half done. Nobody else may be writing there."""
    if not folder.is_dir():
        return
    for path in sorted(folder.glob(".step_*")):
        match = _ON_ITS_WAY.fullmatch(path.name)
        if match is None:
            continue
        final = path.with_name(match.group(1))
        if match.group(2) == REPLACED and not final.exists():
            os.replace(str(path), str(final))
        else:
            shutil.rmtree(path, ignore_errors=True)
