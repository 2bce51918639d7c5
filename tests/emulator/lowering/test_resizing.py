"""Sizes that PopTorch scales to by a factor of which PopART computes the size.

poptorch, source/popart_canonicalization/ReshapeOps.cpp and
popart_compiler/source/custom_operations/UpsampleBilinear2d.cpp; popart, willow/src/op/resize.cpp.
"""

import struct

import pytest
import torch
import torch.nn.functional as F

import ipu_train.emulator as poptorch

from ..networks import run


def float32(value):
    """Rounded to the nearest float32 by C, not by the libraries under test."""
    return struct.unpack("f", struct.pack("f", value))[0]


def scaled(x, **arguments):
    return run(lambda x: F.interpolate(x, **arguments), x)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [2, 3, 8])
def test_whole_factors_scale_as_in_torch(mode, factor):
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(x, scale_factor=factor, mode=mode)
    torch.testing.assert_close(scaled(x, scale_factor=factor, mode=mode), expected)
    torch.testing.assert_close(scaled(x, size=expected.shape[2:], mode=mode), expected)


@pytest.mark.parametrize("size", [7, 11, 13, 25])
def test_other_sizes_scale_where_the_factor_gives_them(size):
    """The nearest pixel: floor(size * float32(new / size)); bilinear: the factor has six digits behind the point."""
    x = torch.randn(1, 1, size, size)
    made = {"nearest": 0, "bilinear": 0}
    for new in range(size, 2 * size + 3):
        for mode, factor in (
            ("nearest", float32(new / size)),
            ("bilinear", float32(float("%f" % (new / size)))),
        ):
            if int(float32(size * factor)) == new:
                assert scaled(x, size=(new, new), mode=mode).shape[-1] == new
            else:
                made[mode] += 1
                with pytest.raises(
                    poptorch.Error, match=rf"interpolate at .*from {size} x|scales {size} to {new}"
                ):
                    scaled(x, size=(new, new), mode=mode)
    assert size != 7 or made["bilinear"] > 1


def test_float16_images_have_a_float16_factor():
    """15 / 7 is 2.142578 in float16, of which PopART makes 14 pixels."""
    x = torch.randn(1, 1, 7, 7)
    assert scaled(x, size=(15, 15)).shape[-1] == 15
    with pytest.raises(poptorch.Error, match="scales 7 to 15 by 2.14257"):
        scaled(x.half(), size=(15, 15))
    assert scaled(x.half(), size=(14, 14)).shape[-1] == 14


@pytest.mark.parametrize(
    "arguments, why",
    [
        ({"size": (8, 12)}, "PopTorch scales both sides by the factor of the height, 2"),
        ({"scale_factor": (2, 3)}, "PopTorch scales both sides by the factor of the height, 2"),
        ({"scale_factor": 1.6}, "which is not 1.6 times the size.*recompute_scale_factor=True"),
    ],
)
def test_bilinear_scaling_by_two_factors_or_by_another_than_the_sizes_is_refused(arguments, why):
    with pytest.raises(poptorch.Error, match=why):
        scaled(torch.randn(1, 1, 4, 4), mode="bilinear", **arguments)


def test_bilinear_scaling_by_the_factor_of_the_sizes():
    x = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    arguments = {"scale_factor": 1.6, "mode": "bilinear", "recompute_scale_factor": True}
    torch.testing.assert_close(scaled(x, **arguments), F.interpolate(x, size=(6, 6), mode="bilinear"))


def test_the_nearest_pixel_by_two_factors_is_torchs():
    x = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scaled(x, size=(8, 12)), F.interpolate(x, size=(8, 12)))
