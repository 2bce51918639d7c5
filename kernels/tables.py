"""The discrete proxy: points and weights that stand for a standard normal variable.

The paper's implementation takes the mid-point quantiles of the normal distribution, 200 of them, with equal
weights (Graphcore's public code of Labatie et al. 2021). They have the variance 0.9936, not one; ``exact``
means the true Gaussian expectation.
"""

import functools
import math
from typing import List, Optional, Tuple

import torch


def quantile_points(quantiles: int) -> torch.Tensor:
    """The mid-point quantiles of a standard normal variable, ``sqrt(2) erfinv(2 (i + 1/2) / K - 1)`` for
    i = 0..K-1: ``[K]``, float64, ascending, symmetric, on the CPU."""
    ranks = torch.arange(quantiles, dtype=torch.float64, device="cpu")
    points = math.sqrt(2.0) * torch.erfinv((2.0 * ranks + 1.0) / quantiles - 1.0)
    return (points - points.flip(0)) / 2.0  # symmetric to the last bit


def gauss_rule(points: torch.Tensor, weights: torch.Tensor, nodes: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """The points and weights, ``nodes`` of them, that sum any polynomial of degree below ``2 * nodes`` as the
    given ones do, of a distribution symmetric about zero (Golub and Welsch 1969)."""
    before, now = torch.zeros_like(points), torch.ones_like(points)
    off_diagonal: List[float] = []
    for _ in range(nodes - 1):
        following = points * now - (off_diagonal[-1] if off_diagonal else 0.0) * before
        off_diagonal.append((weights * following * following).sum().sqrt().item())
        before, now = now, following / off_diagonal[-1]
    diagonal = torch.tensor(off_diagonal, dtype=points.dtype)
    values, vectors = torch.linalg.eigh(torch.diag(diagonal, 1) + torch.diag(diagonal, -1))
    return (values - values.flip(0)) / 2.0, vectors[0] ** 2


def points_and_weights(
    activation: str, expectation: str, quantiles: int
) -> Tuple[Optional[torch.Tensor], Optional[torch.Tensor]]:
    """Points and weights (``[K]`` each, float64) of the proxy; no weights: all points count alike.

    For the exact expectation of ReLU neither: it has a closed form. For that of others: the trapezoidal rule at
    a step of 1/16 on [-9, 9], whose error for an analytic function under a Gaussian falls like
    exp(-2 pi a / step), a the distance of the nearest pole (pi / sigma for the sigmoid): below 1e-10 up to
    sigma = 13.
    """
    if expectation == "exact":
        return (None, None) if activation == "relu" else trapezoid(144, 16.0)
    return quantile_points(quantiles), None


@functools.lru_cache(maxsize=None)
def smooth_rules(expectation: str, quantiles: int) -> List[Tuple[torch.Tensor, torch.Tensor]]:
    """SiLU's points and weights for ``|sigma|`` up to 1.4, up to 4 and beyond. The first two are fewer and
    give the sums over all of them to 1e-8 of sigma^2, enough for float32: Gauss rules of the quantiles, or
    coarser trapezoidal rules."""
    if expectation == "exact":
        return [trapezoid(17, 2.5), trapezoid(35, 5.0), trapezoid(144, 16.0)]
    points = quantile_points(quantiles)
    every = points, torch.full_like(points, 1.0 / quantiles)
    return [gauss_rule(*every, nodes) if quantiles > nodes else every for nodes in (16, 32)] + [every]


def trapezoid(side: int, per_unit: float) -> Tuple[torch.Tensor, torch.Tensor]:
    """The trapezoidal rule for a standard normal variable: ``side`` points on either side of zero, at ``per_unit`` a
    unit, and their weights, which add up to one; ``[2 * side + 1]`` each, float64, on the CPU."""
    points = torch.arange(-side, side + 1, dtype=torch.float64, device="cpu") / per_unit
    weights = torch.exp(-0.5 * points * points)
    return points, weights / weights.sum()


@functools.lru_cache(maxsize=None)
def proxy_table(
    activation: str, expectation: str, quantiles: int, dtype: torch.dtype
) -> Tuple[torch.Tensor, Tuple[int, int, int]]:
    """The kernels' table in one row, and how many points its parts hold.

    ReLU: points ``[K]`` and the tail sums (``[K + 1]`` each) of w, w n and w n^2 over the points from k on,
    zero at the end; for its exact expectation nothing. SiLU: points and weights of :func:`smooth_rules`.
    """
    if activation == "relu" and expectation == "exact":
        return torch.zeros(1, dtype=dtype), (0, 0, 0)
    if activation == "relu":
        points = quantile_points(quantiles)
        zero = torch.zeros(1, dtype=torch.float64)
        tails = [
            torch.cat([(points**power / quantiles).flip(0).cumsum(0).flip(0), zero]) for power in range(3)
        ]
        return torch.cat([points] + tails).to(dtype), (quantiles, 0, 0)
    rules = smooth_rules(expectation, quantiles)
    row = torch.cat([part for rule in rules for part in rule])
    one, two, three = (len(points) for points, _ in rules)
    return row.to(dtype), (one, two, three)
