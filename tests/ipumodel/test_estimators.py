"""What operations around convolutions cost, relative to one another."""

import pytest
import torch
from torch import nn

from ipu_train.ipumodel.convolution.forms import PlanOptions
from ipu_train.ipumodel.estimators import estimate
from ipu_train.ipumodel.target import Target
from ipu_train.ipumodel.tracer import trace

MK2 = Target.named("mk2")


class Scaled(nn.Module):
    """A convolution's output times a parameter."""

    def __init__(self, *shape):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1, bias=False)
        self.factor = nn.Parameter(torch.ones(*shape))

    def forward(self, x):
        return self.conv(x) * self.factor


def cost(module, kind, backward=False, size=(4, 8, 32, 32)):
    with torch.device("meta"):
        program = trace(module, torch.zeros(*size, device="meta"), loss=None)
    (op,) = [o for o in program.forward() if o.kind == kind]
    return estimate(op, MK2, PlanOptions(), 2, backward)


def normed(norm):
    return nn.Sequential(nn.Conv2d(8, 8, 1), norm)


@pytest.mark.parametrize("backward", [False, True])
def test_a_factor_for_each_channel_is_brought_to_every_tile_first(backward):
    channels, everything = (cost(Scaled(*shape), "binary", backward) for shape in ((8, 1, 1), (4, 8, 32, 32)))
    assert channels.cycles["exchange"] > everything.cycles["exchange"]


def test_a_norm_without_scale_and_shift_takes_fewer_cycles():
    with_affine, without = (normed(nn.GroupNorm(4, 8, affine=affine)) for affine in (True, False))
    size = (16, 8, 128, 128)
    assert cost(without, "norm", size=size).total_cycles < cost(with_affine, "norm", size=size).total_cycles
    # Backward, the gradients of scale and shift are sums over samples and field: more exchange.
    gradients = [cost(module, "norm", True, size).cycles["exchange"] for module in (without, with_affine)]
    assert gradients[0] < gradients[1]


def test_statistics_of_one_group_and_of_four_are_gathered_from_the_tiles_of_a_sample():
    one, four = (cost(normed(nn.GroupNorm(groups, 8)), "norm") for groups in (1, 4))
    assert one.cycles["exchange"] == four.cycles["exchange"]
