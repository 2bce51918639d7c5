"""A PopTorch DataLoader over the data sets of this room."""

import functools
import os
from typing import Any, Callable, Optional, Sequence, Tuple, Union

import torch
from torch.utils.data import Dataset

from . import workers as workers_of
from .datasets import ImageDataset, Key
from .handover import AHEAD, Filled, Slots
from .sampler import EpochSampler, Places

Coefficients = Callable[[Sequence[Key]], torch.Tensor]


class _Places(Dataset):
    """Hands out the places themselves; the whole batch is then fetched at once where it is collated.

    torch fetches a batch item by item before 2.1, and PopTorch 3.4 comes with 2.0.1.
    """

    def __init__(
        self, dataset: ImageDataset, sampler: EpochSampler, coefficients: Optional[Coefficients], ahead: int
    ):
        self.dataset, self.sampler, self.coefficients = dataset, sampler, coefficients
        self._slots = Slots(ahead)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> int:
        return place

    def collate(self, places: Sequence[int]) -> Union[Tuple[torch.Tensor, ...], Filled]:
        keys = self.sampler.keys(places)
        worker = torch.utils.data.get_worker_info()
        room = None if worker is None else self._slots.room()
        item: Tuple[torch.Tensor, ...] = self.dataset.batch(keys, room)
        if self.coefficients is not None:
            item = (*item, self.coefficients(keys))
        return item if worker is None else self._slots.fill(worker.id, item)


def _begin_worker(parent: int, worker: int) -> None:
    workers_of.leave_stopping_to(parent)


def loader(
    poptorch: Any,
    options: Any,
    dataset: ImageDataset,
    sampler: EpochSampler,
    micro_batch_size: int,
    workers: int = 0,
    coefficients: Optional[Coefficients] = None,
    **more: Any,
) -> Any:
    """``poptorch.DataLoader`` in the sampler's order.

    Args:
        poptorch: the PopTorch module (or what stands in for it).
        options: its ``Options`` of the model that is fed.
        dataset: what to load.
        sampler: order and shard of this process.
        micro_batch_size: images of one micro-batch of one replica.
        workers: processes that load beside the main one.
        coefficients: makes a further tensor ``[B, ...]`` of the keys, such as ``MixingDraws``.
        more: further arguments of the DataLoader, such as ``mode``.

    Returns:
        The loader; its items are images (uint8 ``[B, C, H, W]``) and labels (int64 ``[B]``), and the coefficients
        when there are any, B being the combined batch size. With workers, a batch is overwritten once the next one
        is taken: keep a copy of what is needed longer.
    """
    places = _Places(dataset, sampler, coefficients, more.get("prefetch_factor") or AHEAD)
    return poptorch.DataLoader(
        options,
        places,
        batch_size=micro_batch_size,
        sampler=Places(sampler),
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        auto_distributed_partitioning=False,
        collate_fn=places.collate,
        # a torch loader draws a number each time it is iterated; not from the state that a resumed run restores
        generator=torch.Generator(),
        worker_init_fn=functools.partial(_begin_worker, os.getpid()) if workers else None,
        multiprocessing_context=workers_of.context() if workers else None,
        **more,
    )
