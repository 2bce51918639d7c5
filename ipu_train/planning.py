"""From a configuration to a prediction of memory and cycles, before anything runs."""

import math
import os
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from .config import Resolved
from .config.data import Generated, ImageFolder, Synthetic
from .ipumodel.planner import plan
from .ipumodel.report import Report
from .ipumodel.settings import Settings
from .ipumodel.target import Target
from .traces import Traces

# (channels, side in pixels, classes) of sources whose images need not be there to plan for them
_IMAGES = {
    "digits": (1, 8, 10),
    "cifar10": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "fashion_mnist": (1, 28, 10),
}
_FOLDER_CLASSES = 1000  # ImageNet's, for an imagefolder that is not on this machine


class DoesNotFit(ValueError):
    """The program does not fit in the memory of the IPUs; the message says by how much and what would help."""

    exit_status = 3


class Images(NamedTuple):
    """What a plan must know of the data."""

    channels: int
    size: int
    classes: int


def images_of(resolved: Resolved) -> Images:
    """Shape and number of classes of the configured images, without opening them where that can be known."""
    data = resolved.config.data
    if isinstance(data, (Generated, Synthetic)):
        return Images(data.channels, data.image_size, data.num_classes)
    if isinstance(data, ImageFolder):
        return Images(3, data.side, _classes_in(data.path) or _FOLDER_CLASSES)
    channels, size, classes = _IMAGES[data.name]
    return Images(channels, data.image_size or size, classes)


def _classes_in(path: Optional[str]) -> int:
    """Number of class folders of an imagefolder, 0 when it is not here."""
    if path is None or not os.path.isdir(path):
        return 0
    for root in (os.path.join(path, "train"), path):
        if os.path.isdir(root):
            return sum(1 for entry in os.scandir(root) if entry.is_dir())
    return 0


def settings_of(resolved: Resolved) -> Settings:
    """The run's settings in the IPU model's words."""
    config = resolved.config
    device, optimizer, training = config.device, config.optimizer, config.training
    kind = optimizer.name
    if kind == "sgd":
        kind = "sgd_combined" if optimizer.use_combined_accum else "momentum" if optimizer.momentum else "sgd"
    elif kind == "lars":  # updates on the host; the device keeps no state
        kind = "sgd"
    proportion = device.available_memory_proportion
    return Settings(
        precision=training.precision,
        optimizer=kind,
        gradient_accumulation=training.gradient_accumulation,
        replicas=training.replicas,
        recompute=device.recompute,
        checkpoints=tuple(device.recompute_checkpoints),
        available_memory_proportion=0.6 if proportion is None else tuple(proportion),
        half_partials=device.partials == "half",
        optimizer_offload=device.optimizer_offload,
        replicated_tensor_sharding=device.replicated_tensor_sharding,
        input_bytes_per_element=1,  # images travel as bytes
        stochastic_rounding=training.stochastic_rounding,
    )


def predict(resolved: Resolved, images: Optional[Images] = None, traces: Optional[Traces] = None) -> Report:
    """Memory and cycles of one training step of a configuration, on the chip ``device.chip``.

    Args:
        resolved: the configuration.
        images: shape of the images, where it is known better than the configuration tells.
        traces: of earlier predictions, so that a network is traced once for many.

    Raises:
        ConfigError: the model cannot be built, or a pipeline split names no module.
    """
    images = images or images_of(resolved)
    resolved = with_splits(resolved, images, traces)
    program = (traces or Traces()).program(resolved, images.channels, images.size, images.classes)
    return plan(program, Target.named(resolved.config.device.chip), settings_of(resolved))


def with_splits(
    resolved: Resolved, images: Optional[Images] = None, traces: Optional[Traces] = None
) -> Resolved:
    """The configuration with the best pipeline splits in the place of ``device.pipeline_splits: auto``.

    Raises:
        ConfigError: the model cannot be built, or not be split into ``device.ipus_per_replica`` stages.
    """
    from .tune.settle import settled  # plans, too

    return settled(resolved, images, traces)


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
    if device.recompute in (None, "none"):
        candidates.append(["device.recompute=standard"])
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


def describe(resolved: Resolved, report: Report) -> str:
    """The table of a plan under a line that says what was planned."""
    config = resolved.config
    model: Dict[str, object] = {
        "model": config.model.name,
        "norm": config.model.norm + ("+pn" if config.model.proxy_norm else ""),
        "global batch size": config.global_batch_size,
    }
    head = ", ".join(f"{key} {value}" for key, value in model.items())
    return f"{resolved.name}: {head}\n{report.table()}"
