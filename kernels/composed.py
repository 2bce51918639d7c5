"""The kernels' operation composed from PyTorch's, for tensors and machines the kernels do not serve."""

import functools

import torch
import torch.nn.functional as F

from ipu_train.kernels.maths import proxy_statistics
from ipu_train.kernels.settings import Settings
from ipu_train.kernels.tables import points_and_weights

_FUNCTIONS = {"relu": torch.relu, "silu": F.silu}
_points_and_weights = functools.lru_cache(maxsize=None)(points_and_weights)


def norm_proxy_norm_act(
    x: torch.Tensor,
    beta: torch.Tensor,
    gamma: torch.Tensor,
    proxy_beta: torch.Tensor,
    proxy_gamma: torch.Tensor,
    settings: Settings,
) -> torch.Tensor:
    """See :func:`ipu_train.kernels.cpu.norm_proxy_norm_act`."""
    kind = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
    beta, gamma, proxy_beta, proxy_gamma = (p.to(kind) for p in (beta, gamma, proxy_beta, proxy_gamma))
    phi = _FUNCTIONS[settings.activation]
    points, weights = _points_and_weights(settings.activation, settings.expectation, settings.quantiles)
    points, weights = (None if t is None else t.to(beta) for t in (points, weights))
    mean, inverse = proxy_statistics(beta, gamma, proxy_beta, proxy_gamma, phi, settings.eps, points, weights)
    shape = (1, -1) + (1,) * (x.dim() - 2)
    z = x.to(kind)
    if settings.groups is not None:
        z = F.group_norm(z, settings.groups, eps=settings.norm_eps)
    z = phi(z * gamma.view(shape) + beta.view(shape))
    return ((z - mean.view(shape)) * inverse.view(shape)).to(x.dtype)
