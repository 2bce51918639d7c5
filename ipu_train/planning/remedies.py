"""What would help a program that does not fit: changes of its configuration, each with its predicted effect."""

import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

from ..config import Resolved
from ..ipumodel.report import Report
from .images import Images
from .prediction import predict
from .traces import Traces


class DoesNotFit(ValueError):
    """The program does not fit in the memory of the IPUs; the message says by how much and what would help."""

    exit_status = 3


class Remedy(NamedTuple):
    """A change of the configuration and the worst tile it would lead to, in bytes."""

    changes: Tuple[str, ...]
    worst_tile_bytes: int
    fits: bool
    images_per_second: float


def remedies(
    resolved: Resolved, report: Report, images: Optional[Images] = None, count: int = 3
) -> List[Remedy]:
    """The changes that would help memory most, best first, each with its predicted effect.

    ``report`` is that of the configuration as it is.
    """
    traces = Traces()
    found = [_smaller_batch(resolved, report, images, traces)]
    found += [_remedy(resolved, changes, images, traces) for changes in _candidates(resolved, report)]
    possible = [remedy for remedy in found if remedy is not None]
    return sorted(possible, key=lambda remedy: (not remedy.fits, remedy.worst_tile_bytes))[:count]


def _remedy(
    resolved: Resolved, changes: Sequence[str], images: Optional[Images], traces: Traces
) -> Optional[Remedy]:
    """The effect of the changes; None if this configuration does not allow them."""
    try:
        report = predict(resolved.changed(list(changes)), images, traces)
    except ValueError:
        return None
    return Remedy(tuple(changes), report.worst_tile_bytes, report.fits, report.images_per_second)


def _smaller_batch(
    resolved: Resolved, report: Report, images: Optional[Images], traces: Traces
) -> Optional[Remedy]:
    """A micro-batch that fits, at the same global batch; None if there is no smaller one.

    It is halved as often as the worst tile is too large, and again while that is not enough: weights and code do not
    shrink with it.
    """
    training = resolved.config.training
    whole = training.micro_batch_size * training.gradient_accumulation
    worst, size, remedy = report.worst_tile_bytes, training.micro_batch_size, None
    while size > 1 and not (remedy is not None and remedy.fits):
        most = max(1, size >> max(1, math.ceil(math.log2(worst / report.target.bytes_per_tile))))
        size = next(d for d in range(most, 0, -1) if whole % d == 0)
        changes = [f"training.micro_batch_size={size}", f"training.gradient_accumulation={whole // size}"]
        smaller = _remedy(resolved, changes, images, traces)
        if smaller is None:
            break
        worst, remedy = smaller.worst_tile_bytes, smaller
    return remedy


def _candidates(resolved: Resolved, report: Report) -> List[List[str]]:
    """Changes other than the micro-batch that may help."""
    training, device = resolved.config.training, resolved.config.device
    worst = max((ipu.memory for ipu in report.ipus), key=lambda memory: memory.worst_tile_bytes)
    candidates = []
    if len(report.ipus) == 1 and device.recompute in (None, "none", "pipeline"):
        candidates.append(["device.recompute=standard"])
    elif len(report.ipus) > 1 and device.recompute in ("none", "standard"):
        candidates.append(["device.recompute=pipeline"])
    if training.precision != "16.16":
        candidates.append([f"training.precision={'16.16' if training.precision == '16.32' else '16.32'}"])
    if not device.optimizer_offload:
        candidates.append(["device.optimizer_offload=true"])
    if device.partials == "float":
        candidates.append(["device.partials=half"])
    if training.replicas > 1 and not device.replicated_tensor_sharding:
        candidates.append(["device.replicated_tensor_sharding=true"])
    # A proportion bounds temporaries: where a tile is too small without them, planning for it is not worth its time.
    without = 1 - worst.categories["temporaries"] / worst.total_bytes
    if (
        device.available_memory_proportion is None
        and worst.worst_tile_bytes * without <= worst.bytes_per_tile
    ):
        candidates.append(["device.available_memory_proportion=0.2"])
    return candidates


def doubt(report: Report) -> str:
    """The warning for a program that is over the memory of a tile by no more than the model's error."""
    worst = max(report.ipus, key=lambda ipu: ipu.memory.worst_tile_bytes)
    return (
        f"IPU {worst.ipu} {report.verdict} (worst tile {worst.memory.worst_tile_bytes:,} bytes, a tile of "
        f"{report.target.name} has {report.target.bytes_per_tile:,}). A compilation for the IPU will tell; "
        "ipu-train plan shows what it consists of."
    )


def refuse(report: Report, resolved: Resolved, images: Optional[Images] = None) -> DoesNotFit:
    """The error for a program that does not fit, with the three changes that would help most."""
    worst = max(report.ipus, key=lambda ipu: ipu.memory.worst_tile_bytes)
    lines = [
        f"Out of memory: IPU {worst.ipu} needs {worst.memory.worst_tile_bytes:,} bytes on its worst tile, and a tile "
        f"of {report.target.name} has {report.target.bytes_per_tile:,}: {worst.memory.missing_bytes:,} too few "
        f"({worst.memory.total_bytes / 1e6:,.0f} MB over all tiles; most in the {worst.memory.moment.phase} of "
        f"{worst.memory.moment.layer or 'the network'}).",
        "What would help most:",
    ]
    for remedy in remedies(resolved, report, images):
        verdict = (
            "fits"
            if remedy.fits
            else f"still {remedy.worst_tile_bytes - report.target.bytes_per_tile:,} over"
        )
        lines.append(
            f"  {' '.join(remedy.changes)}: worst tile {remedy.worst_tile_bytes:,} bytes ({verdict}), "
            f"{remedy.images_per_second / report.images_per_second - 1:+.0%} images/s"
        )
    lines.append("To run all the same: device.allow_out_of_memory=true")
    return DoesNotFit("\n".join(lines))
