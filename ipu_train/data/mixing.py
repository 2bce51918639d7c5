"""What mixup and CutMix mix, drawn on the host: one row of coefficients for each image.

The form of Masters et al. 2021 (arXiv 2106.03640; Graphcore's public code): mixup draws a coefficient for each image
and CutMix one box for each micro-batch; the images themselves are mixed on the device. Every draw is a function of
(seed, epoch, image), so a resumed run draws what the uninterrupted one does, whatever the number of workers.
"""

from typing import Sequence

import numpy as np
import torch

from . import keyed
from .datasets import Key

# Columns of the coefficients.
MIXUP, KEPT, TOP, BOTTOM, LEFT, RIGHT = range(6)
COLUMNS = 6

_TRIES = 32
_SMALLEST_KEPT = 4.0  # CutMix keeps at least 1 + log(exp(-4)) / 4 = 0 of the area


def beta_variates(alpha: float, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Beta(alpha, alpha) variates from uniform numbers, by Jöhnk's method (1964), for 0 < alpha <= 1.

    Args:
        u, v: independent uniform numbers in [0, 1), ``[N, tries]``; the first pair whose powers 1 / alpha add up to
            at most 1 counts, which one pair in two at least does.

    Returns:
        float64 ``[N]``.
    """
    log_x, log_y = np.log(u + 2.0**-54) / alpha, np.log(v + 2.0**-54) / alpha
    accepted = np.logaddexp(log_x, log_y) <= 0
    accepted[:, -1] = True
    rows, first = np.arange(len(u)), accepted.argmax(axis=1)
    difference = log_y[rows, first] - log_x[rows, first]
    return 1.0 / (1.0 + np.exp(np.clip(difference, -700, 700)))


def kept_area(cutmix_lambda: float, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Share of each image that CutMix keeps: 1 with probability ``1.55 * cutmix_lambda - 0.96``, else
    ``1 + log(U) / 4`` with U uniform in [exp(-4), 1], from uniform numbers ``[N]`` ("version 1" of the public code).
    """
    low = np.exp(-_SMALLEST_KEPT)
    kept = 1.0 + np.log(low + (1.0 - low) * v) / _SMALLEST_KEPT
    return np.where(u < 1.55 * cutmix_lambda - 0.96, 1.0, np.clip(kept, 0.0, 1.0))


def boxes(kept: np.ndarray, x: np.ndarray, y: np.ndarray, side: int) -> np.ndarray:
    """Boxes of area ``1 - kept`` of a square image, wholly inside it: top, bottom, left, right in pixels, ``[N, 4]``.

    Args:
        kept: share of the area outside the box.
        x, y: uniform numbers in [0, 1): the centre before it is moved inside.
    """
    half = 0.5 * side * np.sqrt(1.0 - kept)
    edges = []
    for centre in (y, x):
        centre = np.clip(centre * side, half, side - half)
        edges += [np.round(centre - half), np.round(centre + half)]
    return np.stack(edges, axis=1)


class MixingDraws:
    """Keys of images to their coefficients.

    Args:
        seed: of the run.
        micro_batch_size: images that may be mixed with each other.
        image_size: side in pixels.
        mixup_alpha: parameter of mixup's Beta distribution; 0 for no mixup.
        cutmix_lambda: see :func:`kept_area`; 1 for no CutMix.
    """

    def __init__(
        self, seed: int, micro_batch_size: int, image_size: int, mixup_alpha: float, cutmix_lambda: float
    ) -> None:
        self.seed, self.micro_batch_size, self.image_size = seed, micro_batch_size, image_size
        self.mixup_alpha, self.cutmix_lambda = mixup_alpha, cutmix_lambda

    def __call__(self, keys: Sequence[Key]) -> torch.Tensor:
        """Coefficients float32 ``[N, 6]`` for whole micro-batches of ``(epoch, index)`` keys.

        Columns: the image's own share in mixup (0.5 to 1), share of the area that CutMix keeps, and CutMix's box.
        """
        epochs, indices = np.array(keys, dtype=np.int64).reshape(-1, 2).T
        out = np.zeros((len(indices), COLUMNS), dtype=np.float64)
        out[:, MIXUP] = out[:, KEPT] = 1.0
        if self.mixup_alpha:
            draws = keyed.uniform(self.seed, keyed.MIXUP, epochs, indices, 2 * _TRIES)
            share = beta_variates(self.mixup_alpha, draws[:, :_TRIES], draws[:, _TRIES:])
            out[:, MIXUP] = np.maximum(share, 1.0 - share)  # an image is mostly itself
        if self.cutmix_lambda < 1:
            # a micro-batch is known by its first image
            first = slice(None, None, self.micro_batch_size)
            u, v, x, y = keyed.uniform(self.seed, keyed.CUTMIX, epochs[first], indices[first], 4).T
            box = boxes(kept_area(self.cutmix_lambda, u, v), x, y, self.image_size)
            area = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])
            rows = np.column_stack([1.0 - area / self.image_size**2, box])
            out[:, KEPT:] = np.repeat(rows, self.micro_batch_size, axis=0)[: len(out)]
        return torch.from_numpy(out.astype(np.float32))
