"""Residual blocks of He et al. 2015 with any norm: convolutions, norms by their place, shortcuts."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import nn

from .norms import Norms


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias whose output has 1/stride of the input's size (odd kernels)."""
    return nn.Conv2d(
        in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )


class ProjectionShortcut(nn.Module):
    """Shortcut B: 1x1 convolution and a norm. The sum follows, so the norm is one "before addition"."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norms: Norms):
        super().__init__()
        self.conv = conv(in_channels, out_channels, 1, stride)
        self.norm = norms.before_addition(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class PaddingShortcut(nn.Module):
    """Shortcut A: every stride-th pixel, and zeros for the new channels, half of them on each side. No
    parameters.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


def make_shortcut(
    kind: str, in_channels: int, out_channels: int, stride: int, norms: Norms
) -> Optional[nn.Module]:
    """None where the identity fits, else shortcut "A" (padding) or "B" (projection)."""
    if stride == 1 and in_channels == out_channels:
        return None
    if kind == "A":
        return PaddingShortcut(in_channels, out_channels, stride)
    return ProjectionShortcut(in_channels, out_channels, stride, norms)


class ResidualBlock(nn.Module):
    """relu(branch(x) + shortcut(x)); what the two kinds of post-activation block share.

    The ReLU after the addition follows no norm, so it takes no Proxy Norm.
    """

    shortcut: Optional[nn.Module]

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.branch(x)
        out += x if self.shortcut is None else self.shortcut(x)  # a norm's output is ours to overwrite
        return F.relu(out, inplace=True)


class BasicBlock(ResidualBlock):
    """conv3x3 - norm - relu - conv3x3 - norm. Shape: [N, in, H, W] to [N, width, H/stride, W/stride]."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, norms: Norms, shortcut: str = "B"):
        super().__init__()
        self.conv1 = conv(in_channels, width, 3, stride)
        self.norm1 = norms.activated(width)
        self.conv2 = conv(width, width, 3)
        self.norm2 = norms.before_addition(width)
        self.shortcut = make_shortcut(shortcut, in_channels, width, stride, norms)

    @property
    def last_norm(self) -> nn.Module:
        return self.norm2

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm2(self.conv2(self.norm1(self.conv1(x))))


class Bottleneck(ResidualBlock):
    """conv1x1 - norm - relu - conv3x3 (with the stride: "v1.5") - norm - relu - conv1x1 - norm.

    Shape: [N, in, H, W] to [N, 4 * width, H/stride, W/stride].
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, norms: Norms, shortcut: str = "B"):
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = conv(in_channels, width, 1)
        self.norm1 = norms.activated(width)
        self.conv2 = conv(width, width, 3, stride)
        self.norm2 = norms.activated(width)
        self.conv3 = conv(width, out_channels, 1)
        self.norm3 = norms.before_addition(out_channels)
        self.shortcut = make_shortcut(shortcut, in_channels, out_channels, stride, norms)

    @property
    def last_norm(self) -> nn.Module:
        return self.norm3

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(self.conv1(x))
        x = self.norm2(self.conv2(x))
        return self.norm3(self.conv3(x))
