"""The discrete proxy: points and weights that stand for a standard normal variable.

The paper's implementation takes the mid-point quantiles of the normal distribution, 200 of them, with equal
weights (Graphcore's public code of Labatie et al. 2021). They have the variance 0.9936, not one; ``exact``
means the true Gaussian expectation.
"""

import functools
import math

import torch

EXPECTATIONS = ("quantiles", "exact")
ACTIVATIONS = ("relu", "silu")


@functools.lru_cache(maxsize=None)
def quantile_points(quantiles: int) -> torch.Tensor:
    """``sqrt(2) erfinv(2 (i + 1/2) / K - 1)`` for i = 0..K-1: ``[K]``, float64, ascending, symmetric."""
    ranks = torch.arange(quantiles, dtype=torch.float64)
    points = math.sqrt(2.0) * torch.erfinv((2.0 * ranks + 1.0) / quantiles - 1.0)
    return (points - points.flip(0)) / 2.0  # symmetric to the last bit


@functools.lru_cache(maxsize=None)
def points_and_weights(activation: str, expectation: str, quantiles: int):
    """Points and weights (``[K]`` each, float64) of the proxy.

    For the exact expectation of SiLU: the trapezoidal rule at a step of 1/16 on [-9, 9], whose error for an
    analytic function under a Gaussian falls like exp(-2 pi a / step), a the distance of the nearest pole
    (pi / sigma for the sigmoid): below 1e-10 up to sigma = 13. ReLU has a closed form and reads no points.
    """
    if expectation == "exact" and activation != "relu":
        points = torch.arange(-144, 145, dtype=torch.float64) / 16.0
        weights = torch.exp(-0.5 * points * points)
    else:
        points = quantile_points(quantiles)
        weights = torch.ones_like(points)
    return points, weights / weights.sum()


@functools.lru_cache(maxsize=None)
def proxy_table(activation: str, expectation: str, quantiles: int, dtype: torch.dtype) -> torch.Tensor:
    """The kernels' table in one row: points ``[K]``, weights ``[K]`` and the tail sums (``[K + 1]`` each) of
    w, w n and w n^2 over the points from k on, zero at the end."""
    points, weights = points_and_weights(activation, expectation, quantiles)
    zero = torch.zeros(1, dtype=torch.float64)
    tails = [torch.cat([(weights * points**power).flip(0).cumsum(0).flip(0), zero]) for power in range(3)]
    return torch.cat([points, weights] + tails).to(dtype)
