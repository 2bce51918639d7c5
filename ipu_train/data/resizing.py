"""A rectangle of a picture, resized to a square."""

import math
from typing import NamedTuple, Tuple

import numpy as np
from PIL import Image

from .augment import Crop
from .pixels import Picture

_FILTERS = {
    "nearest": (Image.NEAREST, 0.5),
    "bilinear": (Image.BILINEAR, 1.0),
    "bicubic": (Image.BICUBIC, 2.0),
    "lanczos": (Image.LANCZOS, 3.0),
}


class Resizing(NamedTuple):
    """How pixels are resized.

    Attributes:
        interpolation: nearest, bilinear, bicubic or lanczos.
        antialias: average over the pixels in between when there are to be fewer; else sample single points.
    """

    interpolation: str = "bilinear"
    antialias: bool = True


SMOOTH = Resizing()


def size_of(picture: Picture) -> Tuple[int, int]:
    """Width and height in pixels."""
    return picture.size if isinstance(picture, Image.Image) else (picture.shape[1], picture.shape[0])


def resize(picture: Picture, crop: Crop, size: int, how: Resizing = SMOOTH) -> np.ndarray:
    """A rectangle of an 8-bit RGB picture, resized by Pillow: uint8 ``[3, size, size]``."""
    if size_of(picture) != (size, size) or crop.box != (0, 0, size, size):
        pixels = np.asarray(_resized(picture, crop, size, how))
    else:
        pixels = np.asarray(picture)
    pixels = pixels.transpose(2, 0, 1)
    return pixels[:, :, ::-1] if crop.flip else pixels


def _resized(picture: Picture, crop: Crop, size: int, how: Resizing) -> Image.Image:
    method, support = _FILTERS[how.interpolation]
    left, top, right, bottom = crop.box
    if not isinstance(picture, Image.Image):
        # Only what the filter reaches is copied; the pixels are those of the whole picture, resized with a box.
        reach = math.ceil(support * max(1.0, (right - left) / size, (bottom - top) / size)) + 1
        x, y = max(math.floor(left) - reach, 0), max(math.floor(top) - reach, 0)
        part = picture[y : math.ceil(bottom) + reach, x : math.ceil(right) + reach]
        picture = Image.fromarray(np.ascontiguousarray(part))
        left, top, right, bottom = left - x, top - y, right - x, bottom - y
    if how.antialias:
        return picture.resize((size, size), method, box=(left, top, right, bottom))
    return picture.transform((size, size), Image.EXTENT, (left, top, right, bottom), method)
