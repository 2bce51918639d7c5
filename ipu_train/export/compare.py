"""Whether what was written computes what the network computes."""

import math
from typing import Callable, Sequence, Tuple

import torch
from torch import nn

from ..models import copied

BATCHES = (1, 7)
TOLERANCE = 1e-4


def largest_difference(
    ours: Callable[[torch.Tensor], torch.Tensor],
    theirs: Callable[[torch.Tensor], torch.Tensor],
    shape: Sequence[int],
) -> Tuple[float, float]:
    """The largest difference of logits, float32, over batches of 1 and of 7 random images, and the largest logit.

    What is not finite counts as infinite.

    Args:
        shape: (C, H, W) of one prepared image.
    """
    generator = torch.Generator().manual_seed(0)
    worst = largest = 0.0
    with torch.no_grad():
        for size in BATCHES:
            images = torch.randn(size, *shape, generator=generator)
            expected, found = ours(images).double(), theirs(images).double()
            worst = max(worst, _largest(found - expected))
            largest = max(largest, _largest(expected))
    return worst, largest


def _largest(values: torch.Tensor) -> float:
    """The largest absolute value, of which NaN is none to Python's ``max``."""
    return float(values.abs().max()) if bool(torch.isfinite(values).all()) else math.inf


def agrees(difference: float, largest: float) -> bool:
    """Whether a difference is rounding: 1e-4, or that share of the largest logit where logits are above 1."""
    return math.isfinite(difference) and difference <= TOLERANCE * max(1.0, largest)


def own_rounding(network: nn.Module, shape: Sequence[int]) -> float:
    """What float32 itself costs a network: the largest difference of its logits from float64's, over the same batches.

    Norms over few pixels can amplify the last bit of a convolution to 1e-3 of a logit (an instance of 2 x 2).
    """
    exact = copied(network).double()
    return largest_difference(lambda images: exact(images.double()), network, shape)[0]
