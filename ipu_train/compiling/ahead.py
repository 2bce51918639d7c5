"""``ipu-train compile``: both programs of a training, compiled into the executable cache without an IPU.

PopTorch's offline target attaches to no device (``useOfflineIpuTarget``), and its executable cache knows a program by
its graph and options: the training finds it there, and no IPU waits for a compiler.
"""

import importlib
import os
import time
from pathlib import Path
from typing import Any, Iterable, List, NamedTuple

import torch

from .. import device
from ..assembly import assemble, example_batch
from ..config import Resolved
from ..processes.alone import Processes
from ..training.validation import images_per_call
from . import refusals
from .errors import CompileError
from .images import shape_of_images

# PopTorch's numbers; a Bow runs the programs of a Mk2
IPU_VERSIONS = {"mk1": 1, "mk2": 2, "bow": 2}


class Compiled(NamedTuple):
    """Seconds of each program, new files of the cache and how many it had, whether an SDK compiled them, for which
    images."""

    seconds: List[Any]
    files: List[Path]
    known: int
    by_sdk: bool
    note: str


class OfflineInstance(Processes):
    """The first of ``count`` processes, with an offline target in the place of its IPUs."""

    def __init__(self, count: int, ipu_version: int) -> None:
        self.count, self.ipu_version = count, ipu_version

    def options(self, poptorch: Any, ipus_per_replica: int, replicas: int) -> Any:
        options = poptorch.Options()
        options.replicationFactor(self.local(replicas))
        if self.count > 1:
            options.Distributed.configureProcessId(0, self.count)
        return options.useOfflineIpuTarget(self.ipu_version)


def compile_ahead(resolved: Resolved, instances: int = 1) -> Compiled:
    """Compile the training program and, where there is validation, its program.

    Args:
        resolved: the configuration, with pipeline splits as names.
        instances: processes that will train it.

    Raises:
        CompileError: for a simulated device, or in numbers that do not divide the replicas.
        DeviceError: PopTorch refuses a program, or the emulator has no GPU to compute on.
    """
    config = resolved.config
    refusals.check(resolved, instances)
    emulated = device.will_be_emulated(resolved)
    if not emulated and os.environ.get("POPTORCH_IPU_MODEL", "0") not in ("", "0"):
        raise CompileError("POPTORCH_IPU_MODEL is set, which simulates IPUs: unset it to compile for IPUs")
    if emulated:
        device.check_gpu(config)
    poptorch = importlib.import_module("ipu_train.emulator" if emulated else "poptorch")
    images = shape_of_images(resolved)
    cache = config.device.executable_cache
    before = set(_files(cache))
    process = OfflineInstance(instances, IPU_VERSIONS[config.device.chip])
    run = assemble(resolved, poptorch, images, process)
    seconds = []
    started = time.perf_counter()
    with device.errors_of(poptorch, "training"):
        run.training_model.compile(*example_batch(config, images, process))
    seconds.append(("training", time.perf_counter() - started))
    if config.validation.every_epochs:
        count = images_per_call(config) // instances
        shape = (count, images.channels, images.image_size, images.image_size)
        started = time.perf_counter()
        run.validation_model.model.eval()
        with device.errors_of(poptorch, "validation"):
            run.validation_model.compile(
                torch.zeros(shape, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
            )
        seconds.append(("validation", time.perf_counter() - started))
    new = sorted(set(_files(cache)) - before)
    return Compiled(seconds, new, len(before), not emulated, images.note)


def _files(folder: Any) -> Iterable[Path]:
    if folder is None:
        return
    for path in Path(os.path.expanduser(folder)).rglob("*"):
        if path.is_file() and path.suffix != ".lock":  # by which processes compile one after the other
            yield path
