"""Images that need no files: learnable ones for trials, and noise for measuring speed."""

from typing import Optional, Sequence

import numpy as np
import torch

from . import keyed
from .datasets import Augment, ImageDataset

_GRID = 4  # side of the random pattern that a class's template is interpolated from
_TEMPLATE_RANGE = 64  # largest distance of a template from mid-grey
_NOISE_RANGE = 64  # largest distance of a pixel from its shifted template


def templates(seed: int, num_classes: int, channels: int, size: int) -> np.ndarray:
    """One smooth random pattern for each class: int16 ``[K, C, S, S]`` around 0."""
    count = channels * _GRID * _GRID
    values = keyed.uniform(seed, keyed.TEMPLATES, 0, np.arange(num_classes), count)
    grid = torch.from_numpy(values.reshape(num_classes, channels, _GRID, _GRID) * 2 - 1)
    smooth = torch.nn.functional.interpolate(grid, size=(size, size), mode="bilinear", align_corners=True)
    return np.round(smooth.numpy() * _TEMPLATE_RANGE).astype(np.int16)


class GeneratedImages(ImageDataset):
    """Learnable images: the template of the class, rolled by up to an eighth of the side, and noise.

    Image ``index`` is a function of (seed, stream, index) alone, and is made when asked for. Labels go round
    the classes.
    """

    def __init__(
        self,
        length: int,
        num_classes: int,
        channels: int,
        size: int,
        seed: int,
        stream: int,
        augment: Optional[Augment] = None,
    ) -> None:
        super().__init__(np.arange(length) % num_classes, augment)
        self.templates = templates(seed, num_classes, channels, size)
        self.seed, self.stream = seed, stream

    def images(self, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        shape = self.templates.shape[1:]
        reach = shape[-1] // 8
        moves = keyed.uniform(self.seed, self.stream, 0, indices, 2)
        moves = np.floor(moves * (2 * reach + 1)).astype(int) - reach
        result = np.empty((len(indices), *shape), dtype=np.uint8)
        for image, index, label, move in zip(result, indices.tolist(), self.labels[indices], moves):
            template = np.roll(self.templates[label], tuple(move), axis=(1, 2))
            image[:] = np.clip(128 + template + self._noise(index, shape), 0, 255)
        return result

    def _noise(self, index: int, shape: Sequence[int]) -> np.ndarray:
        # Raw bytes of a counter-based generator: numpy promises these for all versions,
        # unlike its distributions.
        generator = np.random.Philox(key=[self.seed * 8 + self.stream, index])
        count = int(np.prod(shape))
        noise = generator.random_raw(-(-count // 8)).view(np.uint8)[:count].reshape(shape)
        return (noise.astype(np.int16) * (2 * _NOISE_RANGE)) // 256 - _NOISE_RANGE


class SyntheticImages(ImageDataset):
    """Noise images and labels that cost nothing to fetch; item ``index`` is ``index`` modulo a small pool."""

    POOL = 64

    def __init__(
        self,
        length: int,
        num_classes: int,
        channels: int,
        size: int,
        seed: int,
        augment: Optional[Augment] = None,
    ) -> None:
        count = channels * size * size
        pool = min(length, self.POOL)
        draws = keyed.bits(seed, keyed.SYNTHETIC, 0, np.arange(pool), 1 + -(-count // 8))
        super().__init__(
            (draws[:, 0] % np.uint64(num_classes)).astype(np.int64)[np.arange(length) % pool], augment
        )
        raw = np.ascontiguousarray(draws[:, 1:]).view(np.uint8)[:, :count]
        self.pool = raw.reshape(pool, channels, size, size)

    def images(self, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return self.pool[indices % len(self.pool)]
