"""Residual blocks with any norm: post-activation (He et al. 2015) and pre-activation (He et al. 2016)."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import nn

from .norms import Norms
from .options import OptionError


class ProjectionShortcut(nn.Module):
    """Shortcut B: 1x1 convolution and a norm. The sum follows, so the norm is one "before addition"."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norms: Norms):
        super().__init__()
        self.conv = norms.convolution(in_channels, out_channels, 1, stride)
        self.norm = norms.before_addition(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class PaddingShortcut(nn.Module):
    """Shortcut A: every stride-th pixel, and zeros for the new channels, half of them on each side."""

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

    The ReLU after the addition follows no norm, so it has no Proxy Norm unless ``after_addition`` is one
    (``Norms.after_addition``). Its proxy is that of the sum of two terms of unit power, which the branch's norm and a
    shortcut that Proxy Norm has normalised give, scaled by 1 / sqrt(2) to one of unit power.
    """

    shortcut: Optional[nn.Module]
    after_addition: Optional[nn.Module]
    drop: Optional[nn.Module]

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.branch(x)
        if self.drop is not None:
            out = self.drop(out)
        out += x if self.shortcut is None else self.shortcut(x)  # a norm's output is ours to overwrite
        if self.after_addition is not None:
            return self.after_addition(out * 0.5**0.5)
        return F.relu(out, inplace=True)


class BasicBlock(ResidualBlock):
    """conv3x3 - norm - relu - conv3x3 - norm. Shape: [N, in, H, W] to [N, width, H/stride, W/stride]."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, norms: Norms, shortcut: str = "B"):
        super().__init__()
        self.conv1 = norms.convolution(in_channels, width, 3, stride)
        self.norm1 = norms.activated(width)
        self.conv2 = norms.convolution(width, width, 3)
        self.norm2 = norms.before_addition(width)
        self.drop = None  # stochastic depth of the branch
        self.shortcut = make_shortcut(shortcut, in_channels, width, stride, norms)
        self.after_addition = norms.after_addition(width)

    @property
    def last_norm(self) -> nn.Module:
        return self.norm2

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm2(self.conv2(self.norm1(self.conv1(x))))


class Bottleneck(ResidualBlock):
    """conv1x1 - norm - relu - conv3x3 (with the stride: "v1.5") - norm - relu - conv1x1 - norm.

    ``groups`` and ``group_width`` make it the block of ResNeXt (Xie et al. 2016): 3x3 convolutions of
    ``groups`` groups, each ``group_width`` channels wide where ``width`` is 64.

    Shape: [N, in, H, W] to [N, 4 * width, H/stride, W/stride].
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        norms: Norms,
        shortcut: str = "B",
        groups: int = 1,
        group_width: int = 64,
    ):
        super().__init__()
        out_channels = width * self.expansion
        channels_of_group = width * group_width // 64
        if channels_of_group < 1:
            raise OptionError(
                "group_width",
                f"group_width is {group_width}, which leaves groups without a channel where width is {width}: choose "
                "a larger width or group_width",
            )
        inner = channels_of_group * groups
        self.conv1 = norms.convolution(in_channels, inner, 1)
        self.norm1 = norms.activated(inner)
        self.conv2 = norms.convolution(inner, inner, 3, stride, groups)
        self.norm2 = norms.activated(inner)
        self.conv3 = norms.convolution(inner, out_channels, 1)
        self.norm3 = norms.before_addition(out_channels)
        self.drop = None  # stochastic depth of the branch
        self.shortcut = make_shortcut(shortcut, in_channels, out_channels, stride, norms)
        self.after_addition = norms.after_addition(out_channels)

    @property
    def last_norm(self) -> nn.Module:
        return self.norm3

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(self.conv1(x))
        x = self.norm2(self.conv2(x))
        return self.norm3(self.conv3(x))


class PreActivationBlock(nn.Module):
    """branch(relu(norm1(x))) + shortcut; what the two kinds of pre-activation block share.

    Every norm has its activation, so each takes Proxy Norm. Where the shape changes, the shortcut is a 1x1 convolution,
    without a norm, of the first activation (He et al. 2016, section 4.1).
    """

    norm1: nn.Module
    shortcut: Optional[nn.Module]
    drop: Optional[nn.Module]

    def branch(self, activated: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.norm1(x)
        out = self.branch(activated)
        if self.drop is not None:
            out = self.drop(out)
        return out + (x if self.shortcut is None else self.shortcut(activated))


class PreActivationBasicBlock(PreActivationBlock):
    """norm - relu - conv3x3 (stride) - norm - relu - conv3x3, added to the shortcut.

    Shape: [N, in, H, W] to [N, width, H/stride, W/stride].
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, norms: Norms):
        super().__init__()
        self.norm1 = norms.activated(in_channels)
        self.conv1 = norms.convolution(in_channels, width, 3, stride)
        self.norm2 = norms.activated(width)
        self.conv2 = norms.convolution(width, width, 3)
        self.drop = None  # stochastic depth of the branch
        self.shortcut = None
        if stride != 1 or in_channels != width:
            self.shortcut = norms.convolution(in_channels, width, 1, stride)

    @property
    def last_convolution(self) -> nn.Module:
        return self.conv2

    def branch(self, activated: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.norm2(self.conv1(activated)))


class PreActivationBottleneck(PreActivationBlock):
    """norm - relu - conv1x1 - norm - relu - conv3x3 (stride) - norm - relu - conv1x1, added to the shortcut.

    Shape: [N, in, H, W] to [N, 4 * width, H/stride, W/stride].
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, norms: Norms):
        super().__init__()
        out_channels = width * self.expansion
        self.norm1 = norms.activated(in_channels)
        self.conv1 = norms.convolution(in_channels, width, 1)
        self.norm2 = norms.activated(width)
        self.conv2 = norms.convolution(width, width, 3, stride)
        self.norm3 = norms.activated(width)
        self.conv3 = norms.convolution(width, out_channels, 1)
        self.drop = None  # stochastic depth of the branch
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = norms.convolution(in_channels, out_channels, 1, stride)

    @property
    def last_convolution(self) -> nn.Module:
        return self.conv3

    def branch(self, activated: torch.Tensor) -> torch.Tensor:
        return self.conv3(self.norm3(self.conv2(self.norm2(self.conv1(activated)))))
