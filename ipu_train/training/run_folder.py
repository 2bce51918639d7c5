"""The folder of a run: where it is, what is in it, and which one to resume."""

import os
import time
from pathlib import Path
from typing import Optional

from ..config import Resolved, load
from . import checkpoint

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.jsonl"
PLAN_FILE = "plan.json"

# What may differ between a run and its resumption without changing what is computed.
_MAY_DIFFER = ("logging.", "checkpoint.", "run_dir", "validation.", "device.")


class RunFolderError(ValueError):
    """A run folder that cannot be made, or that has nothing to resume; the message says what to do."""


class RunFolder:
    """Paths of one run.

    Attributes:
        path: the folder; holds ``config.yaml``, ``metrics.jsonl``, ``checkpoints/`` and pictures.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config(self) -> Path:
        return self.path / CONFIG_FILE

    @property
    def metrics(self) -> Path:
        return self.path / METRICS_FILE

    @property
    def plan(self) -> Path:
        return self.path / PLAN_FILE

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def newest_checkpoint(self) -> Optional[Path]:
        return checkpoint.newest(self.checkpoints)


def parent_of_runs(resolved: Resolved) -> Path:
    return Path("runs") / resolved.name


def create(resolved: Resolved) -> RunFolder:
    """A new run folder with the resolved configuration in it.

    Raises:
        RunFolderError: it cannot be written, or a run is in it already.
    """
    chosen = resolved.config.run_dir
    if chosen is not None:
        path = Path(chosen)
        if (path / CONFIG_FILE).exists():
            if RunFolder(path).newest_checkpoint() is None:  # --resume would find nothing there
                raise RunFolderError(_without_checkpoint(path))
            raise RunFolderError(
                f"run_dir {path} holds a run already: go on with it by adding --resume, or choose another folder."
            )
    else:
        path = _unused(parent_of_runs(resolved) / time.strftime("%Y-%m-%d_%H-%M-%S", time.gmtime()))
    folder = RunFolder(path)
    try:
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        folder.config.write_text(resolved.dump(), encoding="utf-8")
    except OSError as error:
        raise RunFolderError(
            f"Cannot make the run folder {path}: {error.strerror or error}. Choose another with run_dir=PATH."
        ) from error
    return folder


def _unused(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}_{number}")
    return candidate


def find_to_resume(resolved: Resolved) -> RunFolder:
    """The run that ``--resume`` goes on with: ``checkpoint.resume`` or ``run_dir``, else this configuration's newest.

    Raises:
        RunFolderError: there is none with a checkpoint, or its configuration computes something else.
    """
    asked = resolved.config.checkpoint.resume
    chosen = asked if asked not in (None, "latest") else resolved.config.run_dir
    if chosen is not None:
        candidates = [Path(chosen)]
    else:
        candidates = sorted(parent_of_runs(resolved).glob("*"), key=os.path.getmtime, reverse=True)
    for path in candidates:
        folder = RunFolder(path)
        if folder.newest_checkpoint() is not None:
            _refuse_changes(folder, resolved)
            return folder
    if chosen is not None and (Path(chosen) / CONFIG_FILE).exists():
        raise RunFolderError(_without_checkpoint(Path(chosen)))
    where = chosen if chosen is not None else str(parent_of_runs(resolved))
    raise RunFolderError(
        f"Nothing to resume: no checkpoint under {where}. Start the run without --resume, or name its folder with "
        "run_dir=PATH."
    )


def _without_checkpoint(path: Path) -> str:
    return (
        f"run_dir {path} holds a run that ended before its first checkpoint, so there is nothing to go on with: "
        "delete that folder and start without --resume, or choose another folder."
    )


def _refuse_changes(folder: RunFolder, resolved: Resolved) -> None:
    before = _flat(load(str(folder.config)).config.model_dump())
    now = _flat(resolved.config.model_dump())
    changed = [
        f"{key}: {before.get(key)!r} -> {now.get(key)!r}"
        for key in sorted(set(before) | set(now))
        if before.get(key) != now.get(key) and not key.startswith(_MAY_DIFFER)
    ]
    if changed:
        raise RunFolderError(
            f"Cannot resume {folder.path}: the configuration computes something else than the run did.\n  "
            + "\n  ".join(changed)
            + f"\nUse the run's own configuration (--config {folder.config}), or start a new run."
        )


def _flat(tree: dict, prefix: str = "") -> dict:
    leaves: dict = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            leaves.update(_flat(value, f"{prefix}{key}."))
        else:
            leaves[prefix + key] = value
    return leaves
