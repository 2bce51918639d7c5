"""Convolutions and linear layers of normalised networks; convolutions with standardised weights where asked.

In mixed precision (half activations, float32 weights) PopTorch casts the weights of a convolution without bias. What
has a bias must be in one dtype before the call, or torch refuses it: such layers cast their weights here.
"""

import torch
import torch.nn.functional as F
from torch import nn


def standardise(weight: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """Weights [out, in, kh, kw] with mean 0 and variance 1 over each filter (Qiao et al. 2019, eq. 7)."""
    # not var_mean: PopTorch 3.4 drops the kept dimensions of its mean
    mean = weight.mean(dim=(1, 2, 3), keepdim=True)
    variance = weight.var(dim=(1, 2, 3), unbiased=False, keepdim=True)
    return (weight - mean) * torch.rsqrt(variance + eps)


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose filters are standardised before use (Weight Standardization, Qiao et al. 2019).

    A norm has to follow, since the filters lose their scale. Keeps for backward, beside what a convolution
    keeps, the standardised weights and the mean and inverse standard deviation of each filter. The
    statistics are taken in the dtype of the weights.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(
            x, standardise(self.weight), self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class Linear(nn.Linear):
    """A linear layer in the dtype of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class BiasedConv2d(nn.Conv2d):
    """A 1x1 convolution with bias in the dtype of its input: ``[N, in, H, W]`` to ``[N, out, H, W]``."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


def convolution(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    weight_standardisation: bool = False,
) -> nn.Conv2d:
    """A convolution without bias whose output has 1/stride of the input's size (odd kernels)."""
    make = StandardisedConv2d if weight_standardisation else nn.Conv2d
    return make(
        in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
