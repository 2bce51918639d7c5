"""How fast one core makes batches of a data set, and what of it costs how much."""

import time
from typing import Any, Callable, Dict, List, NamedTuple

import numpy as np
import torch

from .datasets import ImageDataset
from .files import FileImages
from .sampler import EpochSampler

_BATCH = 16


class Speed(NamedTuple):
    """What was measured over several rounds, in milliseconds of the processor for an image.

    Attributes:
        images: that were prepared.
        rounds: of each: reading, decoding with reading, everything.
        waiting: share of the time by the clock in which the processor did nothing for it: slow disks, busy machines.
    """

    images: int
    rounds: Dict[str, List[float]]
    waiting: float

    def median(self, what: str) -> float:
        return float(np.median(self.rounds[what]))

    @property
    def images_per_second(self) -> float:
        """Of one core."""
        return 1e3 / self.median("all")


def measure(dataset: ImageDataset, seconds: float, rounds: int = 5) -> Speed:
    """Prepare images in the order of training, on one thread.

    Args:
        dataset: of a source.
        seconds: by the clock, for all rounds together.
        rounds: in each of which every part is measured once, in turns.

    Raises:
        DataError: an image cannot be used.
    """
    keys = list(EpochSampler(len(dataset), 0, 1))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure(dataset, keys, seconds, rounds)
    finally:
        torch.set_num_threads(before)


def _measure(dataset: ImageDataset, keys: List[Any], seconds: float, rounds: int) -> Speed:
    parts: Dict[str, Callable[[List[Any]], Any]] = {"all": dataset.batch}
    if isinstance(dataset, FileImages):
        parts = {
            "reading": lambda some: [dataset.files.read(index) for _, index in some],
            "decoding": lambda some: [dataset.picture(index) for _, index in some],
            **parts,
        }
    dataset.batch(keys[:_BATCH])  # what is done once
    found: Dict[str, List[float]] = {name: [] for name in parts}
    images, at, busy, begun = 0, 0, 0.0, time.perf_counter()
    for _ in range(rounds):
        cpu = dict.fromkeys(parts, 0.0)
        count, until = 0, time.perf_counter() + seconds / rounds
        while not count or time.perf_counter() < until:
            some = [keys[(at + i) % len(keys)] for i in range(min(_BATCH, len(keys)))]
            at, count = at + len(some), count + len(some)
            for name, part in parts.items():
                started = time.process_time()
                part(some)
                cpu[name] += time.process_time() - started
        for name, spent in cpu.items():
            found[name].append(1e3 * spent / count)
        images, busy = images + count, busy + sum(cpu.values())
    return Speed(images, found, max(0.0, 1 - busy / (time.perf_counter() - begun)))
