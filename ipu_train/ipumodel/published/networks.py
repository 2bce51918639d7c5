"""Networks of published runs that the zoo does not train: built only to be traced, never trained.

MobileNets, DenseNets, VGGs and the like are torchvision's. U-Nets, YOLOs and the two-stage detector are written here
from their papers, as far as memory and cycles need them: convolutions, norms, activations and the tensors between
them in their published sizes. What has data-dependent shapes (matching of boxes, suppression) is left out; the
applications ran it on the host or over a fixed number of boxes.
"""

import re
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from torch import nn

# Pattern of the model column -> name here; groups go into the name. Blanks, dashes and underscores are alike.
PATTERNS: Tuple[Tuple[str, str], ...] = (
    (r"mobilenet ?v3 ?(small|large)\b", "mobilenet_v3_{0}"),
    (r"mobilenet ?v2\b", "mobilenet_v2"),
    (r"densenet ?(121|161|169|201)\b", "densenet{0}"),
    (r"vgg ?(11|13|16|19)\b", "vgg{0}_bn"),
    (r"squeezenet(?: ?1[ .]?(0|1))?\b", "squeezenet1_1"),
    (r"alexnet\b", "alexnet"),
    (r"googlenet\b|inception ?v1\b", "googlenet"),
    (r"inception ?v3\b", "inception_v3"),
    (r"resnext ?50 ?32x8d\b", "resnext50_32x8d"),
    (r"resnext ?101 ?32x8d\b", "resnext101_32x8d"),
    (r"resnext ?101 ?64x4d\b", "resnext101_64x4d"),
    (r"wide ?resnet ?(50|101)(?: ?2)?\b", "wide_resnet{0}_2"),
    (r"resnet ?14\b", "resnet14_bottleneck"),
    (r"u ?net\b", "unet"),
    (r"yolo ?v3\b", "yolov3"),
    (r"yolo ?v4 ?p5\b", "yolov4_p5"),
    (r"faster ?r ?cnn\b", "faster_rcnn_c4"),
)
SIZES = {"unet": 512, "yolov3": 416, "yolov4_p5": 896, "faster_rcnn_c4": 800, "inception_v3": 299}


def name_of(text: str) -> Optional[str]:
    """Our name for a network as a table writes it, None when it is not known here."""
    text = re.sub(r"[-_\s]+", " ", text.strip().lower())
    for pattern, name in PATTERNS:
        found = re.match(pattern, text)
        if found:
            return name.format(*found.groups())
    return None


def native_size(name: str) -> int:
    """Side in pixels of the images a network is made for."""
    return SIZES.get(name, 224)


def build(
    name: str, num_classes: int = 1000, norm: str = "batch", norm_groups: int = 32, proxy_norm: bool = False
) -> nn.Module:
    """A network of ``name_of``, its batch norms replaced as ``norm`` says.

    Raises:
        ValueError: Proxy Norm is asked for, which these networks never had.
    """
    if proxy_norm:
        raise ValueError(f"{name} with Proxy Norm: only the networks of the zoo have it")
    model = _DETECTORS[name](num_classes) if name in _DETECTORS else _torchvision(name, num_classes)
    _replace_norms(model, norm, norm_groups)
    return model


def _torchvision(name: str, num_classes: int) -> nn.Module:
    """torchvision's network, without weights; its width and depth as the name says."""
    from torchvision import models

    if name == "resnet14_bottleneck":
        return models.resnet.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=num_classes)
    if name == "resnext50_32x8d":
        return models.resnet.ResNet(
            models.resnet.Bottleneck, [3, 4, 6, 3], num_classes=num_classes, groups=32, width_per_group=8
        )
    more: Dict[str, Any] = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    if more:
        more["init_weights"] = False
    return getattr(models, name)(weights=None, num_classes=num_classes, **more)


def _replace_norms(model: nn.Module, norm: str, groups: int) -> None:
    """Puts another norm in the place of every batch norm, as the applications do."""
    if norm == "batch":
        return
    for parent in model.modules():
        for key, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                parent.add_module(key, _norm(norm, groups, child.num_features))


def _norm(norm: str, groups: int, channels: int) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    count = {"group": groups, "instance": channels}.get(norm, 1)
    while channels % count:  # torchvision's channels are not always a multiple of the groups
        count -= 1
    return nn.GroupNorm(count, channels)


def _unit(
    inside: int, outside: int, kernel: int = 3, stride: int = 1, act: Callable[[], nn.Module] = nn.Mish
) -> nn.Sequential:
    """Convolution, norm, activation."""
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), act())


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.1, inplace=True)


class _UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) with padded convolutions: five levels of two 3x3 convolutions."""

    def __init__(self, classes: int, channels: int = 3, width: int = 64, levels: int = 5):
        super().__init__()
        widths = [width << level for level in range(levels)]
        self.down = nn.ModuleList(self._level(i, o) for i, o in zip([channels, *widths[:-1]], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(o, i, 2, 2) for i, o in zip(widths, widths[1:]))
        self.merge = nn.ModuleList(self._level(2 * i, i) for i in widths[:-1])
        self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(width, max(2, min(classes, 21)), 1)

    @staticmethod
    def _level(inside: int, outside: int) -> nn.Module:
        relu = nn.ReLU
        return nn.Sequential(_unit(inside, outside, act=relu), _unit(outside, outside, act=relu))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept: List[torch.Tensor] = []
        for level in self.down[:-1]:
            kept.append(level(x))
            x = self.pool(kept[-1])
        x = self.down[-1](x)
        for up, merge, other in zip(reversed(self.up), reversed(self.merge), reversed(kept)):
            x = merge(torch.cat((up(x), other), 1))
        return self.head(x).flatten(1)


class _Residual(nn.Module):
    """Darknet's residual unit: 1x1 to half the width, 3x3 back, add."""

    def __init__(self, width: int, inner: int, act: Callable[[], nn.Module]):
        super().__init__()
        self.body = nn.Sequential(_unit(width, inner, 1, act=act), _unit(inner, width, act=act))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class _YoloV3(nn.Module):
    """YOLOv3 (Redmon and Farhadi 2018): Darknet-53 and three heads of 255 channels."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = _unit(3, 32, act=_leaky)
        stages = []
        for width, count in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
            units = [_Residual(width, width // 2, _leaky) for _ in range(count)]
            stages.append(nn.Sequential(_unit(width // 2, width, stride=2, act=_leaky), *units))
        self.stages = nn.ModuleList(stages)
        self.neck, self.lift, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for inside, width in ((1024, 512), (768, 256), (384, 128)):
            ways = [_unit(inside, width, 1, act=_leaky)]
            for _ in range(2):
                ways += [_unit(width, 2 * width, act=_leaky), _unit(2 * width, width, 1, act=_leaky)]
            self.neck.append(nn.Sequential(*ways))
            self.heads.append(
                nn.Sequential(_unit(width, 2 * width, act=_leaky), nn.Conv2d(2 * width, 255, 1))
            )
            self.lift.append(_unit(width, width // 2, 1, act=_leaky))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        outputs, carried = [], features[-1]
        for level in range(3):
            carried = self.neck[level](carried)
            outputs.append(self.heads[level](carried).flatten(1))
            if level < 2:
                larger = torch.nn.functional.interpolate(self.lift[level](carried), scale_factor=2.0)
                carried = torch.cat((larger, features[3 - level]), 1)
        return torch.cat(outputs, 1)


class _Csp(nn.Module):
    """A cross-stage partial stage: ``hidden`` channels go through ``count`` units, as many stay beside them."""

    def __init__(self, inside: int, width: int, count: int, hidden: int, shortcut: bool = True):
        super().__init__()
        self.first, self.beside = _unit(inside, hidden, 1), nn.Conv2d(inside, hidden, 1, bias=False)
        self.units = nn.Sequential(*[self._make(hidden, shortcut) for _ in range(count)])
        self.norm = nn.Sequential(nn.BatchNorm2d(2 * hidden), nn.Mish())
        self.last = _unit(2 * hidden, width, 1)

    @staticmethod
    def _make(hidden: int, shortcut: bool) -> nn.Module:
        if shortcut:
            return _Residual(hidden, hidden, nn.Mish)
        return nn.Sequential(_unit(hidden, hidden, 1), _unit(hidden, hidden))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        through = self.units(self.first(x))
        return self.last(self.norm(torch.cat((through, self.beside(x)), 1)))


class _Spp(_Csp):
    """The spatial pyramid pool in a cross-stage partial stage: windows of 5, 9 and 13 beside the input."""

    def __init__(self, inside: int, width: int):
        super().__init__(inside, width, 1, width, shortcut=False)
        self.pools = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in (5, 9, 13))
        self.pooled = nn.Sequential(_unit(4 * width, width, 1), _unit(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.units(self.first(x))
        y = self.pooled(torch.cat([y] + [pool(y) for pool in self.pools], 1))
        return self.last(self.norm(torch.cat((y, self.beside(x)), 1)))


class _YoloV4P5(nn.Module):
    """Scaled YOLOv4-P5 (Wang et al. 2021): CSP backbone and pyramid, three heads of four anchors."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = _unit(3, 32)
        widths, counts = (64, 128, 256, 512, 1024), (1, 3, 15, 15, 7)
        self.stages = nn.ModuleList(
            nn.Sequential(_unit(i, o, stride=2), _Csp(o, o, n, o // 2))
            for i, o, n in zip((32, *widths), widths, counts)
        )
        self.spp = _Spp(1024, 512)
        self.lift = nn.ModuleList((_unit(512, 256, 1), _unit(256, 128, 1)))
        self.side = nn.ModuleList((_unit(512, 256, 1), _unit(256, 128, 1)))
        self.merge = nn.ModuleList((_Csp(512, 256, 3, 256, False), _Csp(256, 128, 3, 128, False)))
        self.down = nn.ModuleList((_unit(128, 256, stride=2), _unit(256, 512, stride=2)))
        self.join = nn.ModuleList((_Csp(512, 256, 3, 256, False), _Csp(1024, 512, 3, 512, False)))
        self.heads = nn.ModuleList(
            nn.Sequential(_unit(w, 2 * w), nn.Conv2d(2 * w, 4 * 85, 1)) for w in (128, 256, 512)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features, x = [], self.stem(x)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        levels = [self.spp(x)]
        for lift, side, merge, feature in zip(self.lift, self.side, self.merge, (features[3], features[2])):
            larger = torch.nn.functional.interpolate(lift(levels[-1]), scale_factor=2.0)
            levels.append(merge(torch.cat((side(feature), larger), 1)))
        outputs = [levels[2]]
        for down, join, level in zip(self.down, self.join, (levels[1], levels[0])):
            outputs.append(join(torch.cat((down(outputs[-1]), level), 1)))
        return torch.cat([head(level).flatten(1) for head, level in zip(self.heads, outputs)], 1)


class _FasterRcnnC4(nn.Module):
    """Faster R-CNN on the fourth feature map of ResNet-50 (Ren et al. 2015), a fixed 128 boxes an image.

    The boxes' crops (14 x 14) are average-pooled from the feature map in one piece: their size is what counts.
    """

    boxes = 128

    def __init__(self, classes: int):
        super().__init__()
        body = _torchvision("resnet50", 1000)
        self.trunk = nn.Sequential(
            body.conv1, body.bn1, body.relu, body.maxpool, body.layer1, body.layer2, body.layer3
        )
        self.region = nn.Sequential(
            nn.Conv2d(1024, 1024, 3, padding=1), nn.ReLU(), nn.Conv2d(1024, 5 * 15, 1)
        )
        self.layer4 = body.layer4
        self.box = nn.Linear(2048, 81 + 4 * 81)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.trunk(x)
        regions = self.region(features).flatten(1)
        crops = torch.nn.functional.adaptive_avg_pool2d(features, 14)
        crops = crops.unsqueeze(1).repeat(1, self.boxes, 1, 1, 1).flatten(0, 1)
        found = self.box(self.layer4(crops).mean((2, 3)))
        return torch.cat((regions, found.reshape(x.shape[0], -1)), 1)


_DETECTORS: Dict[str, Callable[[int], nn.Module]] = {
    "unet": _UNet,
    "yolov3": _YoloV3,
    "yolov4_p5": _YoloV4P5,
    "faster_rcnn_c4": _FasterRcnnC4,
}
