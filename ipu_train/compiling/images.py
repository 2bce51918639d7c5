"""What of the images a program is compiled for."""

from typing import NamedTuple, Tuple

from ..config import Resolved
from ..data import DataError, open_data
from ..data.sources import PHOTO_MEAN, PHOTO_STD
from ..planning import images_of


class ImageShape(NamedTuple):
    """Shape, classes and normalisation of images, as a data source has them; ``note`` says where they are from."""

    num_classes: int
    channels: int
    image_size: int
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    note: str


def shape_of_images(resolved: Resolved) -> ImageShape:
    """Of the configured images where they are on this machine, else as far as the configuration tells.

    A compiled program depends on the number of classes: of images that are not here those of ImageNet are assumed,
    or ``model.num_classes``.
    """
    config = resolved.config
    try:
        source = open_data(config.data, config.training.seed, progress=False)
    except (DataError, OSError) as error:
        images = images_of(resolved)
        classes = config.model.num_classes or images.classes
        mean, std = config.data.mean or PHOTO_MEAN, config.data.std or PHOTO_STD
        reason = str(error).splitlines()[0]
        note = f"the images are not here ({reason}): compiled for {classes:,} classes"
        return ImageShape(classes, images.channels, images.size, tuple(mean), tuple(std), note)
    return ImageShape(
        source.num_classes,
        source.channels,
        source.image_size,
        source.mean,
        source.std,
        "as the images on this machine",
    )
