"""The mobile inverted bottleneck of EfficientNet, with squeeze-and-excite."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import nn

from .activations import activation as find_activation
from .convolutions import BiasedConv2d
from .norms import Norms
from .proxy_norm import broadcastable
from .stochastic_depth import StochasticDepth


class SqueezeExcite(nn.Module):
    """x * sigmoid(expand(phi(squeeze(mean_{H,W} x)))), Hu et al. 2017; both maps are 1x1 convolutions with
    bias.

    Given Proxy Norm's delayed ``scale`` s [C], x is unscaled and the result is x * (gate * s): one
    multiplication of full size instead of two. The squeeze then sees unscaled values. This equals scaling
    first with the squeeze's weights divided by s (for each input channel): a reparameterisation, with
    another starting point and other steps, but the same set of functions. Shape: [N, C, H, W] to the same.
    """

    def __init__(self, channels: int, squeezed: int, activation: str):
        super().__init__()
        self.squeeze = BiasedConv2d(channels, squeezed)
        self.expand = BiasedConv2d(squeezed, channels)
        self.phi = find_activation(activation)

    def forward(self, x: torch.Tensor, scale: Optional[torch.Tensor] = None) -> torch.Tensor:
        gate = self.phi.function(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        gate = torch.sigmoid(self.expand(gate))
        if scale is not None:
            gate = gate * broadcastable(scale, gate.dim())
        return x * gate


class MBConv(nn.Module):
    """expand 1x1 - norm - act - group conv - norm - act - squeeze-excite - project 1x1 - norm (- add).

    The expansion is absent when its ratio is 1; the residual is present when stride and width allow. The
    norm after the projection has no activation: no Proxy Norm there, and no shift with Proxy Norm elsewhere.

    Args:
        group_size: channels of each group of the group convolution: 1 is depthwise. There are
            max(channels // group_size, 1) groups, so groups may be a little larger where it does not divide.
        squeeze_excite: channels of the squeeze as a fraction of ``in_channels``; 0 for no squeeze-excite.
        drop_rate: of stochastic depth.
        delay_scale: see ``SqueezeExcite``. Without squeeze-excite the scale is applied in place.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        norms: Norms,
        expansion: int,
        group_size: int,
        activation: str,
        squeeze_excite: float,
        drop_rate: float,
        delay_scale: bool,
    ):
        super().__init__()
        inner = in_channels * expansion
        self.expand_conv: Optional[nn.Module] = None
        self.expand_norm: Optional[nn.Module] = None
        self.squeeze_excite: Optional[nn.Module] = None
        if expansion != 1:
            self.expand_conv = norms.convolution(in_channels, inner, 1)
            self.expand_norm = norms.activated(inner, activation)
        groups = max(inner // group_size, 1)
        if inner % groups:
            raise ValueError(
                f"{inner} channels cannot be split into {groups} groups of about {group_size}: choose "
                "another width"
            )
        delay_scale = delay_scale and squeeze_excite > 0
        self.group_conv = norms.convolution(inner, inner, kernel, stride, groups)
        self.group_conv_norm = norms.activated(inner, activation, delay_scale=delay_scale)
        self.is_unscaled = delay_scale and norms.proxy is not None
        if squeeze_excite > 0:
            squeezed = max(1, int(in_channels * squeeze_excite))
            self.squeeze_excite = SqueezeExcite(inner, squeezed, activation)
        self.project_conv = norms.convolution(inner, out_channels, 1)
        self.project_norm = norms.before_addition(out_channels)
        self.drop = StochasticDepth(drop_rate)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, scale = x, None
        if self.expand_conv is not None and self.expand_norm is not None:
            out = self.expand_norm(self.expand_conv(out))
        out = self.group_conv_norm(self.group_conv(out))
        if self.is_unscaled:
            out, scale = out
        if self.squeeze_excite is not None:
            out = self.squeeze_excite(out, scale)
        out = self.project_norm(self.project_conv(out))
        return self.drop(out) + x if self.is_residual else out
