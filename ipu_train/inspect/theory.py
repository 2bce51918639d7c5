"""Mean-field theory of layer norm in random networks: how fast channels collapse to constants.

In an infinitely wide network with random weights P1 of layer norm's output is q, the mean correlation of two
unrelated places, and one layer maps it to (notes on Labatie et al. 2021; the map of Cho and Saul 2009 where the affine
steps are trivial)

    q' = E[phi(gamma u + beta) phi(gamma v + beta)] / E[phi(gamma u + beta)^2]

with u, v unit Gaussians of correlation q and gamma ~ N(1, s_g^2), beta ~ N(0, s_b^2). Near collapse 1 - q shrinks by

    rho = E[gamma^2 phi'(gamma u + beta)^2] / E[phi(gamma u + beta)^2]

a layer, for ReLU (1 + s_g^2) / (1 + s_g^2 + s_b^2).
"""

import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from ..models.activations import activation as find_activation

_POINTS = 64


def _gaussian_points() -> Tuple[torch.Tensor, torch.Tensor]:
    """Gauss-Hermite points and weights of a standard normal variable: two [_POINTS], float64."""
    points, weights = np.polynomial.hermite_e.hermegauss(_POINTS)
    return torch.from_numpy(points), torch.from_numpy(weights / weights.sum())


def _expectations(q: float, activation: str, gamma_std: float, beta_std: float) -> Tuple[float, float]:
    """E[phi(z1) phi(z2)] and E[phi(z1)^2]; given gamma, z1 and z2 are Gaussian with a common beta."""
    phi = find_activation(activation).function
    points, weights = _gaussian_points()
    both = alone = 0.0
    for point, weight in zip(points.tolist(), weights.tolist()) if gamma_std else [(0.0, 1.0)]:
        gamma = 1.0 + gamma_std * point
        variance = gamma**2 + beta_std**2
        correlation = (gamma**2 * q + beta_std**2) / variance
        std = math.sqrt(variance)
        if activation == "relu":
            half = variance / 2
            both += weight * half * arc_cosine(correlation)
            alone += weight * half
            continue
        first = points.unsqueeze(1)
        second = correlation * first + math.sqrt(max(0.0, 1 - correlation**2)) * points
        product = phi((std * first).clone()) * phi(std * second)
        both += weight * float((product * weights.unsqueeze(1) * weights).sum())
        alone += weight * float((phi(std * points).square() * weights).sum())
    return both, alone


def arc_cosine(q: float) -> float:
    """E[relu(u) relu(v)] / E[relu(u)^2] for unit Gaussians of correlation q (Cho and Saul 2009, order 1)."""
    q = min(1.0, max(-1.0, q))
    return (math.sqrt(1 - q * q) + q * (math.pi - math.acos(q))) / math.pi


def predicted_collapse(
    depth: int, activation: str = "relu", gamma_std: float = 0.2, beta_std: float = 0.2
) -> List[float]:
    """P1 of layer norm at depths 1 to ``depth``, for independent inputs."""
    q = [0.0]
    for _ in range(depth - 1):
        both, alone = _expectations(q[-1], activation, gamma_std, beta_std)
        q.append(both / alone)
    return q


def predicted_rate(activation: str = "relu", gamma_std: float = 0.2, beta_std: float = 0.2) -> float:
    """rho: the factor of 1 - P1 for each layer near collapse."""
    if activation == "relu":
        return (1 + gamma_std**2) / (1 + gamma_std**2 + beta_std**2)
    phi = find_activation(activation).function
    points, weights = _gaussian_points()
    slope = power = 0.0
    for point, weight in zip(points.tolist(), weights.tolist()) if gamma_std else [(0.0, 1.0)]:
        gamma = 1.0 + gamma_std * point
        z = (math.sqrt(gamma**2 + beta_std**2) * points).requires_grad_()
        values = phi(z.clone())
        (gradient,) = torch.autograd.grad(values.sum(), z)
        slope += weight * gamma**2 * float((gradient.square() * weights).sum())
        power += weight * float((values.detach().square() * weights).sum())
    return slope / power


class Rate(NamedTuple):
    """An estimate of rho and its standard error."""

    value: float
    error: float


def estimated_rate(
    collapses: Sequence[Sequence[float]],
    activation: str = "relu",
    gamma_std: float = 0.2,
    beta_std: float = 0.2,
    width: Optional[int] = None,
) -> Optional[Rate]:
    """rho from P1 of layer norm at depths 1, 2, ... of one or more networks; None where no channel comes near collapse.

    The ratio of 1 - q in consecutive layers is rho - c (1 - q)^p with p = 1/2 for ReLU, whose kink costs
    (1 - q)^(3/2), and p = 1 for smooth activations. c is taken from theory, rho is the mean over all layers from
    1 - q = 0.5 on. Networks of finite width have larger ratios by some 4 / width (``finite_width_excess``), which is
    taken out where the width is given. A ratio scatters by about 2 / sqrt(width), as the images differ in few
    directions there; the estimate by that over the square root of the number of layers and networks.
    """
    power = 0.5 if activation == "relu" else 1.0
    theory = _ratios(predicted_collapse(200, activation, gamma_std, beta_std), power)
    measured = [_ratios(collapse, power) for collapse in collapses if max(collapse) > 0.8]
    pairs = [pair for ratios in measured for pair in ratios]
    if len(pairs) < 4 or len(theory) < 4:
        return None
    x, y = (torch.tensor(values, dtype=torch.float64) for values in zip(*theory))
    design = torch.stack((torch.ones_like(x), x), dim=1)
    slope = float(torch.linalg.lstsq(design, y.unsqueeze(1)).solution[1])
    excess = finite_width_excess(activation, gamma_std, beta_std) / width if width else 0.0
    rates = torch.tensor(
        [ratio / (1 + excess) - slope * where for where, ratio in pairs], dtype=torch.float64
    )
    return Rate(float(rates.mean()), float(rates.std()) / math.sqrt(len(rates)))


def finite_width_excess(activation: str, gamma_std: float, beta_std: float) -> float:
    """What a ratio of 1 - q is too large by, near collapse, as a share of rho / width in first order.

    A layer multiplies 1 - q by a mean over channels of gamma^2 phi'^2 divided by one of phi^2. The mean of such a
    quotient exceeds the quotient of the means by the variance of the divisor less their covariance, over the width.
    """
    phi = find_activation(activation).function
    points, weights = (part.tolist() for part in _gaussian_points())
    u = torch.arange(-8.0, 8.0, 1 / 64, dtype=torch.float64)  # fine enough for the kink of ReLU
    density = torch.exp(-u.square() / 2)
    density /= density.sum()
    slope = power = power_square = both = 0.0
    for point, weight in zip(points, weights) if gamma_std else [(0.0, 1.0)]:
        gamma = 1.0 + gamma_std * point
        z = (math.sqrt(gamma**2 + beta_std**2) * u).requires_grad_()
        values = phi(z.clone())
        (gradient,) = torch.autograd.grad(values.sum(), z)
        slopes, powers = (gamma * gradient).square(), values.detach().square()
        slope += weight * float((slopes * density).sum())
        power += weight * float((powers * density).sum())
        power_square += weight * float((powers.square() * density).sum())
        both += weight * float((slopes * powers * density).sum())
    return power_square / power**2 - both / (slope * power)


def _ratios(collapse: Sequence[float], power: float) -> List[Tuple[float, float]]:
    """(1 - q)^power of each layer near collapse, and the factor of 1 - q to the next layer."""
    rest = [1 - q for q in collapse]
    return [(a**power, b / a) for a, b in zip(rest, rest[1:]) if 1e-4 < a < 0.5 and b > 0]
