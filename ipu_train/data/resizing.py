"""A rectangle of a picture, resized to a square.

Centre crops, which networks are judged by, are resized by Pillow, as nearly everybody's are: with a box of fractions of
pixels, whose filter sees what lies around it. Random crops are cut out first, as torchvision does, and resized by
torch's kernel for bytes: twice as fast, and at most 2 of 255 levels different (Pillow before torch 2.1, without it).
"""

import math
from typing import NamedTuple, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .augment import Crop
from .pixels import Picture

_FILTERS = {
    "nearest": (Image.NEAREST, 0.5),
    "bilinear": (Image.BILINEAR, 1.0),
    "bicubic": (Image.BICUBIC, 2.0),
    "lanczos": (Image.LANCZOS, 3.0),
}


HAS_KERNEL_FOR_BYTES = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 1)


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


def crop_and_resize(picture: Picture, crop: Crop, size: int, how: Resizing = SMOOTH) -> np.ndarray:
    """A rectangle of whole pixels, cut out and then resized: uint8 ``[3, size, size]``."""
    left, top, right, bottom = (int(value) for value in crop.box)
    part = np.asarray(picture)[top:bottom, left:right]
    whole = crop._replace(left=0, top=0, right=right - left, bottom=bottom - top)
    if not HAS_KERNEL_FOR_BYTES or not how.antialias or how.interpolation not in ("bilinear", "bicubic"):
        return resize(part, whole, size, how)
    if part.shape[:2] != (size, size):
        # the dimension of one image comes first: torch then sees what is channels last, and puts out the same
        one = torch.from_numpy(np.asarray(_Lent(part)))[None].permute(0, 3, 1, 2)
        pixels = F.interpolate(one, size=(size, size), mode=how.interpolation, antialias=True)[0].numpy()
    else:
        pixels = part.transpose(2, 0, 1)
    return pixels[:, :, ::-1] if crop.flip else pixels


class _Lent:
    """The memory of an array, for readers: torch warns of arrays that must not be written, such as mapped files."""

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels  # lives as long as this does
        interface = pixels.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


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
