"""Stochastic depth: residual branches that are left out for some images in training."""

import torch
import torch.nn.functional as F
from torch import nn


class StochasticDepth(nn.Module):
    """Drops the branch of each image with probability ``rate`` in training, else divides it by 1 - rate.

    Huang et al. 2016. Shape: [N, C, H, W] to the same. Random numbers: one for each image.
    """

    mode = "row"

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x
        # Dropout of ones is the mask of images, in a single random operation that every backend has.
        return x * F.dropout(x.new_ones((x.shape[0], 1, 1, 1)), self.rate, training=True)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.4g}"
