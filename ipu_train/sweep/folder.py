"""The folder of a sweep: ``sweeps/<configuration>/<UTC time>``."""

import os
import time
from pathlib import Path
from typing import List, Optional

from .. import places
from ..config import Resolved
from .errors import SweepError
from .names import JSON_FILE, POINTS


def place(resolved: Resolved, chosen: Optional[str], resume: bool) -> Path:
    """Where the sweep is or will be; nothing is made yet.

    Args:
        resolved: the configuration.
        chosen: a path that was asked for.
        resume: go on in the newest sweep of this configuration (or the chosen one).

    Raises:
        SweepError: it cannot be written, holds another sweep, or there is nothing to resume.
    """
    if resume:
        path = Path(chosen) if chosen is not None else _newest(resolved)
        if path is None or not (path / POINTS).is_dir():
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
    why = places.unwritable(path)
    if why is not None:
        raise _cannot_write(path, why)
    return path


def make(path: Path) -> None:
    """Make the folder, and that of its points.

    Raises:
        SweepError: it cannot be made.
    """
    try:
        (path / POINTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, str(error.strerror or error)) from error


def _cannot_write(path: Path, why: str) -> SweepError:
    return SweepError(f"Cannot write the sweep folder {path}: {why}. Choose another with sweep_dir=PATH.")


def _parent(resolved: Resolved) -> Path:
    return Path("sweeps") / resolved.name


def sweeps_in(parent: Path) -> List[Path]:
    """Sweep folders under ``parent``, newest first."""
    found = [path.parent for path in parent.glob(f"*/{POINTS}")]
    return sorted(found, key=os.path.getmtime, reverse=True)


def _newest(resolved: Resolved) -> Optional[Path]:
    found = sweeps_in(_parent(resolved))
    return found[0] if found else None


def _unused(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}_{number}")
    return candidate
