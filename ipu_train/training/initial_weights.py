"""What the weights of a run start from, other than random numbers."""

from pathlib import Path
from typing import Dict, Optional

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..config import Resolved
from ..models import classifier, known_layout, load_checkpoint
from ..processes.alone import ALONE, Processes
from ..tracking import tell
from . import checkpoint, checkpoint_folder
from .checkpoint import Checkpoint

Weights = Dict[str, torch.Tensor]


def load(resolved: Resolved, network: torch.nn.Module, processes: Processes = ALONE) -> None:
    """Load ``model.weights`` into the network, in place; does nothing without them.

    Of several processes only the first one reads them; all begin with its weights.

    Raises:
        ConfigError: there are no such weights, or they are of another network.
    """
    processes.first(lambda: _load(resolved, network))
    processes.take_first(network.state_dict())


def _load(resolved: Resolved, network: torch.nn.Module) -> None:
    model = resolved.config.model
    if model.weights is None:
        return
    try:
        weights = read(Path(model.weights).expanduser(), model.averaged_weights)
        _put(weights, network, model.new_classifier, classifier(model.name) + ".")
    except (ValueError, RuntimeError) as error:  # RuntimeError: shapes, from load_state_dict
        raise resolved.error("model.weights", str(error)) from error


def read(path: Path, averaged: bool = False) -> Weights:
    """The weights in a run folder, a checkpoint of ours, or a file with a state dict.

    Args:
        averaged: the average of the run's weights in place of the weights themselves.

    Raises:
        ValueError: nothing there, unreadable, or without an average.
    """
    if path.is_dir():
        return _of_run(path, averaged)
    if averaged:
        raise ValueError(
            f"averaged_weights is for run folders and checkpoints of ipu-train; {path} is a file"
        )
    try:
        state = load_file(str(path)) if path.suffix == ".safetensors" else _unpickled(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return state


def _of_run(path: Path, averaged: bool) -> Weights:
    if checkpoint_folder.is_checkpoint(path):
        folder, saved = path, checkpoint.load(path)
    else:
        found_sound, skipped = checkpoint.newest_sound(path / "checkpoints")
        for message in skipped:
            tell(f"Skipped: {message}")
        if found_sound is None:
            raise ValueError(f"no checkpoint in the folder {path}")
        folder, saved = found_sound
    return average_of(folder, saved) if averaged else saved.weights


def average_of(folder: Path, saved: Checkpoint) -> Weights:
    """The average of a run's weights that the checkpoint ``saved`` in ``folder`` holds, in the weights' types.

    Raises:
        ValueError: it holds none.
    """
    prefix = "average/average."
    found = {
        name[len(prefix) :]: t.to(saved.weights[name[len(prefix) :]].dtype)
        for name, t in saved.optimizer.items()
        if name.startswith(prefix)
    }
    if not found:
        raise ValueError(f"{folder} holds no average of the weights")
    return found


def _unpickled(path: Path) -> Weights:
    """A ``.pth`` file: a state dict, or a dict that holds one under ``state_dict`` or ``model``."""
    try:
        state = torch.load(str(path), map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever pickle meets in a file that is none
        raise ValueError(f"{path} is no file of weights that torch can read safely: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict (names and tensors)")
    return {name[len("module.") :] if name.startswith("module.") else name: t for name, t in state.items()}


def difference(weights: Weights, ours: Weights) -> Optional[str]:
    """In what weights differ from those of a network, in names or shapes; None: in nothing."""
    parts = []
    for words, names in (("lack", set(ours) - set(weights)), ("also hold", set(weights) - set(ours))):
        if names:
            parts.append(f"they {words} {len(names)} tensors, such as {min(names)}")
    if parts:
        return " and ".join(parts)
    for name, value in weights.items():
        if value.shape != ours[name].shape:
            return f"{name} has shape {tuple(value.shape)} there and {tuple(ours[name].shape)} in the model"
    return None


def _put(weights: Weights, network: torch.nn.Module, new_classifier: bool, last: str) -> None:
    ours = network.state_dict()
    common = len(set(weights) & set(ours))
    if common * 2 < len(ours) and (known_layout(list(weights)) or not common):  # another library's names
        load_checkpoint(network, weights, classifier=not new_classifier)
        return
    if new_classifier:
        kept = {name: value for name, value in ours.items() if name.startswith(last)}
        weights = {**{name: v for name, v in weights.items() if not name.startswith(last)}, **kept}
    different = difference(weights, ours)
    if different is not None:
        advice = "; set model.new_classifier to keep the model's own" if different.startswith(last) else ""
        if set(weights) != set(ours):
            different = (
                f"these weights are of another network: {different}; the model and its norm must be the same"
            )
        raise ValueError(different + advice)
    network.load_state_dict(weights)
