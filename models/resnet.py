"""ResNets (He et al. 2015): the ImageNet family in its v1.5 form and the CIFAR family of depth 6n + 2."""

from collections import OrderedDict
from typing import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import BasicBlock, Bottleneck, ProjectionShortcut, ResidualBlock, conv
from .norms import Norms

IMAGENET_BLOCKS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """Stem, stages ``layer1``, ``layer2``, ..., global average pool, linear classifier.

    Args:
        block: BasicBlock or Bottleneck.
        counts: blocks of each stage; every stage but the first halves the image.
        widths: width of each stage (a stage gives ``width * block.expansion`` channels).
        norms: the norm of every layer.
        imagenet_stem: 7x7 convolution with stride 2 and a 3x3 max pool with stride 2, else a 3x3 convolution.
        shortcut: "A" or "B" (He et al. 2015, section 4.1).
        zero_init: start the last scale of each block without a projection at zero, so that the block starts
            as the identity (Goyal et al. 2017; without projection as in Graphcore's public code).

    Shape: [N, in_channels, H, W] to logits [N, num_classes].
    """

    def __init__(
        self,
        block,
        counts: Sequence[int],
        widths: Sequence[int],
        norms: Norms,
        num_classes: int,
        in_channels: int = 3,
        imagenet_stem: bool = True,
        shortcut: str = "B",
        zero_init: bool = True,
    ):
        super().__init__()
        self.conv1 = (
            conv(in_channels, widths[0], 7, stride=2) if imagenet_stem else conv(in_channels, widths[0], 3)
        )
        self.norm1 = norms.activated(widths[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet_stem else nn.Identity()
        channels = widths[0]
        stages = OrderedDict()
        for index, (count, width) in enumerate(zip(counts, widths), start=1):
            blocks = []
            for position in range(count):
                stride = 2 if index > 1 and position == 0 else 1
                blocks.append(block(channels, width, stride, norms, shortcut))
                channels = width * block.expansion
            stages[f"layer{index}"] = nn.Sequential(*blocks)
        self.stage_names = tuple(stages)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self, zero_init)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.norm1(self.conv1(x)))
        for name in self.stage_names:
            x = getattr(self, name)(x)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def initialise(model: nn.Module, zero_init: bool) -> None:
    """He's normal initialisation over fan-out for convolutions (He et al. 2015), N(0, 0.01^2) for the
    classifier (Goyal et al. 2017), zero for the last scale of each block without a projection when
    ``zero_init``."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
    if zero_init:
        for module in model.modules():
            if isinstance(module, ResidualBlock) and not isinstance(module.shortcut, ProjectionShortcut):
                nn.init.zeros_(module.last_norm.weight)


def scaled(widths: Sequence[int], width: float) -> Sequence[int]:
    """The widths times a multiplier, rounded; ValueError when nothing would be left."""
    result = [round(w * width) for w in widths]
    if min(result) < 1:
        raise ValueError(
            f"width is {width}; it must leave at least one channel (the widths are {list(widths)})"
        )
    return result


def imagenet_resnet(
    norms: Norms,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    depth: int,
    width: float = 1.0,
    zero_init: bool = True,
) -> ResNet:
    """ResNet-18/34/50/101/152 v1.5: the stride of a bottleneck sits on its 3x3 convolution. ``width``
    scales all widths.
    """
    block, counts = IMAGENET_BLOCKS[depth]
    return ResNet(
        block,
        counts,
        scaled((64, 128, 256, 512), width),
        norms,
        num_classes,
        in_channels,
        zero_init=zero_init,
    )


def cifar_resnet(
    norms: Norms,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    depth: int,
    width: float = 1.0,
    zero_init: bool = True,
) -> ResNet:
    """The 6n + 2 layer ResNet for 32x32 images (He et al. 2015, section 4.2): widths 16, 32, 64, shortcut
    A.
    """
    n = (depth - 2) // 6
    return ResNet(
        BasicBlock,
        (n, n, n),
        scaled((16, 32, 64), width),
        norms,
        num_classes,
        in_channels,
        imagenet_stem=False,
        shortcut="A",
        zero_init=zero_init,
    )
