"""Taking up a run again: which checkpoint, and whether what follows is that of an uninterrupted run, bit for bit."""

import hashlib
import platform
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch

from .._version import __version__
from ..config import ConfigError, Resolved
from ..data import DataSource
from ..tracking import tell
from . import checkpoint, run_state
from .assembly import Assembly
from .checkpoint import Checkpoint, CheckpointError
from .checkpoint_folder import step_of
from .recipe_changes import Changes, changes_since
from .run_folder import Place
from .run_state import Position, SavedState


class TakenUp(NamedTuple):
    """A run that goes on.

    Attributes:
        state: of its checkpoint.
        metrics: its lines so far.
        longer: whether it trains for other epochs than before.
    """

    state: SavedState
    metrics: bytes
    longer: bool


class Calls(NamedTuple):
    """How weight updates, calls and epochs of a run hang together."""

    per_epoch: int
    steps: int

    def match(self, position: Position) -> bool:
        """Whether a run can be at ``position``."""
        step = (position.epoch * self.per_epoch + position.call) * self.steps
        return position.call < self.per_epoch and position.step == step


def environment(running_on: str, fused: bool, source: DataSource, processes: int = 1) -> Dict[str, Any]:
    """What the bits of a run depend on beside its configuration.

    Args:
        running_on: the device, in words.
        fused: whether micro-batches are computed together.
        source: of the images: how many, their labels, and what their pixels come from.
        processes: that train together.
    """
    of_pixels = {"pixels": source.pixels} if source.pixels else {}
    labels = hashlib.sha256(source.train.labels.tobytes()).hexdigest()[:12]
    return {
        "ipu-train": __version__,
        "torch": torch.__version__,
        "device": running_on,
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "fused micro-batches": fused,
        "processes": processes,
        "training images": f"{len(source.train):,} with labels {labels}",
        **of_pixels,
    }


def _processor() -> str:
    capability = (
        getattr(torch.backends.cpu, "get_cpu_capability", None) if hasattr(torch.backends, "cpu") else None
    )
    return f"{platform.machine()} {capability()}" if capability is not None else platform.machine()


def take_up(
    run: Assembly,
    where: Place,
    resolved: Resolved,
    calls: Calls,
    now: Dict[str, Any],
    class_names: Sequence[str] = (),
) -> Optional[TakenUp]:
    """Put the newest sound checkpoint into a compiled run and say what was skipped; None where there is none.

    Args:
        run: compiled.
        where: the run folder, and its checkpoints.
        resolved: the configuration.
        calls: of the data as it is.
        now: see :func:`environment`.
        class_names: of the data, by label; none where they have no names.

    Raises:
        CheckpointError: there are checkpoints, and none can be used.
    """
    skipped: List[str] = []
    for path in where.candidates:
        try:
            saved = _loaded(run, path)
            changed = _check(path, saved, resolved)
            state = _state_of(path, saved, calls, class_names)
            run_state.restore(run, saved)
        except (CheckpointError, ConfigError) as error:
            skipped.append(str(error) if str(path) in str(error) else f"The checkpoint {path}: {error}")
            continue
        for message in skipped:
            tell(f"Skipped: {message}")
        otherwise = run_state.computed_otherwise_since(saved, resolved.config)
        epochs = resolved.config.training.epochs
        done = state.position.epoch >= epochs and not state.position.unvalidated
        tell(
            _how_exact(state, changed, now, otherwise)
            + f"; all {epochs} epochs are done, nothing is left to train" * done
        )
        return TakenUp(state, saved.metrics, bool(changed.longer))
    if skipped:
        raise CheckpointError(
            "No checkpoint of the run can be used:\n  "
            + "\n  ".join(skipped)
            + "\nStart anew in another folder (run_dir=PATH), from weights that are whole: model.weights=PATH."
        )
    return None


def _loaded(run: Assembly, path: Path) -> Checkpoint:
    """The checkpoint, which only the first of several processes reads.

    Raises:
        CheckpointError: it cannot be read.
    """

    def load() -> Tuple[Optional[Checkpoint], str]:
        try:
            return checkpoint.load(path), ""
        except CheckpointError as error:
            return None, str(error)

    saved, reason = run.processes.first(load)
    if saved is None:
        raise CheckpointError(reason)
    return saved


def _check(path: Path, saved: Checkpoint, resolved: Resolved) -> Changes:
    changed = changes_since(saved.config, resolved)
    if changed.refused:
        raise CheckpointError(
            f"The checkpoint {path} is of another configuration: {'; '.join(changed.refused)}"
        )
    return changed


def _state_of(path: Path, saved: Checkpoint, calls: Calls, class_names: Sequence[str]) -> SavedState:
    state = run_state.read_state(saved.state)
    if state.step != step_of(path):
        raise CheckpointError(f"The checkpoint {path} is of step {state.step}")
    if not calls.match(state.position):
        raise CheckpointError(
            f"The checkpoint {path} is of {state.epoch} epochs and {state.call} calls at step {state.step}, and an "
            f"epoch of this run has {calls.per_epoch} calls of {calls.steps}: the data has another size"
        )
    before = state.images.get("class_names") or class_names
    if list(before) != list(class_names):
        raise CheckpointError(
            f"The checkpoint {path} is of other classes: {_first_other(before, class_names)}"
        )
    return state


def _first_other(before: Sequence[str], now: Sequence[str]) -> str:
    """Where two lists of class names part."""
    number = next(
        (i for i, pair in enumerate(zip(before, now)) if pair[0] != pair[1]), min(len(before), len(now))
    )
    names = [repr(names[number]) if number < len(names) else "none" for names in (before, now)]
    return f"class {number} was {names[0]} and is {names[1]} in the data"


def _how_exact(
    state: SavedState, changed: Changes, now: Dict[str, Any], otherwise: Sequence[str] = ()
) -> str:
    """A line that says from where the run goes on, and what it has in common with an uninterrupted one."""
    before = state.environment
    reasons = [
        f"{name}: {before.get(name, 'not known')} -> {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    reasons += [*changed.inexact, *otherwise]
    verdict = f"same recipe, not bit-exact, because {'; '.join(reasons)}" if reasons else "exact"
    longer = f" ({'; '.join(changed.longer)})" if changed.longer else ""
    return f"Resumed at step {state.step}: {verdict}{longer}"
