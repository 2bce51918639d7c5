"""Random changes of training images: uint8 in, uint8 out, a pure function of (seed, epoch, index)."""

import math
from dataclasses import dataclass
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from . import boxes, keyed
from .boxes import Box

# Random resized crops: share of the image's area, aspect ratios, and tries before the whole image is taken
# (Szegedy et al. 2015, section 6; the values torchvision made usual).
AREA = (0.08, 1.0)
RATIO = (3.0 / 4.0, 4.0 / 3.0)
TRIES = 10


@dataclass(frozen=True)
class Shift:
    """Displacement by up to ``padding`` pixels each way, and with ``flip`` a random left-right flip.

    With ``flip`` this is the usual augmentation of CIFAR (He et al. 2016, section 4.2: pad by 4, crop at
    random, flip). What comes in from outside the image is black.
    """

    padding: int
    flip: bool
    seed: int

    def __call__(self, images: np.ndarray, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Change ``images`` (uint8 ``[N, C, H, W]``) whose epochs and indices are int64 ``[N]``."""
        draws = keyed.uniform(self.seed, keyed.AUGMENT, epochs, indices, 3)
        moves = np.floor(draws[:, :2] * (2 * self.padding + 1)).astype(np.int64) - self.padding
        flips = draws[:, 2] < 0.5 if self.flip else np.zeros(len(images), dtype=bool)
        return shift(images, moves[:, 0], moves[:, 1], flips)


def shift(images: np.ndarray, down: np.ndarray, right: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Flip each image where ``flips``, then move its content ``down`` and ``right`` by whole pixels.

    Args:
        images: uint8 ``[N, C, H, W]``.
        down, right: int64 ``[N]``, of either sign.
        flips: bool ``[N]``.
    """
    height, width = images.shape[2:]
    result = np.zeros_like(images)
    # Copying one rectangle an image is several times faster than gathering pixels by index.
    for image, target, y, x, flip in zip(images, result, down.tolist(), right.tolist(), flips.tolist()):
        if abs(y) >= height or abs(x) >= width:
            continue
        if flip:
            image = image[:, :, ::-1]
        target[:, max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)] = image[
            :, max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)
        ]
    return result


class Crop(NamedTuple):
    """A rectangle of a source image in pixels, and whether its content is flipped left-right."""

    left: float
    top: float
    right: float
    bottom: float
    flip: bool

    @property
    def box(self) -> Tuple[float, float, float, float]:
        return self[:4]


def crop_draws(seed: int, epochs: Any, indices: Any) -> np.ndarray:
    """What :func:`random_resized_crop` is made of, for many images at once: float64 ``[N, 3 + 2 TRIES]``."""
    return keyed.uniform(seed, keyed.AUGMENT, epochs, indices, 3 + 2 * TRIES)


def random_resized_crop(
    width: int,
    height: int,
    seed: int,
    epoch: int,
    index: int,
    accepts: Optional[Callable[[Box], bool]] = None,
    draws: Optional[np.ndarray] = None,
) -> Crop:
    """A random rectangle of 8 to 100 % of the area of an image, flipped or not; sizes in pixels.

    Args:
        width, height: of the image.
        seed, epoch, index: the key.
        draws: the key's row of :func:`crop_draws`, when it is there already.
        accepts: asked whether a rectangle will do, for :data:`boxes.TRIES` tries; the last one is taken as it is.
    """
    first: List[float] = (crop_draws(seed, epoch, index)[0] if draws is None else draws).tolist()
    crop = _drawn_crop(width, height, first)
    if accepts is not None:
        one = 2 + 2 * TRIES
        more: List[float] = []
        for attempt in range(boxes.TRIES - 1):
            if accepts(crop.box):
                break
            if not more:
                more = keyed.uniform(seed, keyed.BOXES, epoch, index, one * (boxes.TRIES - 1))[0].tolist()
            crop = _drawn_crop(width, height, [first[0], *more[attempt * one : (attempt + 1) * one]])
    return crop


def _drawn_crop(width: int, height: int, draws: Sequence[float]) -> Crop:
    """The rectangle that uniform numbers make: flip, place across and down, and pairs of area and aspect ratio."""
    flip, across, down = draws[0] < 0.5, draws[1], draws[2]
    for area_draw, ratio_draw in zip(draws[3::2], draws[4::2]):
        area = width * height * (AREA[0] + area_draw * (AREA[1] - AREA[0]))
        ratio = math.exp(math.log(RATIO[0]) + ratio_draw * math.log(RATIO[1] / RATIO[0]))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = math.floor(across * (width - w + 1)), math.floor(down * (height - h + 1))
            return Crop(left, top, left + w, top + h, flip)
    # Very long or tall images: the largest centred rectangle of an allowed aspect ratio.
    ratio = min(max(width / height, RATIO[0]), RATIO[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return Crop(left, top, left + w, top + h, flip)


def centre_crop(width: int, height: int, share: float = 1.0) -> Crop:
    """The centred square whose side is ``share`` of the shorter side."""
    side = min(width, height) * share
    left, top = (width - side) / 2, (height - side) / 2
    return Crop(left, top, left + side, top + side, False)
