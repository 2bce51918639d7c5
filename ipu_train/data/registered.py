"""Images of the user's own, through ``register_dataset``."""

import copy
from typing import Any, Callable, Optional, Sequence, Tuple

import numpy as np
import torch
from PIL import Image

from ..config.data import Registered
from ..plugins import OwnDataset
from ..plugins.failures import line_of_user, reason_of
from .datasets import Augment, ImageDataset
from .errors import DataError
from .source import DataSource


class MapStyleImages(ImageDataset):
    """Any data set with a length and items (image, label) as one of this room.

    Labels are taken from its ``targets`` (as torchvision's have them) or ``labels``; without those, or with a
    ``target_transform``, every item is read once.

    Args:
        items: the data set.
        name: of it, for messages.
        shape: (C, H, W) that every image must have.
        augment: what happens to the images after that.

    Raises:
        DataError: labels that are no whole numbers from 0, or items of another form.
    """

    def __init__(
        self, items: Any, name: str, shape: Sequence[int], augment: Optional[Augment] = None
    ) -> None:
        self.items, self.name, self.shape = items, name, tuple(shape)
        super().__init__(_labels(items, name), augment)

    def images(self, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return np.stack([self._image(int(index)) for index in indices])

    def _image(self, index: int) -> np.ndarray:
        found = _item(self.items, index, self.name)[0]
        pixels = self._pixels(found, index)
        from_picture = isinstance(found, Image.Image) or (
            pixels.ndim == 3 and pixels.shape != self.shape and pixels.shape[2:] == self.shape[:1]
        )
        if pixels.ndim == 2:
            pixels = pixels[None]
        elif from_picture:
            pixels = pixels.transpose(2, 0, 1)
        if pixels.dtype != np.uint8 or pixels.shape != self.shape:
            told = f"is {pixels.dtype} of {' x '.join(map(str, pixels.shape)) or 'no size'}"
            if pixels.dtype.kind == "f":
                told += "; leave out what makes floats and normalises, such as ToTensor: ipu-train does both"
            raise self._unusable(index, told)
        return pixels

    def _pixels(self, found: Any, index: int) -> np.ndarray:
        if isinstance(found, Image.Image):
            mode, wanted = found.mode, {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}.get(self.shape[0])
            palette = mode in ("P", "PA")  # their indices are no colours
            if wanted is not None and (palette or mode == "1" or len(found.getbands()) != self.shape[0]):
                raise self._unusable(
                    index, f'is a Pillow image of mode {mode}; convert("{wanted}") makes it one'
                )
            return np.asarray(found)
        try:
            return found.detach().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
        except Exception as error:  # types, devices and layouts that numpy does not know
            raise self._unusable(index, f"is not to be had as an array: {reason_of(error)}") from error

    def _unusable(self, index: int, told: str) -> DataError:
        shape = " x ".join(map(str, self.shape))
        return DataError(
            f"{self.name}: image {index} must be uint8 of {shape} (channels x height x width, 0 to 255), and {told}"
        )


def _item(items: Any, index: int, name: str) -> Any:
    try:
        item = items[index]
    except Exception as error:  # whatever the user's own code raises
        raise DataError(f"{name}: item {index} fails: {reason_of(error)}{line_of_user(error)}") from error
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(f"{name}: item {index} must be a pair (image, label), and is a {type(item).__name__}")
    return item


def _label(items: Any, index: int, name: str) -> int:
    label = _item(items, index, name)[1]
    try:
        number = int(label)
        whole = bool(number == label)
    except (TypeError, ValueError, RuntimeError):  # text, one-hot vectors
        whole = False
    if not whole:
        raise DataError(f"{name}: the label of item {index} must be a whole number from 0, and is {label!r}")
    return number


def _given_labels(items: Any, count: int) -> Any:
    """The labels that a data set has beside its items; None: only the items tell."""
    # torchvision's changes what the items have, and not targets
    if getattr(items, "target_transform", None) is not None:
        return None
    found = getattr(items, "targets", None)
    found = getattr(items, "labels", None) if found is None else found
    if found is None:
        return None
    try:
        return found if len(found) == count else None
    except TypeError:  # something else of this name, such as a method
        return None


def _labels(items: Any, name: str) -> np.ndarray:
    try:
        count = len(items)
    except TypeError:
        raise DataError(
            f"{name}: needs a length; iterable-style data sets have no order to resume in"
        ) from None
    found = _given_labels(items, count)
    if found is None:
        found = [_label(items, index, name) for index in range(count)]
    labels = np.asarray(found)
    if not count or labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise DataError(
            f"{name}: labels must be whole numbers from 0, one an image, and there must be images"
        )
    return labels


def open_registered(
    config: Registered, seed: int, augment_of: Callable[[Sequence[float]], Optional[Augment]]
) -> DataSource:
    """The images that a registered function opens.

    Args:
        augment_of: from the mean of each channel to what happens to the training images.

    Raises:
        DataError: what it gives is not what was declared.
    """
    own, name, side = config.own, config.dataset, config.side
    try:
        opened = own.open(image_size=side, seed=seed, **config.options)
    except DataError:
        raise
    except Exception as error:  # whatever the user's own code raises
        given = ", ".join(["image_size", "seed", *config.options])
        raise DataError(
            f"{name}: the function that opens it, given {given}, fails: {reason_of(error)}{line_of_user(error)}"
        ) from error
    if isinstance(opened, DataSource):
        source, augment = opened, augment_of(opened.mean)
        if augment is not None:
            train = copy.copy(source.train)
            train.augment = augment
            source = source._replace(train=train)
    else:
        source = _of_pair(opened, own, name, side, augment_of(_mean(own)))
    declared = (own.num_classes, own.channels, side)
    if (source.num_classes, source.channels, source.image_size) != declared:
        raise DataError(
            f"{name}: was registered with num_classes, channels and image_size {declared}, and opens images of "
            f"{(source.num_classes, source.channels, source.image_size)}"
        )
    for images in (source.train, source.validation):
        if len(images) and int(images.labels.max()) >= source.num_classes:
            raise DataError(
                f"{name}: a label is {int(images.labels.max())}, and there are {source.num_classes} classes"
            )
    return source


def _mean(own: OwnDataset) -> Tuple[float, ...]:
    return tuple(own.mean or (0.5,) * own.channels)


def _of_pair(opened: Any, own: OwnDataset, name: str, side: int, augment: Optional[Augment]) -> DataSource:
    if not isinstance(opened, (tuple, list)) or len(opened) != 2:
        raise DataError(
            f"{name}: the function must give a DataSource or a pair (training images, validation images), not "
            f"{type(opened).__name__}"
        )
    shape = (own.channels, side, side)
    train = MapStyleImages(opened[0], f"{name}, training", shape, augment)
    validation = MapStyleImages(opened[1], f"{name}, validation", shape)
    return DataSource(
        name,
        train,
        validation,
        own.num_classes,
        own.channels,
        side,
        _mean(own),
        tuple(own.std or (0.25,) * own.channels),
        own.class_names or [str(label) for label in range(own.num_classes)],
    )
