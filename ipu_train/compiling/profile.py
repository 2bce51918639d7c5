"""``device.profile``: a few weight updates of one replica under PopVision's reports, beside what the plan predicts."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch

from .. import device, planning
from ..assembly import assemble, example_batch
from ..config import Resolved
from ..planning.images import Images
from ..processes.alone import Processes
from ..tracking import tell
from .images import shape_of_images
from .reports import files_of, memory_of

STEPS = 3  # the first also moves the weights; Poplar's report holds the first two runs of a program


class Row(NamedTuple):
    """A quantity, as predicted and as measured; None where it was not measured."""

    name: str
    predicted: int
    measured: Optional[int]


class Profiled(Processes):
    """One process, whose programs Poplar reports on."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def options(self, poptorch: Any, ipus_per_replica: int, replicas: int) -> Any:
        options = super().options(poptorch, ipus_per_replica, replicas)
        options.enableProfiling(self.folder)
        options.modelName("training")
        return options.logCycleCount(True)


def one_replica(resolved: Resolved) -> Resolved:
    """The configuration with one replica and one weight update a call, and nothing that only several can do."""
    dev = resolved.config.device
    changes = ["training.replicas=1", "training.device_iterations=1", "validation.every_epochs=0"]
    changes += [
        "validation.micro_batch_size=null",
        "validation.device_iterations=null",
        "device.output_mode=sum",
    ]
    changes += [
        "device.output_every=null",
        "device.replicated_tensor_sharding=false",
        "model.norm_replicas=null",
    ]
    if dev.sync_pattern == "replica_and_ladder":
        changes.append("device.sync_pattern=full")
    if dev.io_tiles is not None and resolved.config.training.gradient_accumulation == 1:
        changes[1] = "training.device_iterations=2"  # something for the transfers to overlap with
    if resolved.config.logging.inspect_every is not None:
        changes.append("logging.inspect_every=null")
    return resolved.changed(changes)


def profile(resolved: Resolved) -> int:
    """Run :data:`STEPS` calls, say where the reports are and how they compare with the plan; gives exit status 0.

    Raises:
        DeviceError: it cannot be profiled.
        DoesNotFit: the emulator is asked for a program that no IPU could hold.
    """
    folder = resolved.config.device.profile
    assert folder is not None
    resolved = planning.with_splits(one_replica(resolved))
    config = resolved.config
    poptorch, running_on = device.choose(config)
    emulated = device.is_emulated(poptorch)
    images = shape_of_images(resolved)
    report = planning.predict(resolved, Images(images.channels, images.image_size, images.num_classes))
    if emulated and not report.may_fit and not config.device.allow_out_of_memory:
        raise planning.refuse(report, resolved)
    tell(f"{resolved.name}: profile of one replica on {len(report.ipus)} IPU(s), {running_on}")
    tell(f"  images {images.note}")
    process = Profiled(folder)
    run = assemble(resolved, poptorch, images, process)
    batch = _batch(example_batch(config, images, process), images.num_classes, config.training.seed)
    with device.errors_of(poptorch, "training"):
        run.training_model.compile(*batch)
    for _ in range(STEPS):
        run.training_model(*batch)
    cycles = run.training_model.cycleCount()
    run.training_model.destroy()  # Poplar writes its reports
    memory, why = memory_of(folder)
    for line in described(compared(report, cycles, memory, config.training.device_iterations), emulated):
        tell(line)
    _tell_files(folder, emulated, why)
    return 0


def _batch(example: List[torch.Tensor], classes: int, seed: int) -> List[torch.Tensor]:
    """Noise in the place of zeros, so that no norm divides by nothing."""
    generator = torch.Generator().manual_seed(seed)
    example[0] = torch.randint(0, 256, example[0].shape, dtype=torch.uint8, generator=generator)
    example[1] = torch.randint(0, classes, example[1].shape, generator=generator)
    return example


def compared(report: Any, cycles: int, memory: Dict[str, int], updates: int) -> List[Row]:
    """Predicted beside measured: cycles of a weight update, bytes of all IPUs and of the fullest tile."""
    predicted = round(report.throughput.step_seconds * report.target.clock_hz)
    return [
        Row("cycles of a weight update", predicted, cycles // updates),
        Row("bytes, all IPUs", sum(ipu.memory.total_bytes for ipu in report.ipus), memory.get("total")),
        Row("bytes, fullest tile", report.worst_tile_bytes, memory.get("worst tile")),
    ]


def described(rows: List[Row], emulated: bool) -> List[str]:
    """The comparison as a table; the emulator's time is no measurement of an IPU and is not compared."""
    lines = [f"{'':28s}{'predicted':>16s}{'measured':>16s}{'ratio':>8s}"]
    for row in rows:
        measured: Tuple[str, str] = ("-", "")
        if row.measured is not None and not emulated:
            measured = (f"{row.measured:,}", f"{row.measured / max(1, row.predicted):.2f}")
        lines.append(f"{row.name:28s}{row.predicted:>16,}{measured[0]:>16s}{measured[1]:>8s}".rstrip())
    return lines


def _tell_files(folder: str, emulated: bool, why: str) -> None:
    if emulated:
        tell(
            f"no report in {folder}: the emulator has no cycles or tiles of its own; with the Poplar SDK there is one"
        )
        return
    for path in files_of(folder):
        tell(f"report  {path}")
    if why:
        tell(f"memory was not read: {why}")
