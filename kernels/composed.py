"""The kernels' operation composed from PyTorch's, for tensors and machines the kernels do not serve."""

from typing import Tuple

import torch
import torch.nn.functional as F

from ipu_train.kernels.tables import points_and_weights


def proxy_statistics(
    beta: torch.Tensor,
    gamma: torch.Tensor,
    proxy_beta: torch.Tensor,
    proxy_gamma: torch.Tensor,
    activation: str,
    eps: float,
    expectation: str,
    quantiles: int,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Mean and inverse standard deviation of the activated proxy, ``[C]`` each (Labatie et al. 2021)."""
    mu, sigma = beta + gamma * proxy_beta, gamma * (1.0 + proxy_gamma)
    if expectation == "exact" and activation == "relu":
        return _rectified_gaussian(mu, sigma, eps)
    points, weights = (t.to(mu) for t in points_and_weights(activation, expectation, quantiles))
    values = _activate(mu[:, None] + sigma[:, None] * points, activation)
    mean = (values * weights).sum(1)
    variance = ((values - mean[:, None]).square() * weights).sum(1)
    return mean, torch.rsqrt(variance + eps)


def norm_proxy_norm_act(
    x, groups, beta, gamma, proxy_beta, proxy_gamma, activation, eps, norm_eps, expectation, quantiles
) -> torch.Tensor:
    """See :func:`ipu_train.kernels.cpu.norm_proxy_norm_act`."""
    kind = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
    parameters = [p.to(kind) for p in (beta, gamma, proxy_beta, proxy_gamma)]
    mean, inverse = proxy_statistics(*parameters, activation, eps, expectation, quantiles)
    shape = (1, -1) + (1,) * (x.dim() - 2)
    z = x.to(kind) if groups is None else F.group_norm(x.to(kind), groups, eps=norm_eps)
    z = _activate(z * parameters[1].view(shape) + parameters[0].view(shape), activation)
    return ((z - mean.view(shape)) * inverse.view(shape)).to(x.dtype)


def _activate(z: torch.Tensor, activation: str) -> torch.Tensor:
    return torch.relu(z) if activation == "relu" else F.silu(z)


def _rectified_gaussian(mu, sigma, eps):
    """ReLU of a normal variable in closed form; the variance is written so that nothing large cancels."""
    sign = torch.where(sigma < 0, -1.0, 1.0).to(sigma)
    sigma = sigma * sign  # |sigma| with a gradient at zero
    t = mu / sigma.clamp_min(1e-30)
    p = 0.5 * torch.erfc(t * -0.7071067811865476)
    density = 0.3989422804014327 * torch.exp(-0.5 * t * t)
    # Moments are polynomials in mu and sigma around constant p and density, of which they are stationary
    # integrals: differentiating those constants would only add terms that cancel.
    p, density, t = p.detach(), density.detach(), t.detach().clamp(-40.0, 40.0)
    q, b = 1.0 - p, p - t * density
    mean = p * mu + density * sigma
    variance = p * q * mu * mu + 2.0 * density * q * mu * sigma + (b - density * density) * sigma * sigma
    return mean, torch.rsqrt(variance.clamp_min(0.0) + eps)
