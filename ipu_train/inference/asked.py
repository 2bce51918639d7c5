"""Whose weights a command line asks for, as far as the file system tells. Imports no torch.

:func:`asked` refuses what is not there before anything is loaded; :mod:`.trained` loads what it has found.
"""

import os
import re
from pathlib import Path
from typing import Iterable, List, NamedTuple, Optional, Tuple

from ..config import ConfigError, Resolved, load, load_text, text_override
from ..training import checkpoint_folder, weights_file
from ..training.checkpoint_folder import WEIGHTS
from ..training.run_folder import CHECKPOINTS, CONFIG_FILE
from .errors import UseError

BEST, LAST, AVERAGED = "best", "last", "averaged"
WHICH = (BEST, LAST, AVERAGED)
_FIXED = ("checkpoint.resume=null", "run_dir=null")


class Asked(NamedTuple):
    """Where weights are, and which of them are asked for.

    Attributes:
        run: the run folder; None where a checkpoint or a file is named.
        checkpoint: the one that was named, or the best of the run; None: the newest sound one of the run.
        file: with a state dict, part of no checkpoint.
        which: one of ``WHICH``.
        overrides: of the configuration.
        config: of the network in ``file``.
    """

    run: Optional[Path]
    checkpoint: Optional[Path]
    file: Optional[Path]
    which: str
    overrides: Tuple[str, ...]
    config: str = ""


def asked(
    run: Optional[Path],
    path: Optional[str],
    which: Optional[str],
    overrides: Iterable[str],
    config: Optional[str] = None,
) -> Asked:
    """What a command line asks for; ``--run DIR --checkpoint best`` says the same as ``--run DIR --weights best``.

    Raises:
        UseError: neither a run nor a checkpoint, or both, or nothing there.
        ConfigError: overrides that the run's configuration does not take, or a configuration that cannot be used.
    """
    if run is not None and path in WHICH:
        path, which = None, path
    if (run is None) == (path is None):
        both = "" if run is None else f", not both (--run {run} and --checkpoint {path})"
        raise UseError("name a run with --run DIR, or weights with --checkpoint FILE" + both)
    if run is not None:
        if config is not None:
            raise UseError("--config is for files of weights; a run has its own configuration")
        return of_run(Path(os.path.expanduser(run)), which or LAST, overrides)
    return of_checkpoint(Path(os.path.expanduser(str(path))), which or LAST, overrides, config)


def of_run(run: Path, which: str = LAST, overrides: Iterable[str] = ()) -> Asked:
    """The best (by validation), the last or the averaged weights of a run folder.

    Raises:
        UseError: no run folder, or without what is asked for.
        ConfigError: overrides that do not fit.
    """
    if not run.is_dir():
        raise UseError(f"{run}: there is no such folder; --run takes the folder of a run, such as runs/mine")
    if checkpoint_folder.is_checkpoint(run):
        return of_checkpoint(run, which, overrides)
    found = checkpoint_folder.list_checkpoints(run / CHECKPOINTS)
    if not found:
        raise UseError(f"{run}: holds no checkpoint; --run takes the folder of a run that has saved one")
    best = None
    if which == BEST:
        best = checkpoint_folder.best(run / CHECKPOINTS)
        if best is None:
            raise UseError(f"{run}: none of its checkpoints was validated, so none is known to be the best")
    _refuse_overrides(best or found[-1], overrides)
    return Asked(run, best, None, which, tuple(overrides))


def of_checkpoint(
    path: Path, which: str = LAST, overrides: Iterable[str] = (), config: Optional[str] = None
) -> Asked:
    """The weights of one checkpoint, or of a file with a state dict.

    Args:
        path: a folder ``step_...``, the ``weights.safetensors`` in it, or another file (.safetensors, .pth).
        which: ``averaged`` for the average that a checkpoint holds.
        config: the configuration of the network in a file that is part of no checkpoint.

    Raises:
        UseError: nothing there, a file that holds no weights, or one without a configuration; a configuration, or the
            best, of a checkpoint.
        ConfigError: see :func:`of_run`.
    """
    if not path.exists():
        raise UseError(f"{path}: there is no such checkpoint or file of weights")
    folder = path.parent if path.is_file() and path.name == WEIGHTS else path
    if folder.is_dir() and config is not None:
        raise UseError(f"--config is for files of weights; {folder} has its own configuration")
    if folder.is_dir() and checkpoint_folder.is_checkpoint(folder):
        if which == BEST:
            raise UseError(
                f"{folder}: is one checkpoint; the best of several is asked of a run, with --run DIR"
            )
        _refuse_overrides(folder, overrides)
        return Asked(None, folder, None, which, tuple(overrides))
    if folder.is_dir() and (folder / CHECKPOINTS).is_dir():
        return of_run(folder, which, overrides)
    if folder == path and path.is_dir():
        raise UseError(f"{path}: is no checkpoint; one is a folder step_... in the {CHECKPOINTS}/ of a run")
    why = weights_file.problem(path)
    if why is not None:
        raise UseError(f"{path}: {why}")
    if config is None:
        raise UseError(
            f"{path}: the file tells no configuration; add --config X, that of the network whose weights it holds"
        )
    if which != LAST:
        raise UseError(f"{path}: a file has one set of weights; {which} is for runs and checkpoints")
    load(config, with_file(path, overrides))
    return Asked(None, None, path, which, tuple(overrides), config)


def with_file(path: Path, overrides: Iterable[str]) -> List[str]:
    """The overrides, and the file as ``model.weights``."""
    return [*overrides, text_override("model.weights", str(path))]


def configuration(text: str, place: Path, overrides: Iterable[str]) -> Resolved:
    """A checkpoint's configuration with changes; with another ``data.name`` its section data is left out.

    Raises:
        ConfigError: overrides that do not fit.
    """
    overrides = list(overrides)
    if any(override.partition("=")[0].strip() == "data.name" for override in overrides):
        text = _without_data(text)
    return load_text(text, place, [*_FIXED, *overrides])


def _refuse_overrides(folder: Path, overrides: Iterable[str]) -> None:
    """Changes that a checkpoint's configuration does not take. A damaged one is told of when it is read."""
    place = folder / CONFIG_FILE
    try:
        text = place.read_text(encoding="utf-8")
        configuration(text, place, [])
    except (OSError, ConfigError, UnicodeError):
        return
    configuration(text, place, overrides)


def _without_data(text: str) -> str:
    """A resolved configuration without its section data: another source has other keys."""
    return re.sub(r"^data:.*\n(?:[ \t#-].*\n|\n)*", "", text, flags=re.MULTILINE)
