"""What a source of images is to everybody else."""

from typing import List, NamedTuple, Tuple

from .datasets import ImageDataset
from .resizing import SMOOTH, Resizing


class DataSource(NamedTuple):
    """Training and validation images and what a model must know of them.

    Attributes:
        name: the source's.
        train, validation: items are (uint8 image ``[C, H, W]``, int64 label).
        num_classes, channels, image_size: of all images; the size is the side in pixels.
        mean, std: of each channel, in 0..1 units (of pixel / 255), for the normalisation on the device.
        class_names: by label.
        resizing, transparency: of image files, see ``data.interpolation`` and ``data.transparency``.
        centre_share: side of the centre crop of validation images as a share of the shorter side.
        pixels: what they come from beside the files, see :mod:`.pipeline`.
        note: what to tell of how the images were chosen; empty where they are as the source has them.
    """

    name: str
    train: ImageDataset
    validation: ImageDataset
    num_classes: int
    channels: int
    image_size: int
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    class_names: List[str]
    centre_share: float = 1.0
    resizing: Resizing = SMOOTH
    transparency: str = "error"
    note: str = ""
    pixels: str = ""
