"""Which changes of a configuration a run may be taken up again with, and which of them keep it exact."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from ..config import Resolved, load, load_text

# What a run does not compute with.
_OUTSIDE = (
    "logging.",
    "checkpoint.",
    "run_dir",
    "validation.",
    "data.workers",
    "data.path",
    "data.cache",
    "data.on_error",
    "data.most_skipped",
    "data.decoder",
)
_DIVERGENCE = ("training.on_divergence", "training.divergence_limit")
# The same mathematics in another order or precision of summation.
_SAME_RECIPE = ("device.",)
_SPREAD = ("training.gradient_accumulation", "training.replicas")
_RELATIVE_TO_THE_END = "the learning rate of schedule {} is relative to the end of the run"


class Changes(NamedTuple):
    """Differences between a run's configuration and the one to go on with, as lines for people.

    Attributes:
        refused: the run would compute something else.
        inexact: the same recipe, with other rounding.
        longer: the number of epochs, where the schedule does not depend on it.
    """

    refused: List[str]
    inexact: List[str]
    longer: List[str]


def changes(before: Dict[str, Any], now: Dict[str, Any]) -> Changes:
    """Compare two configurations as trees of plain values."""
    old, new = flat(before), flat(now)
    found = Changes([], [], [])
    for key in sorted(set(old) | set(new)):
        if old.get(key) == new.get(key) or key.startswith(_OUTSIDE) or key in _DIVERGENCE:
            continue
        line = f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        if key.startswith(_SAME_RECIPE) or (key in _SPREAD and _same_batch(old, new)):
            found.inexact.append(line)
        elif key == "training.epochs":
            reason = _depends_on_length(new)
            if reason:
                found.refused.append(f"{line} ({reason})")
            else:
                found.longer.append(line)
        else:
            found.refused.append(line)
    return found


def refused_changes(config: Path, resolved: Resolved) -> List[str]:
    """What keeps ``resolved`` from going on with the run whose configuration is the file ``config``."""
    return changes(load(str(config)).config.model_dump(), resolved.config.model_dump()).refused


def changes_since(config: str, resolved: Resolved) -> Changes:
    """The differences to the configuration that a checkpoint holds as YAML.

    Raises:
        ConfigError: it is none.
    """
    return changes(load_text(config, Path("config.yaml")).config.model_dump(), resolved.config.model_dump())


def _same_batch(old: Dict[str, Any], new: Dict[str, Any]) -> bool:
    """Whether a weight update sees the same micro-batches, spread otherwise over replicas and time."""
    if new.get("model.norm") == "sync_batch":
        return False
    products = [
        values["training.gradient_accumulation"] * values["training.replicas"] for values in (old, new)
    ]
    return products[0] == products[1]


def _depends_on_length(config: Dict[str, Any]) -> str:
    """Why a run of this configuration cannot be made longer, or nothing."""
    name = config["schedule.name"]
    if name == "cosine":
        return _RELATIVE_TO_THE_END.format(name)
    if name == "step" and any(milestone < 1 for milestone in config["schedule.milestones"] or []):
        return _RELATIVE_TO_THE_END.format("step with milestones below 1")
    return ""


def flat(tree: Dict[str, Any], prefix: str = "") -> Dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    leaves: Dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            leaves.update(flat(value, f"{prefix}{key}."))
        else:
            leaves[prefix + key] = value
    return leaves
