"""EfficientNet B0 to B5 (Tan and Le 2019), its G16 variant (Masters et al. 2021) and one for CIFAR.

G16 replaces the depthwise convolutions by group convolutions with 16 channels a group and expands by 4 in
place of 6. Placement of norms and of Proxy Norm, epsilon, initialisation and the CIFAR variant follow
Graphcore's public code for arXiv 2106.03640.
"""

import math
from typing import Any, Dict, List, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import nn

from .convolutions import Linear
from .mbconv import MBConv
from .norms import Norms
from .options import check_range


class Size(NamedTuple):
    """Multipliers of widths and depths, the rate of dropout, and the strides of stem and stage 2."""

    width: float
    depth: float
    dropout: float
    stem_stride: int = 2
    second_stride: int = 2


SIZES = {
    "b0": Size(1.0, 1.0, 0.2),
    "b1": Size(1.0, 1.1, 0.2),
    "b2": Size(1.1, 1.2, 0.3),
    "b3": Size(1.2, 1.4, 0.3),
    "b4": Size(1.4, 1.8, 0.4),
    "b5": Size(1.6, 2.2, 0.4),
    "cifar": Size(0.5, 1.0, 0.0, stem_stride=1, second_stride=1),
}


class Stage(NamedTuple):
    """One stage before scaling; the stride is that of its first block, ``expands`` says whether blocks do."""

    blocks: int
    kernel: int
    stride: int
    expands: bool
    channels: int


STAGES = (
    Stage(1, 3, 1, False, 16),
    Stage(2, 3, 2, True, 24),
    Stage(2, 5, 2, True, 40),
    Stage(3, 3, 2, True, 80),
    Stage(3, 5, 1, True, 112),
    Stage(4, 5, 2, True, 192),
    Stage(1, 3, 1, True, 320),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
EXPANSION = {1: 6, 16: 4}  # by group size: 4 compensates most of the cost of wider groups


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of the divisor, one higher where that loses more than a tenth."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class EfficientNet(nn.Module):
    """Stem, ``stage1`` to ``stage7`` of MBConv blocks, 1x1 head, global average pool, dropout, classifier.

    With Proxy Norm and ``delay_scale`` the head's proxy-normalised activation is left unscaled: the
    classifier after the (linear) pool can hold the scale in its weights.

    Shape: [N, in_channels, H, W] to logits [N, num_classes].
    """

    def __init__(
        self,
        size: Size,
        norms: Norms,
        num_classes: int,
        in_channels: int,
        group_size: int,
        expansion: int,
        activation: str,
        squeeze_excite: float,
        stochastic_depth: float,
        delay_scale: bool,
    ):
        super().__init__()
        channels = round_channels(STEM_CHANNELS * size.width)
        self.stem_conv = norms.convolution(in_channels, channels, 3, size.stem_stride)
        self.stem_norm = norms.activated(channels, activation)
        counts = [math.ceil(stage.blocks * size.depth) for stage in STAGES]
        done = 0
        self.stage_names: List[str] = []
        for index, (stage, count) in enumerate(zip(STAGES, counts), start=1):
            stride = size.second_stride if index == 2 else stage.stride
            out_channels = round_channels(stage.channels * size.width)
            blocks = []
            for position in range(count):
                blocks.append(
                    MBConv(
                        channels,
                        out_channels,
                        stage.kernel,
                        stride if position == 0 else 1,
                        norms,
                        expansion=expansion if stage.expands else 1,
                        group_size=group_size,
                        activation=activation,
                        squeeze_excite=squeeze_excite,
                        drop_rate=stochastic_depth * done / sum(counts),
                        delay_scale=delay_scale,
                    )
                )
                channels = out_channels
                done += 1
            self.stage_names.append(f"stage{index}")
            self.add_module(f"stage{index}", nn.Sequential(*blocks))
        head_channels = round_channels(HEAD_CHANNELS * size.width)
        self.head_conv = norms.convolution(channels, head_channels, 1)
        self.head_norm = norms.activated(head_channels, activation, delay_scale=delay_scale)
        self.head_is_unscaled = delay_scale and norms.proxy is not None
        self.dropout = nn.Dropout(size.dropout)
        self.fc = Linear(head_channels, num_classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem_norm(self.stem_conv(x))
        for name in self.stage_names:
            x = getattr(self, name)(x)
        x = self.head_norm(self.head_conv(x))
        if self.head_is_unscaled:
            x, _ = x
        return self.fc(self.dropout(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)))


def initialise(model: nn.Module) -> None:
    """N(0, 2 / fan-out) for convolutions, N(0, 2 / fan-in) for grouped ones, Glorot's uniform law for the
    classifier (Graphcore's public code), zero for biases."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            mode = "fan_out" if module.groups == 1 else "fan_in"
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def efficientnet(
    norms: Norms,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    size: str,
    group_size: int,
    activation: str = "swish",
    squeeze_excite: float = 0.25,
    dropout: Optional[float] = None,
    stochastic_depth: float = 0.2,
    delay_scale: bool = True,
    expansion: Optional[int] = None,
    width: Optional[float] = None,
    depth: Optional[float] = None,
) -> EfficientNet:
    """An EfficientNet of a size in ``SIZES``, with groups of ``group_size`` channels.

    Args:
        activation: swish (silu) in the papers; relu and others work.
        squeeze_excite: channels of the squeeze, as a fraction of the block's input; 0 for none.
        dropout: rate before the classifier; None for the size's own.
        stochastic_depth: rate at which the last block is dropped; it grows linearly from the first block.
        delay_scale: apply Proxy Norm's scale within squeeze-excite and leave it out in the head.
        expansion: of the blocks; None for 6 with group size 1 and 4 with group size 16.
        width, depth: multipliers in place of the size's own.
    """
    scale = SIZES[size]
    changes: Dict[str, Any] = {"width": width, "depth": depth, "dropout": dropout}
    scale = scale._replace(**{name: value for name, value in changes.items() if value is not None})
    for name, value in (("dropout", scale.dropout), ("stochastic_depth", stochastic_depth)):
        check_range(name, value, 0 <= value < 1, "a rate, at least 0 and below 1")
    for name, value in (("width", scale.width), ("depth", scale.depth)):
        check_range(name, value, value > 0, "positive")
    check_range(
        "squeeze_excite",
        squeeze_excite,
        0 <= squeeze_excite <= 1,
        "a fraction of the block's input, 0 (none) to 1",
    )
    if expansion is None:
        expansion = EXPANSION[group_size]
    check_range("expansion", expansion, expansion >= 1, "1 or more")
    return EfficientNet(
        scale,
        norms,
        num_classes,
        in_channels,
        group_size,
        expansion,
        activation,
        squeeze_excite,
        stochastic_depth,
        delay_scale,
    )
