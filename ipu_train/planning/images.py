"""What a plan must know of the images, where possible without opening them."""

import contextlib
import json
import os
from typing import NamedTuple

from ..config import Resolved
from ..config.data import Generated, ImageFolder, PackedImages, Registered, Synthetic, WebDataset

# (channels, side in pixels, classes) of sources whose images need not be there to plan for them
_IMAGES = {
    "digits": (1, 8, 10),
    "cifar10": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "fashion_mnist": (1, 28, 10),
}
_FOLDER_CLASSES = 1000  # ImageNet's, for an imagefolder that is not on this machine
_CLASS_FILES = ("classes.txt", "class_names.txt", "classnames.txt")  # where shards name their classes


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
    if isinstance(data, Registered):
        return Images(data.own.channels, data.side, data.own.num_classes)
    if isinstance(data, ImageFolder):
        return Images(3, data.side, _classes_in(data) or _FOLDER_CLASSES)
    channels, size, classes = _IMAGES[data.name]
    return Images(channels, data.image_size or size, classes)


def assumed_classes(resolved: Resolved) -> bool:
    """Whether the number of classes is ImageNet's, for want of images that would tell it."""
    config = resolved.config
    files = isinstance(config.data, ImageFolder)
    return files and config.model.num_classes is None and not _classes_in(config.data)


def _classes_in(data: ImageFolder) -> int:
    """Class folders of an imagefolder, or classes of a packed data set or of shards; 0 where nothing here says."""
    path = data.path
    if path is None or not os.path.isdir(path):
        return 0
    roots = [root for root in (os.path.join(path, data.train_split or "train"), path) if os.path.isdir(root)]
    if isinstance(data, PackedImages):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), open(
            os.path.join(path, "pack.json"), encoding="utf-8"
        ) as file:
            return len(json.load(file)["class_names"])
        return 0
    if isinstance(data, WebDataset):
        for place in (os.path.join(root, name) for root in roots for name in _CLASS_FILES):
            with contextlib.suppress(OSError, ValueError), open(place, encoding="utf-8") as file:
                return sum(1 for line in file if line.strip())
        return 0
    with contextlib.suppress(OSError):
        return sum(1 for entry in os.scandir(roots[0]) if entry.is_dir() and entry.name[0] != ".")
    return 0
