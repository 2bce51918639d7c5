"""Arguments of pooling that PopTorch's lowering reads otherwise than torch: poptorch, source/popart_canonicalization/
PoolingOps.cpp; popart, willow/src/op/receptive.cpp and willow/src/popx/op/poolx.cpp."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import run

IMAGES = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "pool, stride",
    [
        (lambda x: F.max_pool2d(x, 2), "2"),
        (lambda x: F.max_pool2d(x, (2, 3)), r"\(2, 3\)"),
        (lambda x: F.avg_pool2d(x, 2), "2"),
        (lambda x: F.max_pool1d(x[:, 0], 2), "2"),
        (lambda x: F.avg_pool3d(x[:, None], 2), "2"),
        (lambda x: F.lp_pool2d(x, 2, 2), "2"),
    ],
)
def test_a_missing_stride_is_warned_of(pool, stride, capfd):
    """A common way to write it, which PopART would fail at; it has one meaning."""
    torch.testing.assert_close(run(pool, IMAGES), pool(IMAGES))
    said = "".join(capfd.readouterr())
    assert re.search(rf"test_pooling\.py:\d+.*is given no stride.*say stride={stride}, or", said), said


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d((2, 3)), nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(2, padding=(1, 0), count_include_pad=False), nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d(3, 2, ceil_mode=True), nn.AdaptiveAvgPool2d((4, 3)), lambda x: F.max_pool2d(x, 2, 2),
        lambda x: F.avg_pool1d(x[:, 0], 2), lambda x: nn.MaxPool2d(2)(x[0]),
    ],
)  # fmt: skip
def test_pooling_that_is_torchs(pool):
    torch.testing.assert_close(run(pool, IMAGES), pool(IMAGES))


@pytest.mark.parametrize(
    "pool, why",
    [
        (nn.AvgPool2d(2, divisor_override=3), "has divisor_override, which PopTorch ignores"),
        (nn.AvgPool2d(2, padding=(1, 0)), r"pads dimensions differently \(\[1, 0\]\)"),
        (lambda x: F.avg_pool1d(x[:, 0], 2, padding=1), r"pads dimensions differently \(\[0, 1\]\)"),
    ],
)
def test_pooling_that_poptorch_does_otherwise_is_warned_of(pool, why, capfd):
    torch.testing.assert_close(run(pool, IMAGES), pool(IMAGES))
    said = "".join(capfd.readouterr())
    assert re.search(why, said), said


@pytest.mark.parametrize(
    "pool, why",
    [
        (nn.MaxPool2d(2, dilation=2), "has dilation"),
        (lambda x: F.adaptive_avg_pool2d(x[0], 1), "an input without a batch"),
        (nn.AdaptiveAvgPool2d(5), "8 to 5: input dim 0"),
    ],
)
def test_pooling_that_is_not(pool, why):
    with pytest.raises(poptorch.Error, match=why):
        run(pool, IMAGES)


@pytest.mark.parametrize("size", range(2, 12))
@pytest.mark.parametrize(
    "kernel, stride, padding", [(2, 2, 0), (2, 2, 1), (3, 2, 1), (1, 2, 0), (2, 3, 1), (3, 3, 0)]
)
def test_sizes_rounded_up_are_torchs_or_refused(size, kernel, stride, padding):
    """PopART's are (size + 2 padding - kernel) / stride, rounded up, plus one (getSpatialOutShape)."""
    if size + 2 * padding < kernel:
        return
    pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=True)
    x = torch.randn(1, 1, size, size)
    if pool(x).shape[-1] == math.ceil((size + 2 * padding - kernel) / stride) + 1:
        assert run(pool, x).shape == pool(x).shape
    else:
        with pytest.raises(poptorch.Error, match="ceil_mode=True and pools"):
            run(pool, x)
