"""Convolutions of normalised networks, with standardised weights where asked."""

import torch
import torch.nn.functional as F
from torch import nn


def standardise(weight: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """Weights [out, in, kh, kw] with mean 0 and variance 1 over each filter (Qiao et al. 2019, eq. 7)."""
    variance, mean = torch.var_mean(weight, dim=(1, 2, 3), unbiased=False, keepdim=True)
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
