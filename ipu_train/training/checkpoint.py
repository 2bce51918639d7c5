"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is a folder ``step_00001234`` with ``weights.safetensors``, ``optimizer.safetensors`` and
``state.json``; no pickle. It is written beside its final place and renamed, so a folder of that name is always
complete.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read; the message names the file and says what to do."""


class Checkpoint(NamedTuple):
    """The parts of a checkpoint.

    Attributes:
        weights: the network's ``state_dict``.
        optimizer: tensors of the optimizer's ``ipu_state`` and ``ipu_param``, under ``ipu_state/<name>`` and so on.
        state: JSON-able: position in the data, steps, random state, loss scale, parameter groups.
    """

    weights: Dict[str, torch.Tensor]
    optimizer: Dict[str, torch.Tensor]
    state: Dict[str, Any]


def folder_name(step: int) -> str:
    return f"step_{step:08d}"


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint under ``folder`` and delete all but the newest ``keep``.

    Raises:
        CheckpointError: the file system refuses (no space, no permission). Older checkpoints are untouched.
    """
    final = folder / folder_name(checkpoint.state["step"])
    partial = folder / f".{final.name}.{os.getpid()}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(_contiguous(checkpoint.weights), str(partial / "weights.safetensors"))
        save_file(_contiguous(checkpoint.optimizer), str(partial / "optimizer.safetensors"))
        text = json.dumps(dict(checkpoint.state, format=FORMAT), indent=1)
        (partial / "state.json").write_text(text, encoding="utf-8")
        for path in partial.iterdir():
            _flush_to_disk(path)
        if final.exists():  # the same step again, after a resume
            shutil.rmtree(final)
        os.replace(str(partial), str(final))
        _flush_to_disk(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(
            f"Cannot write the checkpoint {final}: {reason}. Earlier checkpoints are intact: free some space or choose "
            "another run_dir, then go on with --resume."
        ) from error
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load(folder: Path) -> Checkpoint:
    """Read the checkpoint in ``folder``.

    Raises:
        CheckpointError: a file is missing, unreadable or of another format.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        weights = load_file(str(folder / "weights.safetensors"))
        optimizer = load_file(str(folder / "optimizer.safetensors"))
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"Cannot read the checkpoint {folder}: {error}") from error
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"The checkpoint {folder} has format {state.get('format')}; this version of ipu-train reads {FORMAT}."
        )
    return Checkpoint(weights, optimizer, state)


def list_checkpoints(folder: Path) -> List[Path]:
    """Complete checkpoints under ``folder``, oldest first."""
    return sorted(path for path in folder.glob("step_*") if (path / "state.json").is_file())


def newest(folder: Path) -> Optional[Path]:
    found = list_checkpoints(folder)
    return found[-1] if found else None


def _contiguous(tensors: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _flush_to_disk(path: Path) -> None:
    """Power loss after the rename must not leave an empty file behind."""
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
