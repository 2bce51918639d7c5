"""Data sets of uint8 images whose items are looked up by (epoch, index)."""

from typing import Callable, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch.utils.data import Dataset

from .faults import Faults

Key = Union[int, Tuple[int, int]]
Item = Tuple[torch.Tensor, torch.Tensor]
Augment = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# Label of images that only fill up the last batch; whoever counts must leave them out.
IGNORED_LABEL = -1


def pairs_of(keys: Sequence[Key]) -> List[Tuple[int, int]]:
    """Keys as (epoch, index); a bare index is of epoch 0."""
    return [(0, key) if isinstance(key, (int, np.integer)) else key for key in keys]


class ImageDataset(Dataset):
    """A map-style data set; ``dataset[epoch, index]`` is (uint8 image ``[C, H, W]``, int64 label ``[]``).

    The epoch only matters to the augmentation; ``dataset[index]`` means epoch 0. Batches are fetched whole
    with :meth:`batch`, which is many times faster than item by item.
    """

    #: images that turned out not to be usable; None where that cannot happen
    faults: Optional[Faults] = None

    def __init__(self, labels: np.ndarray, augment: Optional[Augment] = None):
        self.labels = np.asarray(labels, dtype=np.int64)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """The images before augmentation, uint8 ``[N, C, H, W]``."""
        raise NotImplementedError

    def fetch(
        self, epochs: np.ndarray, indices: np.ndarray, room: Optional[np.ndarray] = None
    ) -> Tuple[np.ndarray, np.ndarray]:
        """The images before augmentation (uint8 ``[N, C, H, W]``) and their labels (int64 ``[N]``).

        ``room``: memory that the images may be written to, if it is of their shape.
        """
        return self.images(epochs, indices), self.labels[indices]

    def batch(self, keys: Sequence[Key], room: Optional[np.ndarray] = None) -> Item:
        """Images (uint8 ``[N, C, H, W]``) and labels (int64 ``[N]``) of the given keys; ``room``: see :meth:`fetch`."""
        epochs, indices = np.array(pairs_of(keys), dtype=np.int64).reshape(-1, 2).T
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(
                f"the data set has {len(self)} images; asked for {indices.min()}..{indices.max()}"
            )
        images, labels = self.fetch(epochs, indices, room)
        if self.augment is not None:
            images = self.augment(images, epochs, indices)
        return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels)

    def __getitem__(self, key: Key) -> Item:
        images, labels = self.batch([key])
        return images[0], labels[0]

    def __getitems__(self, keys: Sequence[Key]) -> List[Item]:
        """What torch (2.1 and later) asks for instead of item by item."""
        return list(zip(*self.batch(keys)))


class ArrayImages(ImageDataset):
    """Images in RAM, uint8 ``[N, C, H, W]``."""

    def __init__(self, array: np.ndarray, labels: np.ndarray, augment: Optional[Augment] = None):
        super().__init__(labels, augment)
        # A tensor, because worker processes that are not forked then share its memory instead of copying it.
        self.tensor = torch.from_numpy(np.ascontiguousarray(array))

    def images(self, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return self.tensor.numpy()[indices]


class PaddedDataset(ImageDataset):
    """A data set filled up to a multiple of ``multiple`` items, so that a compiled batch shape always fits.

    The filling repeats images from the start with the label :data:`IGNORED_LABEL`, so each image still counts
    exactly once.
    """

    def __init__(self, dataset: ImageDataset, multiple: int):
        filling = -len(dataset) % multiple
        super().__init__(np.concatenate([dataset.labels, np.full(filling, IGNORED_LABEL)]))
        self.dataset = dataset

    def batch(self, keys: Sequence[Key], room: Optional[np.ndarray] = None) -> Item:
        pairs = [(epoch, index % len(self.dataset)) for epoch, index in pairs_of(keys)]
        images, labels = self.dataset.batch(pairs, room)
        filling = torch.tensor([index >= len(self.dataset) for _, index in pairs_of(keys)], dtype=torch.bool)
        return images, labels.masked_fill(filling, IGNORED_LABEL)
