"""``device.pipeline_splits: auto`` and ``list``: the one place where the words become names."""

from typing import List, Optional

from ..config import ConfigError, Resolved
from ..config.device import AUTO_SPLITS, LIST_SPLITS
from ..ipumodel.target import Target
from .images import Images, images_of
from .settings import question, settings_of
from .splits import Solution, Splitter
from .traces import Traces

SIZES = (1, 2, 4, 8, 16)  # IPUs of a replica that systems offer


def settled(resolved: Resolved, images: Optional[Images] = None, traces: Optional[Traces] = None) -> Resolved:
    """The configuration with names in the place of ``pipeline_splits: auto``; any other as it is.

    Without ``device.ipus_per_replica`` the fewest of 1, 2, 4, 8 and 16 IPUs are taken on which the program fits, or as
    many as the network can be split into where it fits on none of them.

    Raises:
        ConfigError: the model cannot be split into ``device.ipus_per_replica`` stages.
    """
    device = resolved.config.device
    if device.pipeline_splits == LIST_SPLITS:
        raise resolved.error(
            "device.pipeline_splits", "list only prints the split points; choose some of them"
        )
    if device.pipeline_splits != AUTO_SPLITS:
        return resolved
    images, traces = images or images_of(resolved), traces or Traces()
    splitter = splitter_of(resolved, images, traces)
    solution = _solve(splitter, [device.ipus_per_replica] if device.ipus_per_replica else list(SIZES))
    if solution is None:
        raise resolved.error(
            "device.ipus_per_replica",
            f"is {device.ipus_per_replica}, and the model can be split at {len(splitter.cuts)} places only",
        )
    found = resolved.changed([splits_override(solution.splits), "device.ipus_per_replica=null"])
    traces.settled = (question(found, images), solution.report)
    return found


# What belongs to a pipeline does not go with a network in one piece.
UNCUT = ("device.pipeline_splits=[]", "device.ipus_per_replica=null", "device.sync_pattern=full")


def check_filled(resolved: Resolved) -> None:
    """A training pipeline runs its stages forwards, and all but the last backwards again: each wants a micro-batch of
    the same weight update, or PopTorch refuses the program (its user guide, ``PipelinedExecution``).

    Raises:
        ConfigError: there are fewer.
    """
    config = resolved.config
    stages, accumulation = config.ipus_per_replica, config.training.gradient_accumulation
    if stages > 1 and accumulation < 2 * stages - 1:
        raise resolved.error(
            "training.gradient_accumulation",
            f"is {accumulation}, and a pipeline of {stages} IPUs is only filled by {2 * stages - 1} micro-batches or "
            "more in a weight update",
        )


def splits_override(splits: tuple) -> str:
    """``device.pipeline_splits=[...]``."""
    return f"device.pipeline_splits=[{', '.join(splits)}]"


def splitter_of(
    resolved: Resolved,
    images: Optional[Images] = None,
    traces: Optional[Traces] = None,
    headroom: float = 0.0,
) -> Splitter:
    """The network of a configuration, uncut, ready to be split."""
    images = images or images_of(resolved)
    whole = resolved.changed([*UNCUT, *_one_share(resolved)])
    program = (traces or Traces()).program(whole, images.channels, images.size, images.classes)
    return Splitter(program, settings_of(resolved), Target.named(resolved.config.device.chip), headroom)


def _one_share(resolved: Resolved) -> List[str]:
    """An available memory proportion for each of several IPUs does not go with one."""
    shares = resolved.config.device.available_memory_proportion
    return [] if shares is None or len(shares) == 1 else [f"device.available_memory_proportion={shares[0]}"]


def _solve(splitter: Splitter, sizes: List[int]) -> Optional[Solution]:
    best = None
    for size in sizes:
        solution = splitter.solve(size)
        if solution is None:
            break
        best = solution
        if splitter.fits(solution.report):
            break
    return best


def ipus_needed(resolved: Resolved, traces: Optional[Traces] = None) -> Optional[int]:
    """IPUs of one replica, of 1, 2, 4, 8 and 16, on which the micro-batch fits with the best splits; None for none.

    Pipelines that the configuration does not allow are passed over. A pipeline recomputes its stages, as PopTorch does
    unless told otherwise: keeping all activations of all micro-batches in flight would take more memory the longer it
    is.
    """
    if resolved.config.device.recompute in ("none", "standard"):
        resolved = resolved.changed(["device.recompute=null"])
    splitter = splitter_of(resolved, traces=traces)
    return next((size for size in SIZES if _allows(resolved, size) and splitter.can_fit(size)), None)


def _allows(resolved: Resolved, ipus: int) -> bool:
    """Whether a replica may take so many IPUs: options may be about networks in one piece alone."""
    if ipus == 1:
        return True
    changes = ["device.pipeline_splits=auto", f"device.ipus_per_replica={ipus}", *_one_share(resolved)]
    try:
        check_filled(resolved.changed(changes))
    except ConfigError:
        return False
    return True


def list_split_points(resolved: Resolved) -> str:
    """The legal split points of the model, one a line, for people and for copying into a configuration."""
    splitter = splitter_of(resolved.changed(["device.pipeline_splits=[]"]))
    lines = [
        f"{resolved.config.model.name}: a new IPU may begin at each of these {len(splitter.cuts)} modules"
    ]
    return "\n".join(lines + [f"  {cut.name}" for cut in splitter.cuts])
