"""From ``--run DIR`` or ``--checkpoint FILE`` to weights, their configuration and how their images were prepared."""

import re
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

import torch

from ..config import Resolved, load, load_text
from ..tracking import tell
from ..training import checkpoint, checkpoint_folder, initial_weights
from ..training.checkpoint import Checkpoint, CheckpointError
from ..training.prepared import Prepared
from ..training.run_folder import CHECKPOINTS, CONFIG_FILE
from .errors import UseError

BEST, LAST, AVERAGED = "best", "last", "averaged"
WHICH = (BEST, LAST, AVERAGED)


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


def of_run(run: Path, which: str = LAST, overrides: Iterable[str] = ()) -> Trained:
    """The best (by validation accuracy), the last or the averaged weights of a run folder.

    Raises:
        UseError: no run folder, or without what is asked for.
        CheckpointError: a damaged checkpoint.
        ConfigError: overrides that do not fit.
    """
    if not run.is_dir():
        raise UseError(f"{run}: there is no such folder; --run takes the folder of a run, such as runs/mine")
    if checkpoint_folder.is_checkpoint(run):
        return of_checkpoint(run, which, overrides)
    folder = run / CHECKPOINTS
    if not checkpoint_folder.list_checkpoints(folder):
        raise UseError(f"{run}: holds no checkpoint; --run takes the folder of a run that has saved one")
    if which == BEST:
        path = checkpoint_folder.best(folder)
        if path is None:
            raise UseError(f"{run}: none of its checkpoints was validated, so none is known to be the best")
        return _of(path, checkpoint.load(path), which, overrides)
    found, skipped = checkpoint.newest_sound(folder)
    for message in skipped:
        tell(f"Skipped: {message}")
    if found is None:
        raise UseError(f"{run}: none of its checkpoints can be read")
    return _of(*found, which, overrides)


def of_checkpoint(
    path: Path,
    which: str = LAST,
    overrides: Iterable[str] = (),
    config: Optional[str] = None,
) -> Trained:
    """The weights of one checkpoint, or of a file with a state dict.

    Args:
        path: a folder ``step_...``, the ``weights.safetensors`` in it, or another file (.safetensors, .pth).
        which: ``averaged`` for the average that a checkpoint holds.
        config: the configuration of the network in a file that is part of no checkpoint.

    Raises:
        UseError: nothing there, or a file without a configuration.
        CheckpointError, ConfigError: see :func:`of_run`.
    """
    if not path.exists():
        raise UseError(f"{path}: there is no such checkpoint or file of weights")
    folder = path.parent if path.is_file() and path.name == checkpoint.WEIGHTS else path
    if folder.is_dir():
        if not checkpoint_folder.is_checkpoint(folder):
            if (folder / CHECKPOINTS).is_dir():
                return of_run(folder, which, overrides)
            if folder == path:
                raise UseError(
                    f"{path}: is no checkpoint; one is a folder step_... in the {CHECKPOINTS}/ of a run"
                )
        else:
            return _of(folder, checkpoint.load(folder), which, overrides)
    if config is None:
        raise UseError(
            f"{path}: the file tells no configuration; add --config X, that of the network whose weights it holds"
        )
    if which != LAST:
        raise UseError(f"{path}: a file has one set of weights; {which} is for runs and checkpoints")
    resolved = load(config, [*overrides, f"model.weights={path}"])
    return Trained(resolved, None, None, f"weights of {path}")


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
    return Trained(resolved, weights, prepared, f"{which} weights of {path}", saved.state.get("step"))


def _configuration(
    path: Path, saved: Checkpoint, overrides: Iterable[str], prepared: Optional[Prepared]
) -> Resolved:
    """The run's own configuration; the classifier keeps its size whatever images it is asked about."""
    place = path / CONFIG_FILE
    if not saved.config:
        raise CheckpointError(f"{place}: is empty; the network cannot be known without it")
    overrides = list(overrides)
    fixed: List[str] = ["checkpoint.resume=null", "run_dir=null"]
    other_source = any(override.partition("=")[0].strip() == "data.name" for override in overrides)
    text = _without_data(saved.config) if other_source else saved.config
    resolved = load_text(text, place, [*fixed, *overrides])
    if prepared is not None and resolved.config.model.num_classes is None:
        resolved = resolved.changed([f"model.num_classes={len(prepared.class_names)}"])
    return resolved


def _without_data(text: str) -> str:
    """A resolved configuration without its section data: another source has other keys."""
    return re.sub(r"^data:.*\n(?:[ \t#-].*\n|\n)*", "", text, flags=re.MULTILINE)


def chosen(
    run: Optional[Path],
    path: Optional[str],
    which: Optional[str],
    overrides: Iterable[str],
    config: Optional[str] = None,
) -> Trained:
    """What a command line asks for; ``--run DIR --checkpoint best`` says the same as ``--run DIR --weights best``.

    Raises:
        UseError: neither a run nor a checkpoint, or both.
    """
    if run is not None and path in WHICH:
        path, which = None, path
    if (run is None) == (path is None):
        raise UseError("name a run with --run DIR, or weights with --checkpoint FILE" + _both(run, path))
    if run is not None:
        if config is not None:
            raise UseError("--config is for files of weights; a run has its own configuration")
        return of_run(run, which or LAST, overrides)
    return of_checkpoint(Path(str(path)).expanduser(), which or LAST, overrides, config)


def _both(run: Optional[Path], path: Optional[str]) -> str:
    return "" if run is None else f", not both (--run {run} and --checkpoint {path})"


def split_words(words: Iterable[str]) -> Tuple[List[str], List[str]]:
    """Free words of a command line: overrides (``section.key=value``), and the others."""
    overrides: List[str] = []
    others: List[str] = []
    for word in words:
        key = word.partition("=")[0]
        is_override = "=" in word and not Path(word).exists() and "/" not in key
        (overrides if is_override else others).append(word)
    return overrides, others
