"""Proxy Norm's maths in torch (Labatie et al. 2021): the one source of the zoo's layer and of the composition here.

    Y = proxy_beta + (1 + proxy_gamma) * n,   n standard normal
    m = E[phi(gamma * Y + beta)],   s = 1 / sqrt(Var[phi(gamma * Y + beta)] + eps)

m and s are differentiable functions of the four vectors.
"""

import math
from typing import Callable, Optional, Tuple

import torch

Function = Callable[[torch.Tensor], torch.Tensor]


def proxy_pre_activation(
    beta: torch.Tensor, gamma: torch.Tensor, proxy_beta: torch.Tensor, proxy_gamma: torch.Tensor
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Mean and (signed) standard deviation [C] of the Gaussian gamma * Y + beta; four [C] in, two [C] out."""
    return torch.addcmul(beta, gamma, proxy_beta), torch.addcmul(gamma, gamma, proxy_gamma)


def sampled_moments(
    mean: torch.Tensor,
    std: torch.Tensor,
    phi: Function,
    points: torch.Tensor,
    weights: Optional[torch.Tensor] = None,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Mean and population variance [C] of phi(mean + std * n) over the points n [Q] with their weights [Q].

    Without weights all points count alike. Autograd keeps one [C, Q] tensor for ReLU and two for the other
    activations.
    """
    sample = phi(torch.addcmul(mean.unsqueeze(1), std.unsqueeze(1), points))
    if weights is None:
        variance, average = torch.var_mean(sample, dim=1, unbiased=False)
        return average, variance
    average = torch.sum(sample * weights, dim=1)
    centred = sample - average.unsqueeze(1)
    return average, torch.sum(centred * centred * weights, dim=1)


def relu_moments(mean: torch.Tensor, std: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance [C] of relu(mean + std * n), n standard normal, in closed form.

    With a = mean / |std|, Phi and p the normal distribution and density, and L(a) = p(a) - a * Phi(-a):
    E = |std| * (a + L(a)) and Var = std^2 * (Phi(a) - L(a) * (a + L(a))); the usual E[x^2] - E[x]^2 would
    cancel for channels that ReLU hardly cuts. The sign of std does not matter, since n is symmetric; std = 0
    gives relu(mean) and 0, with a zero gradient for std.
    """
    size = torch.clamp_min(torch.abs(std), 1e-12)
    a = mean / size
    density = torch.exp(-0.5 * a * a) * (1.0 / math.sqrt(2.0 * math.pi))
    above = 0.5 * torch.erfc(a * -math.sqrt(0.5))  # Phi(a)
    below = 0.5 * torch.erfc(a * math.sqrt(0.5))  # Phi(-a)
    loss = density - a * below
    gain = density + a * above
    return size * gain, size * size * (above - loss * gain)


def proxy_statistics(
    beta: torch.Tensor,
    gamma: torch.Tensor,
    proxy_beta: torch.Tensor,
    proxy_gamma: torch.Tensor,
    phi: Function,
    eps: float,
    points: Optional[torch.Tensor] = None,
    weights: Optional[torch.Tensor] = None,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """The proxy's mean m and inverse standard deviation s = 1 / sqrt(v + eps): four [C] in, two [C] out.

    Without points the expectation is ReLU's closed form; see ``sampled_moments`` for points and weights.
    """
    mean, std = proxy_pre_activation(beta, gamma, proxy_beta, proxy_gamma)
    if points is None:
        average, variance = relu_moments(mean, std)
    else:
        average, variance = sampled_moments(mean, std, phi, points, weights)
    return average, torch.rsqrt(variance + eps)
