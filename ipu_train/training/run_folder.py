"""The folder of a run: where it is, what is in it, and which one to go on with. No torch in here."""

import calendar
import contextlib
import math
import os
import shlex
import shutil
import time
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Tuple, Union

from .. import durable, places
from ..config import NAME_LINE, OVERRIDE, Resolved
from . import checkpoint_folder, run_lock
from .recipe_changes import refused_changes

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.jsonl"
PLAN_FILE = "plan.json"
CHECKPOINTS = "checkpoints"
_STAMP = "%Y-%m-%d_%H-%M-%S"

AUTO = "auto"  # go on where there is something, start where there is nothing
Resume = Union[bool, str]


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
        return self.path / CHECKPOINTS

    def newest_checkpoint(self) -> Optional[Path]:
        return checkpoint_folder.newest(self.checkpoints)


class Place(NamedTuple):
    """What a run will do with a folder, decided before anything is written.

    Attributes:
        folder: of the run.
        is_new: a run begins there; its configuration is written.
        candidates: checkpoints to go on from, the one to prefer first; none: begin at the beginning.
        note: what to tell about the choice.
        stamped: the folder's name is the time; where another run has taken it meanwhile, the next free one will do.
    """

    folder: RunFolder
    is_new: bool
    candidates: List[Path]
    note: str = ""
    stamped: bool = False


def place(resolved: Resolved, resume: Resume = False) -> Place:
    """The folder of a run and what to go on from; reads, and changes nothing.

    Args:
        resume: False: a new run. True: go on with ``checkpoint.resume``, the ``run_dir`` of an override, the run that
            the configuration file lies in, the file's ``run_dir``, or else this configuration's newest. "auto": the
            same, or a new run where there is none.

    Raises:
        RunFolderError: nothing to resume, a folder that holds another run, or a configuration that computes
            something else than the run did.
        LockedError: another process works in that folder.
    """
    config = resolved.config
    asked = config.checkpoint.resume
    if asked == AUTO:
        resume = resume or AUTO
    if asked is None and not resume:
        return _new(resolved)
    if asked in (None, "latest", AUTO):
        return _newest(resolved, resume)
    return _chosen(resolved, Path(os.path.expanduser(asked)))


def _new(resolved: Resolved) -> Place:
    chosen = resolved.config.run_dir
    if chosen is None:
        stamp = time.strftime(_STAMP, time.gmtime())
        return Place(RunFolder(_unused(parent_of_runs(resolved) / stamp)), True, [], stamped=True)
    folder = RunFolder(Path(os.path.expanduser(chosen)))
    run_lock.check(folder.path)
    _refuse_a_run(folder)
    _refuse_a_configuration(folder)
    _check_writable(folder.path)
    # a run that ended before its first checkpoint has nothing to lose
    return Place(folder, True, [])


def _newest(resolved: Resolved, resume: Resume) -> Place:
    """The run that was named by ``run_dir``, that the configuration file is part of, or that began last.

    A run's own file may name the folder that it lay in before it was moved or copied.
    """
    chosen = resolved.config.run_dir
    beside = resolved.source.parent
    named_now = resolved.origins.get("run_dir") == OVERRIDE
    if not named_now and resolved.source.name == CONFIG_FILE and (beside / CHECKPOINTS).is_dir():
        chosen = str(beside)
    if chosen is not None:
        runs = [Path(os.path.expanduser(chosen))]
    else:
        entries = parent_of_runs(resolved).glob("*/")  # before Python 3.11 files and links to nowhere, too
        runs = sorted((path for path in entries if path.is_dir()), key=_began, reverse=True)
    for path in runs:
        folder = RunFolder(path)
        if checkpoint_folder.to_go_on_from(folder.checkpoints):
            going_on = _going_on(resolved, folder)
            _refuse_fewer_epochs(folder, going_on.candidates, resolved)
            return going_on
    begun = next((RunFolder(path) for path in runs if _has_begun(RunFolder(path))), None)
    if begun is not None:
        run_lock.check(begun.path)
        _check_writable(begun.path)
        note = f"The run in {begun.path} ended before its first checkpoint: it begins again."
        return Place(begun, True, [], note)
    if resume == AUTO:
        return _new(resolved)._replace(note="Nothing to resume: a new run begins.")
    where = chosen if chosen is not None else str(parent_of_runs(resolved))
    without, auto = (
        ("--resume", "--resume auto") if resume else ("checkpoint.resume", "checkpoint.resume=auto")
    )
    raise RunFolderError(
        f"Nothing to resume: no checkpoint under {where}. Start the run without {without} (or always with {auto}), "
        "or name its folder with run_dir=PATH."
    )


def _going_on(resolved: Resolved, folder: RunFolder) -> Place:
    run_lock.check(folder.path)
    _check_writable(folder.path)
    _refuse_changes(folder, resolved)
    return Place(folder, False, checkpoint_folder.to_go_on_from(folder.checkpoints)[::-1])


def _chosen(resolved: Resolved, asked: Path) -> Place:
    """``checkpoint.resume``: a run folder, or one of its checkpoints; with another ``run_dir`` the run branches off."""
    if not asked.name.strip(".") or asked.parent == Path("."):  # from within the run, as "." or step_00001234
        asked = Path(os.path.abspath(str(asked)))
    single = checkpoint_folder.step_of(asked) is not None and asked.parent.name == CHECKPOINTS
    if single and not checkpoint_folder.is_checkpoint(asked):
        raise RunFolderError(f"Nothing to resume: checkpoint.resume is {asked}, and there is no checkpoint.")
    folder = RunFolder(asked.parent.parent if single else asked)
    candidates = [asked] if single else checkpoint_folder.list_checkpoints(folder.checkpoints)[::-1]
    if not candidates:
        inside = checkpoint_folder.list_checkpoints(asked)
        if inside and asked.name == CHECKPOINTS:
            raise RunFolderError(
                f"checkpoint.resume is {asked}, where all checkpoints of a run are: name the run, {asked.parent}, or "
                f"one of them, such as {inside[-1]}."
            )
        raise RunFolderError(f"Nothing to resume: no checkpoint under {asked} (checkpoint.resume).")
    chosen = resolved.config.run_dir
    if chosen is not None and Path(os.path.expanduser(chosen)).resolve() != folder.path.resolve():
        _refuse_changes(folder, resolved)
        _refuse_fewer_epochs(folder, candidates, resolved)
        _refuse_a_second_branch(RunFolder(Path(os.path.expanduser(chosen))))
        branch = _new(resolved)
        return branch._replace(candidates=candidates, note=f"The run branches off {folder.path}.")
    going_on = _going_on(resolved, folder)
    _refuse_fewer_epochs(folder, candidates, resolved)
    later = [path.name for path in going_on.candidates if single and path.name > asked.name]
    note = f"The run goes on from {asked.name}; {', '.join(sorted(later))} will be replaced." if later else ""
    return going_on._replace(candidates=candidates, note=note)


class Claim:
    """A run folder in the hands of this process: made, locked, tidied, with its configuration in it.

    Left by an exception before :attr:`has_begun`, a folder that was made here is removed again.

    Raises:
        RunFolderError: on entering, it cannot be made.
        LockedError: on entering, another process works there.
    """

    def __init__(self, where: Place, resolved: Resolved) -> None:
        self.place, self.folder, self.resolved = where, where.folder, resolved
        self.has_begun = False
        self._lock = run_lock.RunLock(where.folder.path)

    def __enter__(self) -> "Claim":
        self._made = _missing(self.folder.path)
        try:
            if self.place.stamped:
                self._make_own()
            self.folder.path.mkdir(parents=True, exist_ok=True)
            self._lock.__enter__()
            if self.place.is_new:
                _refuse_a_run(self.folder)  # it may have begun, and ended, since the folder was chosen
            self.folder.checkpoints.mkdir(exist_ok=True)
            checkpoint_folder.tidy(self.folder.checkpoints)
            for litter in self.folder.path.glob(".*.tmp"):
                litter.unlink()
            if self.place.is_new:
                self.write_config()
        except OSError as error:
            self._let_go()
            raise _cannot_make(self.folder.path, error) from error
        except RunFolderError:
            self._let_go()
            raise
        return self

    def _make_own(self) -> None:
        """Make the folder; jobs that start in the same second choose the same name, and each must have its own."""
        self.folder.path.parent.mkdir(parents=True, exist_ok=True)
        first = self.folder.path
        while True:
            try:
                self.folder.path.mkdir()
                break
            except FileExistsError:
                self.folder.path = _unused(first)
        self._made = [self.folder.path, *(path for path in self._made if path != first)]
        self._lock = run_lock.RunLock(self.folder.path)

    def write_config(self) -> None:
        """``config.yaml``, which goes on with this run rather than the one that it came from."""
        own = self.resolved
        if own.config.checkpoint.resume is not None:
            own = own.changed(["checkpoint.resume=null"])
        durable.write(self.folder.config, NAME_LINE.format(own.name) + own.dump())

    def put_back(self) -> None:
        """Make the folder again that somebody has deleted under the run."""
        self.folder.checkpoints.mkdir(parents=True, exist_ok=True)
        if not self.folder.config.exists():
            self.write_config()

    def __exit__(self, kind: Any, *exc_info: Any) -> None:
        if kind is not None and not self.has_begun:
            self._let_go()
        self._lock.release()

    def _let_go(self) -> None:
        """As if the folder had never been claimed."""
        if self.place.is_new and self.folder.newest_checkpoint() is None:
            self._remove_what_was_made()
        self._lock.release()

    def _remove_what_was_made(self) -> None:
        if self.folder.path in self._made:
            shutil.rmtree(self.folder.path, ignore_errors=True)
        for parent in self._made:
            with contextlib.suppress(OSError):  # gone already, or something else is in it by now
                parent.rmdir()


def go_on(folder: RunFolder) -> str:
    """What to tell about a run that can be taken up again."""
    return f"Go on with: ipu-train --config {shlex.quote(str(folder.config))} --resume"


def parent_of_runs(resolved: Resolved) -> Path:
    return Path("runs") / resolved.name


def _began(path: Path) -> Tuple[float, str]:
    """A sort key: when a run began, by its folder's name, or else by the configuration that it began with."""
    try:
        return calendar.timegm(time.strptime(path.name[:19], _STAMP)), path.name.zfill(40)
    except ValueError:
        file = path / CONFIG_FILE
        return os.path.getmtime(str(file if file.exists() else path)), path.name


def _refuse_a_run(folder: RunFolder) -> None:
    if checkpoint_folder.to_go_on_from(folder.checkpoints):
        raise RunFolderError(
            f"run_dir {folder.path} holds a run already: go on with it by adding --resume, or choose another folder."
        )


def _refuse_a_second_branch(folder: RunFolder) -> None:
    run_lock.check(folder.path)
    if checkpoint_folder.list_checkpoints(folder.checkpoints):
        raise RunFolderError(
            f"run_dir {folder.path} holds a run already, and checkpoint.resume is for a run that branches off there: "
            f"choose another folder, or leave checkpoint.resume out. {go_on(folder)}"
        )


def _has_begun(folder: RunFolder) -> bool:
    """Whether the configuration in a folder is there, and was written by a run."""
    try:
        with open(folder.config, encoding="utf-8", errors="replace") as file:
            return file.readline().startswith(NAME_LINE.partition("{}")[0])
    except OSError:
        return False


def _refuse_a_configuration(folder: RunFolder) -> None:
    """Somebody's own file of the name that a run's configuration has; a link is replaced, not followed."""
    if folder.config.is_file() and not folder.config.is_symlink() and not _has_begun(folder):
        raise RunFolderError(
            f"run_dir {folder.path} holds a {CONFIG_FILE} that no run has written, and the run would replace it: give "
            "that file another name, or choose another folder."
        )


def _unused(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}_{number}")
    return candidate


def _missing(path: Path) -> List[Path]:
    """The folders that making ``path`` would make, innermost first."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    return missing


def _check_writable(path: Path) -> None:
    """Refuse a folder that cannot be made or written before any work is done for it."""
    why = places.unwritable(path)
    if why is not None:
        raise RunFolderError(f"Cannot make the run folder {path}: {why}. Choose another with run_dir=PATH.")


def _cannot_make(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"Cannot make the run folder {path}: {error.strerror or error}. Choose another with run_dir=PATH."
    )


def _refuse_changes(folder: RunFolder, resolved: Resolved) -> None:
    if not folder.config.exists():  # each checkpoint has its own, which is looked at when it is read
        return
    changed = refused_changes(folder.config, resolved)
    if changed:
        raise RunFolderError(
            f"Cannot resume {folder.path}: the configuration computes something else than the run did.\n  "
            + "\n  ".join(changed)
            + f"\nUse the run's own configuration (--config {folder.config}), or start a new run."
        )


def _refuse_fewer_epochs(folder: RunFolder, candidates: List[Path], resolved: Resolved) -> None:
    """A run that has trained for longer than it is to train is no run of that length."""
    epochs = resolved.config.training.epochs
    for path in candidates:
        done = checkpoint_folder.epochs_of(path)
        if done is None:  # damaged, which is told when it is read
            continue
        if done > epochs:
            raise RunFolderError(
                f"Cannot resume {folder.path}: training.epochs is {epochs}, and at {path.name} the run has trained for "
                f"longer. Set it to {math.ceil(done)} or more, or go on from an earlier checkpoint with "
                "checkpoint.resume=PATH."
            )
        return
