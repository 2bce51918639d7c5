"""The order of the images: a function of seed, epoch and position alone."""

from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np
from torch.utils.data import Sampler

from . import keyed
from .errors import DataError


class Places(Sampler):
    """A sampler's order as places in it, counted from the start of epoch 0.

    Numbers are small change to hand to another process, which looks up the keys itself (:meth:`EpochSampler.keys`).
    """

    def __init__(self, sampler: "EpochSampler"):
        self.sampler = sampler

    def __iter__(self) -> Iterator[int]:
        epoch, start = self.sampler.position
        first = epoch * self.sampler.epoch_length
        yield from range(first + start, first + self.sampler.epoch_length)
        self.sampler.position = (epoch + 1, 0)

    def __len__(self) -> int:
        return len(self.sampler)


class EpochSampler(Sampler):
    """Yields ``(epoch, index)`` keys for one process.

    In a distributed run the order is dealt out in hands of ``share`` images, hand ``k`` to process
    ``k % num_processes``: the processes' shards are disjoint and equally long. With the images that the replicas of
    one process take side by side as ``share``, every replica gets the micro-batches that it gets when one process
    drives all of them. What does not fill ``batch_multiple`` images for every process is left out of the epoch
    (another part each epoch, when shuffling).

    Iterating starts at :attr:`position` and moves on to the next epoch once through, so that a loader which
    prefetches in another process needs no word from the main one.

    Args:
        length: images in the data set.
        seed: seed of the order, 0 or more.
        batch_multiple: images that one process consumes at once (the combined batch size); an epoch of
            a process is a multiple of it.
        shuffle: a new random order each epoch, else the data set's own.
        process_index, num_processes: this process of a distributed run.
        share: images that a process takes in a row of the order of all, a divisor of ``batch_multiple``; None: that.
        repeats: copies of each image in an epoch, each augmented anew (repeated augmentation); an epoch stays as long
            as it is, so 1 in ``repeats`` of the images are in it. The ``k``-th copy has the key
            ``(epoch * repeats + k, index)``.
        micro_batch_size: images whose copies follow each other together: a micro-batch of so many holds no image
            twice, so that mixup and CutMix mix different ones.

    Raises:
        DataError: the data set does not fill one batch of every process.
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        length: int,
        seed: int = 0,
        batch_multiple: int = 1,
        shuffle: bool = True,
        process_index: int = 0,
        num_processes: int = 1,
        share: Optional[int] = None,
        repeats: int = 1,
        micro_batch_size: int = 1,
    ):
        if batch_multiple < 1:
            raise ValueError(f"batch_multiple must be at least 1, got {batch_multiple}")
        if not 0 <= process_index < num_processes:
            raise ValueError(f"process_index must be in 0..{num_processes - 1}, got {process_index}")
        self.share = batch_multiple if share is None else share
        if self.share < 1 or batch_multiple % self.share:
            raise ValueError(f"share must divide {batch_multiple}, got {share}")
        self.length, self.seed, self.batch_multiple, self.shuffle = length, seed, batch_multiple, shuffle
        self.process_index, self.num_processes = process_index, num_processes
        self.repeats, self.micro_batch_size = repeats, micro_batch_size
        self.blocks = length // (batch_multiple * num_processes)
        if self.blocks == 0:
            raise DataError(
                f"{length} images do not fill one batch of {batch_multiple * num_processes} "
                "(micro-batch size x gradient accumulation x replicas x device iterations x processes); "
                "make the batch smaller"
            )
        self.position: Tuple[int, int] = (0, 0)
        self._looked_up = (-1, np.empty((0, 2), dtype=np.int64))

    @property
    def epoch_length(self) -> int:
        """Images of one epoch of this process."""
        return self.blocks * self.batch_multiple

    def set_position(self, epoch: int, start: int = 0) -> None:
        """Let the next iteration begin in ``epoch`` after the first ``start`` images of this process.

        Raises:
            ValueError: ``start`` is not a multiple of ``batch_multiple`` within the epoch.
        """
        if epoch < 0 or not 0 <= start <= self.epoch_length or start % self.batch_multiple:
            raise ValueError(
                f"position {start} of epoch {epoch} is not a multiple of {self.batch_multiple} in "
                f"0..{self.epoch_length}"
            )
        self.position = (epoch + 1, 0) if start == self.epoch_length else (epoch, start)

    def indices(self, epoch: int) -> np.ndarray:
        """All indices of one epoch of this process, int64 ``[epoch_length]``."""
        if self.shuffle:
            order = keyed.permutation(self.seed, keyed.ORDER, epoch, self.length)
        else:
            order = np.arange(self.length)
        if self.repeats > 1:
            groups = -(-self.length // (self.repeats * self.micro_batch_size))
            once = order[: groups * self.micro_batch_size].reshape(groups, self.micro_batch_size)
            order = np.repeat(once, self.repeats, axis=0).ravel()
        return self._dealt(order)

    def _dealt(self, order: np.ndarray) -> np.ndarray:
        used = order[: self.blocks * self.batch_multiple * self.num_processes]
        return used.reshape(-1, self.num_processes, self.share)[:, self.process_index].ravel()

    def _keys(self, epoch: int) -> np.ndarray:
        """The keys of an epoch, int64 ``[epoch_length, 2]``."""
        copies = self._dealt(np.arange(self.length) // self.micro_batch_size % self.repeats)
        return np.stack([epoch * self.repeats + copies, self.indices(epoch)], axis=1)

    def keys(self, places: Sequence[int]) -> List[Tuple[int, int]]:
        """The keys at places that are counted from the start of epoch 0; quick for those of the same epoch."""
        epochs, at = np.divmod(np.array(places, dtype=np.int64), self.epoch_length)
        found = np.empty((len(at), 2), dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            if epoch != self._looked_up[0]:
                self._looked_up = epoch, self._keys(epoch)
            chosen = epochs == epoch
            found[chosen] = self._looked_up[1][at[chosen]]
        return [(epoch, index) for epoch, index in found.tolist()]

    def __iter__(self) -> Iterator[Tuple[int, int]]:
        epoch, start = self.position
        keys = self._keys(epoch)[start:]
        yield from zip(keys[:, 0].tolist(), keys[:, 1].tolist())
        self.position = (epoch + 1, 0)

    def __len__(self) -> int:
        """Images that the next iteration yields."""
        return self.epoch_length - self.position[1]
