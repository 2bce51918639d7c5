"""A network whose weights no longer change: what follows from weights alone becomes constants.

Proxy Norm's statistics follow from its parameters, so they and the affine step before them become a scale and a shift
of each channel; standardised convolutions get the weights that they standardise to. Both compute what they computed
before.
"""

from typing import Optional, Tuple

import torch
from torch import nn

from .activations import activation as find_activation
from .convolutions import StandardisedConv2d, standardise
from .copying import copied
from .norm_layers import NormActivation
from .proxy_norm import ProxyNorm, broadcastable, renormalise


class FoldedProxyNorm(nn.Module):
    """A ``ProxyNorm`` with constant statistics; used in its place, with the same results.

    out = phi(weight * y + bias) * scale + shift, each a [C] buffer; scale is None where it is within weight and bias.
    With ``delayed`` the scale is handed on instead, see ``NormActivation``.
    """

    def __init__(self, proxy: ProxyNorm, delayed: bool) -> None:
        super().__init__()
        dtype = proxy.beta.dtype
        with torch.no_grad():
            found = proxy.delayed_coefficients(dtype) if delayed else proxy.coefficients(dtype)
        self.phi = find_activation(proxy.activation)
        for name, value in zip(("weight", "bias", "scale", "shift"), found):
            self.register_buffer(name, None if value is None else value.detach().clone())

    def coefficients(
        self, dtype: torch.dtype
    ) -> Tuple[torch.Tensor, torch.Tensor, Optional[torch.Tensor], torch.Tensor]:
        """(weight, bias, scale, shift) in ``dtype``, as ``ProxyNorm`` gives them."""
        scale = None if self.scale is None else self.scale.to(dtype)
        return self.weight.to(dtype), self.bias.to(dtype), scale, self.shift.to(dtype)

    delayed_coefficients = coefficients

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        weight, bias, scale, shift = self.coefficients(y.dtype)
        z = y * broadcastable(weight, y.dim()) + broadcastable(bias, y.dim())
        return renormalise(self.phi.function(z), scale, shift)


def folded(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode with constants in the place of what its weights imply; float32 and float64."""
    result = copied(network).eval()
    for module in list(result.modules()):
        delayed = False
        if isinstance(module, NormActivation):
            module.kernel, delayed = None, module.delay_scale
        for name, child in list(module.named_children()):
            if isinstance(child, ProxyNorm):
                setattr(module, name, FoldedProxyNorm(child, delayed))
            elif isinstance(child, StandardisedConv2d):
                setattr(module, name, _plain(child))
    return result


def _plain(convolution: StandardisedConv2d) -> nn.Conv2d:
    """A convolution with the weights that a standardised one standardises to."""
    c = convolution
    plain = nn.Conv2d(
        c.in_channels,
        c.out_channels,
        c.kernel_size,  # type: ignore[arg-type]
        c.stride,  # type: ignore[arg-type]
        c.padding,  # type: ignore[arg-type]
        c.dilation,  # type: ignore[arg-type]
        c.groups,
        bias=c.bias is not None,
    ).to(c.weight.device, c.weight.dtype)
    with torch.no_grad():
        plain.weight.copy_(standardise(c.weight))
        if c.bias is not None and plain.bias is not None:
            plain.bias.copy_(c.bias)
    return plain.eval()
