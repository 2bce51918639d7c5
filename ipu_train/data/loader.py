"""A PopTorch DataLoader over the data sets of this room."""

import collections
import functools
import os
from typing import Any, Callable, Deque, Optional, Sequence, Tuple

import torch
from torch.utils.data import Dataset

from . import workers as workers_of
from .datasets import ImageDataset, Key
from .sampler import EpochSampler

Coefficients = Callable[[Sequence[Key]], torch.Tensor]


# Batches that a worker has handed over and still holds: what torch lets it prepare ahead, and the one that is in use.
# Who lets go of shared memory last gives it back to the system, 0.1 ms or more a megabyte; that shall not be the main
# process.
_HANDED_OVER = 3


class _Keys(Dataset):
    """Hands out the keys themselves; the whole batch is then fetched at once where it is collated.

    torch fetches a batch item by item before 2.1, and PopTorch 3.4 comes with 2.0.1.
    """

    def __init__(self, dataset: ImageDataset, coefficients: Optional[Coefficients] = None):
        self.dataset, self.coefficients = dataset, coefficients
        self._handed_over: Deque[Tuple[torch.Tensor, ...]] = collections.deque(maxlen=_HANDED_OVER)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Key:
        return key

    def collate(self, keys: Sequence[Key]) -> Tuple[torch.Tensor, ...]:
        item: Tuple[torch.Tensor, ...] = self.dataset.batch(keys)
        if self.coefficients is not None:
            item = (*item, self.coefficients(keys))
        if torch.utils.data.get_worker_info() is not None:
            self._handed_over.append(item)
        return item


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
        when there are any, B being the combined batch size.
    """
    keys = _Keys(dataset, coefficients)
    return poptorch.DataLoader(
        options,
        keys,
        batch_size=micro_batch_size,
        sampler=sampler,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        auto_distributed_partitioning=False,
        collate_fn=keys.collate,
        # a torch loader draws a number each time it is iterated; not from the state that a resumed run restores
        generator=torch.Generator(),
        worker_init_fn=functools.partial(_begin_worker, os.getpid()) if workers else None,
        multiprocessing_context=workers_of.context() if workers else None,
        **more,
    )
