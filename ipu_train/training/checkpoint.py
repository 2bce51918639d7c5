"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is a folder ``step_00001234`` of the files below and ``SHA256SUMS``, which ``sha256sum -c`` reads; no
pickle. It is written beside its final place, flushed to the disk and renamed, so a folder of that name is complete;
what a disk does to it later is found by the checksums.

    weights.safetensors     the network's state dict
    optimizer.safetensors   optimizer, random states, average of the weights, what the host updates
    state.json              position in the run, sums behind the next line of metrics, versions
    config.yaml             the resolved configuration
    metrics.jsonl           all metrics so far
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .. import durable
from . import checkpoint_folder
from .checkpoint_folder import PARTIAL, REPLACED, STATE, SUMS, WEIGHTS, folder_name, list_checkpoints, newest

__all__ = [
    "FORMAT",
    "Checkpoint",
    "CheckpointError",
    "folder_name",
    "list_checkpoints",
    "load",
    "newest",
    "newest_sound",
    "save",
]

FORMAT = 2
OPTIMIZER, CONFIG, METRICS = "optimizer.safetensors", "config.yaml", "metrics.jsonl"
FILES = (CONFIG, METRICS, OPTIMIZER, STATE, WEIGHTS)  # as a shell sorts them
_CHUNK = 1 << 20


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read; the message names the file and says what to do."""


class Checkpoint(NamedTuple):
    """The parts of a checkpoint.

    Attributes:
        weights: the network's ``state_dict``.
        optimizer: tensors of the optimizer's ``ipu_state`` and ``ipu_param``, under ``ipu_state/<name>`` and so on.
        state: JSON-able: position in the data, steps, loss scale, sums of the metrics, versions.
        config: the resolved configuration as YAML.
        metrics: the lines of ``metrics.jsonl`` so far.
    """

    weights: Dict[str, torch.Tensor]
    optimizer: Dict[str, torch.Tensor]
    state: Dict[str, Any]
    config: str = ""
    metrics: bytes = b""


def save(folder: Path, checkpoint: Checkpoint, keep: int, keep_best: bool = True) -> Path:
    """Write a checkpoint under ``folder`` and delete all but the newest ``keep`` and the best.

    Raises:
        CheckpointError: the file system refuses (no space, no permission). Older checkpoints are untouched.
    """
    final = folder / folder_name(checkpoint.state["step"])
    partial = checkpoint_folder.on_its_way(final, PARTIAL)
    try:
        try:
            _write(partial, final, checkpoint)
        except (OSError, SafetensorError):
            if partial.exists():
                raise
            _write(partial, final, checkpoint)  # somebody has just deleted the run folder
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(
            f"Cannot write the checkpoint {final}: {reason}. Earlier checkpoints are intact: free some space or choose "
            "another run_dir, then go on with --resume."
        ) from error
    checkpoint_folder.prune(folder, final, keep, keep_best)
    return final


def _write(partial: Path, final: Path, checkpoint: Checkpoint) -> None:
    """All files of a checkpoint into a new folder, down to the disk, and then under its name."""
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(_contiguous(checkpoint.weights), str(partial / WEIGHTS))
    save_file(_contiguous(checkpoint.optimizer), str(partial / OPTIMIZER))
    text = json.dumps(dict(checkpoint.state, format=FORMAT), indent=1)
    (partial / STATE).write_text(text, encoding="utf-8")
    (partial / CONFIG).write_text(checkpoint.config, encoding="utf-8")
    (partial / METRICS).write_bytes(checkpoint.metrics)
    (partial / SUMS).write_bytes(_sums(partial))
    for name in (WEIGHTS, OPTIMIZER):  # which safetensors, from 0.8 on, leaves readable by nobody else
        shutil.copymode(str(partial / SUMS), str(partial / name))
    for name in (*FILES, SUMS):
        durable.flush(partial / name)
    durable.flush(partial)
    _put_in_place(partial, final)


def _put_in_place(partial: Path, final: Path) -> None:
    """Rename; a checkpoint of the same step (a run taken up again) goes when the new one has its name."""
    replaced = checkpoint_folder.on_its_way(final, REPLACED)
    if final.exists():
        os.replace(str(final), str(replaced))
    os.replace(str(partial), str(final))
    durable.flush(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def load(folder: Path) -> Checkpoint:
    """Read the checkpoint in ``folder``.

    Raises:
        CheckpointError: a file is missing, unreadable, damaged or of another format.
    """
    try:
        _check_sums(folder)
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        weights = load_file(str(folder / WEIGHTS))
        optimizer = load_file(str(folder / OPTIMIZER))
        config = (folder / CONFIG).read_text(encoding="utf-8")
        metrics = (folder / METRICS).read_bytes()
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"Cannot read the checkpoint {folder}: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else None
        raise CheckpointError(
            f"The checkpoint {folder} has format {found}; this version of ipu-train reads {FORMAT}."
        )
    return Checkpoint(weights, optimizer, state, config, metrics)


def newest_sound(
    folder: Path, last: Optional[int] = None
) -> Tuple[Optional[Tuple[Path, Checkpoint]], List[str]]:
    """The newest checkpoint under ``folder``, up to step ``last``, that can be read, and why newer ones cannot."""
    skipped: List[str] = []
    for path in reversed(list_checkpoints(folder, last)):
        try:
            return (path, load(path)), skipped
        except CheckpointError as error:
            skipped.append(str(error))
    return None, skipped


def _sums(folder: Path) -> bytes:
    """What ``SHA256SUMS`` must hold, to the byte."""
    return "".join(f"{_digest(folder / name)}  {name}\n" for name in FILES).encode("ascii")


def _check_sums(folder: Path) -> None:
    """Raise a ValueError or an OSError that names what is wrong with the checkpoint."""
    for name in (*FILES, SUMS):
        path = folder / name
        if not path.is_file():  # a pipe of that name would be waited for
            raise ValueError(f"{name} is missing" if not path.exists() else f"{name} is no file")
    written, found = (folder / SUMS).read_bytes(), _sums(folder)
    if written == found:
        return
    lines = set(written.split(b"\n"))
    damaged = [name for name, line in zip(FILES, found.split(b"\n")) if line not in lines]
    if 0 < len(damaged) < len(FILES):
        raise ValueError(f"{', '.join(damaged)} is damaged: its checksum is not that of {SUMS}")
    raise ValueError(f"{SUMS} is damaged, or all files are")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _contiguous(tensors: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
