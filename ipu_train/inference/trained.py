"""From what is asked for to weights, their configuration and how their images were prepared."""

from pathlib import Path
from typing import Dict, Iterable, NamedTuple, Optional, Tuple

import torch

from ..config import Resolved, load
from ..tracking import tell
from ..training import checkpoint, checkpoint_folder, initial_weights
from ..training.checkpoint import Checkpoint, CheckpointError
from ..training.prepared import Prepared
from ..training.run_folder import CHECKPOINTS, CONFIG_FILE
from .asked import AVERAGED, BEST, Asked, configuration, with_file
from .errors import UseError

_TRIES = 5  # to read a checkpoint of a run that goes on


# keys of a configuration, and how `Prepared` calls them
_IMAGES = {
    f"data.{name}": name
    for name in ("image_size", "interpolation", "antialias", "transparency", "mean", "std")
}
_IMAGES["data.test_crop"] = "centre_share"


class Trained(NamedTuple):
    """Weights and what they are of.

    Attributes:
        resolved: the configuration of the run, with the overrides.
        weights: a state dict of its network; None: ``model.weights`` of ``resolved`` names a file that holds them.
        prepared: how images are prepared and what classes are called; None: only the configured data tells.
        words: which weights of what, for people.
        step: weight updates behind them, where that is known.
    """

    resolved: Resolved
    weights: Optional[Dict[str, torch.Tensor]]
    prepared: Optional[Prepared]
    words: str
    step: Optional[int] = None


def take(asked: Asked) -> Trained:
    """Load the weights that are asked for.

    Raises:
        UseError: a run of which no checkpoint can be read, or without averaged weights.
        CheckpointError: a damaged checkpoint.
        ConfigError: a configuration that does not fit.
    """
    if asked.file is not None:
        resolved = load(asked.config, with_file(asked.file, asked.overrides))
        return Trained(resolved, None, None, f"weights of {asked.file}")
    if asked.run is None:
        assert asked.checkpoint is not None
        return _of(asked.checkpoint, checkpoint.load(asked.checkpoint), asked.which, asked.overrides)
    for _ in range(_TRIES - 1):
        before = checkpoint_folder.list_checkpoints(asked.run / CHECKPOINTS)
        try:
            return _of(*_one_of(asked.run, asked.which), asked.which, asked.overrides)
        except (UseError, CheckpointError):
            if checkpoint_folder.list_checkpoints(asked.run / CHECKPOINTS) == before:
                raise
            # the run goes on, and has replaced the checkpoint that was being read
    return _of(*_one_of(asked.run, asked.which), asked.which, asked.overrides)


def _one_of(run: Path, which: str) -> Tuple[Path, Checkpoint]:
    """The best checkpoint of a run, or else the newest one that can be read."""
    best = checkpoint_folder.best(run / CHECKPOINTS) if which == BEST else None
    if best is not None:
        return best, checkpoint.load(best)
    found, skipped = checkpoint.newest_sound(run / CHECKPOINTS)
    if found is None:
        raise UseError(f"{run}: none of its checkpoints can be read")
    for message in skipped:
        tell(f"Skipped: {message}")
    return found


def _of(path: Path, saved: Checkpoint, which: str, overrides: Iterable[str]) -> Trained:
    weights = saved.weights
    if which == AVERAGED:
        try:
            weights = initial_weights.average_of(path, saved)
        except ValueError as error:
            raise UseError(f"{error} (the section averaging of its configuration asked for none)") from error
    images = saved.state.get("images")
    prepared = Prepared.read(images) if images else None
    resolved = _configuration(path, saved, overrides, prepared)
    if prepared is not None:
        prepared = _as_told(prepared, resolved, overrides)
    return Trained(resolved, weights, prepared, f"{which} weights of {path}", saved.state.get("step"))


def _as_told(prepared: Prepared, resolved: Resolved, overrides: Iterable[str]) -> Prepared:
    """With what overrides change about images, such as ``data.transparency=white``."""
    keys = [override.partition("=")[0].strip() for override in overrides]
    told = {field: getattr(resolved.config.data, key[5:]) for key, field in _IMAGES.items() if key in keys}
    return prepared.model_copy(update={field: value for field, value in told.items() if value is not None})


def _configuration(
    path: Path, saved: Checkpoint, overrides: Iterable[str], prepared: Optional[Prepared]
) -> Resolved:
    """The run's own configuration; the classifier keeps its size whatever images it is asked about."""
    place = path / CONFIG_FILE
    if not saved.config:
        raise CheckpointError(f"{place}: is empty; the network cannot be known without it")
    resolved = configuration(saved.config, place, overrides)
    if prepared is not None and resolved.config.model.num_classes is None:
        resolved = resolved.changed([f"model.num_classes={len(prepared.class_names)}"])
    return resolved
