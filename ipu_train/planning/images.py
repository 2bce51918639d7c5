"""What a plan must know of the images, where possible without opening them."""

import contextlib
import json
import os
from typing import NamedTuple, Optional

from ..config import Resolved
from ..config.data import Generated, ImageFolder, Registered, Synthetic

# (channels, side in pixels, classes) of sources whose images need not be there to plan for them
_IMAGES = {
    "digits": (1, 8, 10),
    "cifar10": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "fashion_mnist": (1, 28, 10),
}
_FOLDER_CLASSES = 1000  # ImageNet's, for an imagefolder that is not on this machine


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
        return Images(3, data.side, _classes_in(data.path) or _FOLDER_CLASSES)
    channels, size, classes = _IMAGES[data.name]
    return Images(channels, data.image_size or size, classes)


def _classes_in(path: Optional[str]) -> int:
    """Number of class folders of an imagefolder, or of classes of a packed data set; 0 when it is not here."""
    if path is None or not os.path.isdir(path):
        return 0
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError), open(
        os.path.join(path, "pack.json"), encoding="utf-8"
    ) as file:
        return len(json.load(file)["class_names"])
    for root in (os.path.join(path, "train"), path):
        if os.path.isdir(root):
            return sum(1 for entry in os.scandir(root) if entry.is_dir())
    return 0
