"""The folder of a sweep: ``sweeps/<configuration>/<UTC time>``."""

import os
import time
from pathlib import Path
from typing import List, Optional

from ..config import Resolved
from .content import Kept
from .errors import SweepError
from .outputs import JSON_FILE

_POINTS = "points"


def choose(resolved: Resolved, chosen: Optional[str], resume: bool) -> Path:
    """The folder, made and proved writable.

    Args:
        resolved: the configuration.
        chosen: a path that was asked for.
        resume: go on in the newest sweep of this configuration (or the chosen one).

    Raises:
        SweepError: it cannot be written, holds another sweep, or there is nothing to resume.
    """
    if resume:
        path = Path(chosen) if chosen is not None else _newest(resolved)
        if path is None or not (path / _POINTS).is_dir():
            where = path if path is not None else _parent(resolved)
            raise SweepError(f"Nothing to resume: no sweep in {where}. Start it without --resume.")
    elif chosen is not None:
        path = Path(chosen)
        if (path / JSON_FILE).exists():
            raise SweepError(
                f"{path} holds a sweep already: go on with --resume, or choose another sweep_dir."
            )
    else:
        path = _unused(_parent(resolved) / time.strftime("%Y-%m-%d_%H-%M-%S", time.gmtime()))
    try:
        (path / _POINTS).mkdir(parents=True, exist_ok=True)
        probe = path / _POINTS / f".writable.{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise SweepError(
            f"Cannot write the sweep folder {path}: {error.strerror or error}. Choose another with sweep_dir=PATH."
        ) from error
    return path


def kept_in(folder: Path) -> Kept:
    """Predictions of this sweep, and those of its neighbours for reading."""
    return Kept(folder / _POINTS, [neighbour / _POINTS for neighbour in _sweeps(folder.parent)])


def _parent(resolved: Resolved) -> Path:
    return Path("sweeps") / resolved.name


def _sweeps(parent: Path) -> List[Path]:
    """Sweep folders under ``parent``, newest first."""
    found = [path.parent for path in parent.glob(f"*/{_POINTS}")]
    return sorted(found, key=os.path.getmtime, reverse=True)


def _newest(resolved: Resolved) -> Optional[Path]:
    found = _sweeps(_parent(resolved))
    return found[0] if found else None


def _unused(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}_{number}")
    return candidate
