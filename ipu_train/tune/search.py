"""The search behind ``ipu-train tune``: what to change so that a configuration runs fastest within memory.

Micro-batch sizes are taken in rising order for each number of IPUs, each with the kinds of recomputation and the best
pipeline splits, until nothing comes near to fitting any more; then the available memory proportion of the best ones is
varied. Here is what the processes do of it; ``rounds`` deals it out.
"""

import contextlib
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..config import ConfigError, Resolved
from ..ipumodel.report import Report
from ..planning import predict, settings_of
from ..planning.settle import splits_override, splitter_of
from ..planning.splits import Solution, Splitter
from ..planning.traces import Traces
from .space import Space, replicas_for

PROPORTIONS = (0.1, 0.2, 0.4, 0.6)
_TRACED = 3  # micro-batch sizes: 1, and two from which traces of all others follow
_VARIED = 3  # choices whose available memory proportion is varied
# Sizes that share out evenly among tiles need less than somewhat smaller ones: up to 9 % less in the recipes' networks.
_FALLS = 0.1


class Choice(NamedTuple):
    """One way to run the configuration, and its prediction. Bytes are of the fullest IPU.

    ``near``: it fits, or a larger micro-batch still may.
    """

    overrides: Tuple[str, ...]
    ipus_per_replica: int
    replicas: int
    micro_batch_size: int
    gradient_accumulation: int
    recompute: str
    available_memory_proportion: str
    splits: Tuple[str, ...]
    total_bytes: int
    worst_tile_bytes: int
    bytes_per_tile: int
    images_per_second: float
    fits: bool
    near: bool
    categories_bytes: Tuple[Tuple[str, int], ...] = ()

    @property
    def images_per_second_per_ipu(self) -> float:
        return self.images_per_second / (self.ipus_per_replica * self.replicas)

    @property
    def quality(self) -> Tuple[bool, float, int]:
        """Larger is better: fits with the head-room, images/s, fewer bytes."""
        return (self.fits, self.images_per_second, -self.worst_tile_bytes)


def choice(resolved: Resolved, report: Report, headroom: float, overrides: Sequence[str] = ()) -> Choice:
    """A configuration and its plan as one line of the comparison."""
    config = resolved.config
    shares = config.device.available_memory_proportion
    allowed = report.target.bytes_per_tile * (1 - headroom)
    return Choice(
        tuple(overrides),
        len(report.ipus),
        config.training.replicas,
        config.training.micro_batch_size,
        config.training.gradient_accumulation,
        report.recompute + _checkpoints_named(config.device.recompute_checkpoints),
        "default" if shares is None else ", ".join(f"{share:g}" for share in shares),
        tuple(config.device.pipeline_splits),
        report.total_bytes,
        report.worst_tile_bytes,
        report.target.bytes_per_tile,
        report.images_per_second,
        report.worst_tile_bytes <= allowed,
        report.worst_tile_bytes * (1 - _FALLS) <= allowed,
        tuple(max(report.ipus, key=lambda ipu: ipu.memory.worst_tile_bytes).memory.categories.items()),
    )


def _checkpoints_named(names: Sequence[str]) -> str:
    return f" ({len(names)})" if names else ""


def micro_batch_sizes(space: Space, replicas: int) -> List[int]:
    """Sizes that divide a replica's share of the global batch, rising.

    Batch Norm trains differently at another micro-batch; its configurations only go up from their own size. Mixup and
    CutMix want two images.
    """
    whole = space.base.config.global_batch_size
    if whole % replicas:
        return []
    share = whole // replicas
    training = space.base.config.training
    mixes = (
        training.mixup_alpha > 0 or training.cutmix_lambda < 1
    )  # the images of a micro-batch with one another
    least = (2 if mixes else 1) if space.batch_independent else training.micro_batch_size
    return [size for size in range(least, share + 1) if share % size == 0]


def first_sizes(space: Space, ipus: Sequence[int]) -> List[Resolved]:
    """The configuration at the micro-batch sizes from which traces of all others follow, at its global batch."""
    sizes = {
        size: count
        for count in ipus
        for size in micro_batch_sizes(space, replicas_for(space, count))[:_TRACED]
    }
    found = []
    for size in sorted(sizes)[:_TRACED]:
        with contextlib.suppress(ConfigError):  # the search says why, where no other size is allowed
            found.append(space.base.changed(_shape(space, size, sizes[size])))
    return found


def rising_sizes(space: Space, ipus: int) -> List[int]:
    """Micro-batch sizes to look at on so many IPUs a replica, rising; none where the global batch forbids it."""
    replicas = replicas_for(space, ipus)
    share = space.base.config.global_batch_size // replicas
    # a pipeline must be filled by one weight update
    return [size for size in micro_batch_sizes(space, replicas) if ipus == 1 or share // size >= 2 * ipus - 1]


class AtSize(NamedTuple):
    """The choices of a micro-batch size on each number of IPUs a replica, and why there are none on one of them."""

    choices: Dict[int, List[Choice]]
    refused: Optional[ConfigError]


def at_size(traces: Traces, space: Space, size: int, ipus: Sequence[int]) -> AtSize:
    """The choices of a micro-batch size on each of these numbers of IPUs a replica, fitting or not.

    None where the configuration does not allow them: options want a pipeline, or none, or several micro-batches in a
    weight update. One process looks at all of a size: they share the plans of its convolutions.
    """
    found: Dict[int, List[Choice]] = {}
    refused = None
    for count in ipus:
        try:
            found[count] = _recomputations(traces, space, _shape(space, size, count), count)
        except ConfigError as error:
            found[count], refused = [], error
    return AtSize(found, refused)


def _shape(space: Space, size: int, ipus: int) -> List[str]:
    """A micro-batch size on so many IPUs a replica, at the global batch of the configuration."""
    replicas = replicas_for(space, ipus)
    share = space.base.config.global_batch_size // replicas
    return [
        f"training.micro_batch_size={size}",
        f"training.gradient_accumulation={share // size}",
        f"training.replicas={replicas}",
    ]


def to_vary(choices: Sequence[Choice]) -> List[Choice]:
    """The best choices that fit: those whose available memory proportion is varied."""
    return sorted((one for one in choices if one.fits), key=lambda one: one.quality, reverse=True)[:_VARIED]


def varied(traces: Traces, space: Space, choices: Sequence[Choice]) -> List[List[Choice]]:
    """Each choice with other available memory proportions, in the order of ``PROPORTIONS``.

    The largest is looked at first: most plans of convolutions stay the same within less.
    """
    falling = sorted(PROPORTIONS, reverse=True)
    found = [
        {
            share: _at(traces, space, [*one.overrides, f"device.available_memory_proportion={share}"])
            for share in falling
        }
        for one in choices
    ]
    return [[of_share[share] for share in PROPORTIONS] for of_share in found]


def _recomputations(traces: Traces, space: Space, shape: List[str], ipus: int) -> List[Choice]:
    """The kinds of recomputation from fast to lean; where the fastest fits on one IPU, no other is looked at."""
    share = _single_share(space.base)
    pipelined = space.base.config.device.sync_pattern == "single_pipeline"
    alone = ["device.sync_pattern=full"] if pipelined else []
    uncut = [*shape, "device.pipeline_splits=[]", "device.ipus_per_replica=null", *share, *alone]
    plain = splitter_of(
        space.base.changed([*uncut, "device.recompute=none", _no_checkpoints()]), traces=traces
    )
    blocks = block_names(plain)
    kinds = [["device.recompute=none", _no_checkpoints()]]
    if ipus > 1:
        kinds.append(["device.recompute=pipeline", _no_checkpoints()])
    for every in (1, 2) if len(blocks) > 2 else ():
        kept = ", ".join(blocks[every - 1 : -1 : every])
        kinds.append(["device.recompute=checkpoints", f"device.recompute_checkpoints=[{kept}]"])
    if ipus == 1:
        kinds.append(["device.recompute=standard", _no_checkpoints()])
    found: List[Choice] = []
    for kind in kinds:
        solution = _solution(traces, space, [*uncut, *kind], ipus)
        if solution is None:
            return found
        splits = splits_override(solution.splits)
        whole = alone if ipus == 1 else []
        changes = [*shape, "device.ipus_per_replica=null", *share, *whole, *kind, splits]
        found.append(_at(traces, space, changes, solution.report))
        if ipus == 1 and found and found[-1].fits:
            break
    return found


def _no_checkpoints() -> str:
    return "device.recompute_checkpoints=[]"


def _single_share(base: Resolved) -> List[str]:
    shares = base.config.device.available_memory_proportion
    return (
        [f"device.available_memory_proportion={shares[0]}"] if shares is not None and len(shares) > 1 else []
    )


def _solution(traces: Traces, space: Space, overrides: List[str], ipus: int) -> Optional[Solution]:
    splitter = splitter_of(space.base.changed(overrides), traces=traces, headroom=space.headroom)
    return splitter.solve(ipus)


def _at(traces: Traces, space: Space, overrides: List[str], report: Optional[Report] = None) -> Choice:
    """The choice of these overrides; ``report`` is the plan that its splits were found by."""
    resolved = space.base.changed(overrides)
    if report is None or report.settings != settings_of(resolved):
        report = predict(resolved, traces=traces)
    return choice(resolved, report, space.headroom, overrides)


def block_names(splitter: Splitter) -> List[str]:
    """The blocks of the network in order (``layer1.0``): where checkpoints of recomputation are placed."""
    return [cut.name for cut in splitter.cuts if re.fullmatch(r"[^.]+\.\d+", cut.name)]


def ranked(choices: Sequence[Choice]) -> List[Choice]:
    """Best first; of choices that run alike only one."""
    distinct: Dict[Any, Choice] = {}
    for one in choices:
        key = one._replace(overrides=(), available_memory_proportion="")
        distinct.setdefault(key, one)
    return sorted(distinct.values(), key=lambda one: one.quality, reverse=True)
