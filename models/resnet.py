"""ResNets (He et al. 2015), v1.5 and v2 (He et al. 2016), and ResNeXts (Xie et al. 2016)."""

from dataclasses import replace
from functools import partial
from typing import Callable, List, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import BasicBlock, Bottleneck, PreActivationBasicBlock, PreActivationBottleneck, ResidualBlock
from .convolutions import Linear
from .norms import Norms
from .options import OptionError, check_range
from .stochastic_depth import StochasticDepth

IMAGENET_BLOCKS = {
    14: (Bottleneck, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
IMAGENET_WIDTHS = (64, 128, 256, 512)


class ResNet(nn.Module):
    """Stem, stages ``layer1``, ``layer2``, ..., global average pool, linear classifier.

    Args:
        block: (in_channels, width, stride) to a residual block.
        expansion: a block gives ``width * expansion`` channels.
        counts: blocks of each stage; every stage but the first halves the image.
        widths: width of each stage.
        norms: the norm of every layer.
        imagenet_stem: 7x7 convolution with stride 2 and a 3x3 max pool with stride 2, else a 3x3
            convolution.
        pre_activation: blocks start with a norm (v2): the stem then has none, and one follows the last block.
        stochastic_depth: rate at which the branch of the last block is dropped in training; that of block l of L is
            l / L of it (Huang et al. 2016, section 3, the linear decay rule).

    Shape: [N, in_channels, H, W] to logits [N, num_classes].
    """

    def __init__(
        self,
        block: Callable[[int, int, int], nn.Module],
        expansion: int,
        counts: Sequence[int],
        widths: Sequence[int],
        norms: Norms,
        num_classes: int,
        in_channels: int = 3,
        imagenet_stem: bool = True,
        pre_activation: bool = False,
        stochastic_depth: float = 0.0,
    ):
        super().__init__()
        rate_is_good = 0 <= stochastic_depth < 1
        check_range("stochastic_depth", stochastic_depth, rate_is_good, "a rate, at least 0 and below 1")
        channels = widths[0]
        kernel, stride = (7, 2) if imagenet_stem else (3, 1)
        self.conv1 = norms.convolution(in_channels, channels, kernel, stride)
        self.norm1 = None if pre_activation else norms.activated(channels)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet_stem else None
        self.stage_names: List[str] = []
        for index, (count, width) in enumerate(zip(counts, widths), start=1):
            blocks = []
            for position in range(count):
                blocks.append(block(channels, width, 2 if index > 1 and position == 0 else 1))
                channels = width * expansion
            self.stage_names.append(f"layer{index}")
            self.add_module(f"layer{index}", nn.Sequential(*blocks))
        if stochastic_depth:
            every = [block for name in self.stage_names for block in getattr(self, name)]
            for number, residual in enumerate(every, start=1):
                residual.drop = StochasticDepth(stochastic_depth * number / len(every))
        self.last_norm = norms.activated(channels) if pre_activation else None
        self.fc = Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        if self.norm1 is not None:
            x = self.norm1(x)
        if self.maxpool is not None:
            x = self.maxpool(x)
        for name in self.stage_names:
            x = getattr(self, name)(x)
        if self.last_norm is not None:
            x = self.last_norm(x)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def initialise(model: nn.Module, zero_init: bool) -> nn.Module:
    """Initial weights of a ResNet, in place.

    He's normal initialisation over fan-out for convolutions (He et al. 2015) and Glorot's uniform one for the
    classifier (Graphcore's public CNN code). With ``zero_init`` every block whose shortcut is the identity starts as
    the identity (Goyal et al. 2017): the scale of its last norm is zero, or in v2, where no norm follows it, its last
    convolution. A block that changes the shape starts alive even where its shortcut is padding, as the channels that
    padding adds have no other source.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    if zero_init:
        for module in model.modules():
            if getattr(module, "shortcut", module) is not None:
                continue
            if isinstance(module, ResidualBlock):
                nn.init.zeros_(module.last_norm.weight)
            else:
                nn.init.zeros_(module.last_convolution.weight)
    return model


def starts_at_zero(zero_init: Optional[bool], bottleneck: bool, norms: Norms) -> bool:
    """Whether the blocks with an identity shortcut start as the identity.

    Where the user leaves it open, bottlenecks of v1 do and basic blocks do not (Graphcore's public CNN code), and
    every block does without a norm: the signal would double in each otherwise.
    """
    return (bottleneck or norms.kind == "none") if zero_init is None else zero_init


def scaled(widths: Sequence[int], width: float) -> List[int]:
    """The widths times a multiplier, rounded; OptionError when nothing would be left."""
    result = [round(w * width) for w in widths]
    if min(result) < 1:
        raise OptionError(
            "width", f"width is {width}; it must leave at least one channel (the widths are {list(widths)})"
        )
    return result


def imagenet_resnet(
    norms: Norms,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    depth: int,
    groups: int = 1,
    group_width: int = 64,
    width: float = 1.0,
    zero_init: Optional[bool] = None,
    proxy_after_addition: bool = False,
    stochastic_depth: float = 0.0,
) -> ResNet:
    """ResNet-14/18/34/50/101/152 v1.5 (the stride of a bottleneck sits on its 3x3 convolution), or ResNeXt.

    ``width`` scales all widths. ``groups`` and ``group_width`` are those of ``Bottleneck``; the basic blocks of
    ResNet-18 and ResNet-34 have none. ``zero_init``: see ``initialise``; None for bottlenecks only.
    ``proxy_after_addition``: Proxy Norm also around the ReLU after each addition (see ``ResidualBlock``).
    ``stochastic_depth``: rate at which the last block's branch is dropped (see ``ResNet``).
    """
    norms = replace(norms, proxy_after_addition=proxy_after_addition)
    block, counts = IMAGENET_BLOCKS[depth]
    options = {"groups": groups, "group_width": group_width}
    for name, value in options.items():
        check_range(name, value, value >= 1, "1 or more")
    if block is not Bottleneck:
        for name, value, usual in (("groups", groups, 1), ("group_width", group_width, 64)):
            check_range(
                name, value, value == usual, f"{usual}: the basic blocks of resnet{depth} have no groups"
            )
        options = {}
    make = partial(block, norms=norms, **options)  # type: ignore[arg-type]  # of either class of blocks
    widths = scaled(IMAGENET_WIDTHS, width)
    model = ResNet(
        make,
        block.expansion,
        counts,
        widths,
        norms,
        num_classes,
        in_channels,
        stochastic_depth=stochastic_depth,
    )
    return initialise(model, starts_at_zero(zero_init, block is Bottleneck, norms))


def imagenet_resnet_v2(
    norms: Norms,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    depth: int,
    width: float = 1.0,
    zero_init: bool = False,
    stochastic_depth: float = 0.0,
) -> ResNet:
    """ResNet-50/101/152 v2 (pre-activation), with the stride of a bottleneck on its 3x3 convolution.

    ``width`` scales all widths. ``zero_init``: see ``initialise``; always so with norm "none", without which the
    signal would double in every block. ``stochastic_depth``: rate at which the last block's branch is dropped (see
    ``ResNet``).
    """
    counts = IMAGENET_BLOCKS[depth][1]
    make = partial(PreActivationBottleneck, norms=norms)
    model = ResNet(
        make,
        4,
        counts,
        scaled(IMAGENET_WIDTHS, width),
        norms,
        num_classes,
        in_channels,
        pre_activation=True,
        stochastic_depth=stochastic_depth,
    )
    return initialise(model, zero_init or norms.kind == "none")


def cifar_resnet(
    norms: Norms,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    depth: int,
    width: float = 1.0,
    zero_init: Optional[bool] = None,
    proxy_after_addition: bool = False,
    stochastic_depth: float = 0.0,
) -> ResNet:
    """The 6n + 2 layer ResNet for 32x32 images (He et al. 2015, section 4.2): widths 16, 32, 64, shortcut A.

    ``width`` scales all widths. ``zero_init``: see ``initialise``; None for norm "none" only. ``proxy_after_addition``:
    Proxy Norm also around the ReLU after each addition (see ``ResidualBlock``). ``stochastic_depth``: rate at which the
    last block's branch is dropped (see ``ResNet``).
    """
    norms = replace(norms, proxy_after_addition=proxy_after_addition)
    n = (depth - 2) // 6
    make = partial(BasicBlock, norms=norms, shortcut="A")
    widths = scaled((16, 32, 64), width)
    model = ResNet(
        make,
        1,
        (n, n, n),
        widths,
        norms,
        num_classes,
        in_channels,
        imagenet_stem=False,
        stochastic_depth=stochastic_depth,
    )
    return initialise(model, starts_at_zero(zero_init, False, norms))


def cifar_resnet_v2(
    norms: Norms,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    depth: int,
    width: float = 1.0,
    zero_init: bool = False,
    stochastic_depth: float = 0.0,
) -> ResNet:
    """The 6n + 2 layer ResNet v2 for 32x32 images (He et al. 2016): widths 16, 32, 64, pre-activation basic blocks.

    Its shortcuts are 1x1 convolutions where the shape changes. ``width`` scales all widths. ``zero_init``: see
    ``initialise``; always so with norm "none". ``stochastic_depth``: rate at which the last block's branch is dropped
    (see ``ResNet``).
    """
    n = (depth - 2) // 6
    make = partial(PreActivationBasicBlock, norms=norms)
    widths = scaled((16, 32, 64), width)
    model = ResNet(
        make,
        1,
        (n, n, n),
        widths,
        norms,
        num_classes,
        in_channels,
        imagenet_stem=False,
        pre_activation=True,
        stochastic_depth=stochastic_depth,
    )
    return initialise(model, zero_init or norms.kind == "none")


def cifar_resnext(
    norms: Norms,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    depth: int,
    groups: int = 32,
    group_width: int = 4,
    width: float = 1.0,
    zero_init: bool = True,
    stochastic_depth: float = 0.0,
) -> ResNet:
    """The 9n + 2 layer ResNeXt for 32x32 images: bottlenecks of widths 16, 32, 64 (Graphcore's public CNN code).

    ``group_width`` channels a group in the first stage, twice as many in each that follows; ``width`` scales all
    widths. ``stochastic_depth``: rate at which the last block's branch is dropped (see ``ResNet``).
    """
    for name, value in (("groups", groups), ("group_width", group_width)):
        check_range(name, value, value >= 1, "1 or more")
    n = (depth - 2) // 9
    # A bottleneck counts the width of its groups at 64 channels.
    make = partial(Bottleneck, norms=norms, groups=groups, group_width=group_width * 64 // 16)
    widths = scaled((16, 32, 64), width)
    model = ResNet(
        make,
        4,
        (n, n, n),
        widths,
        norms,
        num_classes,
        in_channels,
        imagenet_stem=False,
        stochastic_depth=stochastic_depth,
    )
    return initialise(model, zero_init)
