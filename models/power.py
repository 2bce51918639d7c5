"""The power decomposition of Labatie et al. 2021: what a norm's output is made of, channel by channel.

For the output y of a norm, before its affine step, with mean mu and standard deviation sigma over the
pixels of image x:

    P1 = (E_x mu)^2       near 1: the channel is nearly one constant for all images (collapse)
    P2 = Var_x mu         how much the images' means differ
    P3 = (E_x sigma)^2
    P4 = Var_x sigma      how much the images' contrasts differ

P1 + P2 + P3 + P4 = E[y^2] exactly, which is 1 after batch, layer and group norm. Batch norm has P1 = 0;
instance norm has P3 = 1 alone.
"""

from typing import Dict, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .norm_layers import NormActivation


class Powers(NamedTuple):
    """Averages over channels, each a 0-d float64 tensor."""

    squared_mean_of_means: torch.Tensor
    variance_of_means: torch.Tensor
    squared_mean_of_stds: torch.Tensor
    variance_of_stds: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        return torch.stack(tuple(self)).sum()


def power_decomposition(y: torch.Tensor) -> Powers:
    """P1 to P4 of [N, C, H, W], averaged over channels, in float64.

    An estimate of P1 from N images is too high by about P2 / N.
    """
    y = y.detach().double().flatten(2)
    means = y.mean(2)  # [N, C]
    stds = y.var(2, unbiased=False).sqrt()
    return Powers(
        means.mean(0).square().mean(),
        means.var(0, unbiased=False).mean(),
        stds.mean(0).square().mean(),
        stds.var(0, unbiased=False).mean(),
    )


@torch.no_grad()
def site_powers(model: nn.Module, images: torch.Tensor) -> Dict[str, Powers]:
    """P1 to P4 at every norm that an activation follows, by name, in the order of execution.

    Norms with an activation of their own (EvoNorm, FRN) have no such place and are left out.

    Args:
        images: [N, C, H, W], as the model takes them. The model is run once, in the mode it is in; batch
            norm in training mode updates its running statistics once.
    """
    powers: Dict[str, Powers] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, NormActivation):
            hooks.append(module.norm.register_forward_pre_hook(_recorder(name, powers)))
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return powers


def _recorder(name: str, powers: Dict[str, Powers]):
    def record(norm, arguments):
        powers[name] = power_decomposition(_without_affine(norm, arguments[0]))

    return record


def _without_affine(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The output of the norm for x, before any affine step, leaving running statistics alone."""
    if isinstance(norm, nn.BatchNorm2d):
        mean, var = (None, None) if norm.training else (norm.running_mean, norm.running_var)
        return F.batch_norm(x, mean, var, training=norm.training, eps=norm.eps)
    channels = x.shape[1]
    return norm.forward(x, x.new_ones(channels), x.new_zeros(channels))
