"""Options.Precision.enableFloatingPointExceptions raises for what the device computes, and it computes no dead code."""

import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch


class Normalised(nn.Module):
    """Neighbours of a graph, weighted as graph networks do it: some nodes have none. ``used`` is what is returned."""

    def __init__(self, used):
        super().__init__()
        self.used = used
        self.register_buffer("last", torch.ones(3))

    def forward(self, edges, x):
        degree = torch.zeros(3).scatter_add_(0, edges, torch.ones(2))
        if self.used == "a view":
            scale = degree.view(3, 1)
            degree.pow_(-0.5)
            return x * scale.flatten()
        degree.pow_(-0.5)
        if self.used == "a buffer":
            self.last.copy_(degree)
        degree.masked_fill_(degree == float("inf"), 0.0)
        return x * degree if self.used == "a result" else x * 2


def run(used):
    options = poptorch.Options()
    options.Precision.enableFloatingPointExceptions(True)
    return poptorch.inferenceModel(Normalised(used), options)(torch.tensor([0, 2]), torch.ones(3))


def test_what_nothing_uses_raises_nothing():
    """PopART prunes it, also where it works in place."""
    assert run("nothing").tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("used", ["a result", "a buffer"])
def test_what_is_used_raises(used):
    with pytest.raises(poptorch.Error, match=r"Floating point exception: division by zero.*pow_"):
        run(used)


def test_what_is_used_through_an_earlier_view_raises():
    options = poptorch.Options()
    options.Precision.enableFloatingPointExceptions(True)
    options._Emulator.setPermissive()  # PopTorch would read the view unchanged
    with pytest.raises(poptorch.Error, match=r"Floating point exception: division by zero.*pow_"):
        poptorch.inferenceModel(Normalised("a view"), options)(torch.tensor([0, 2]), torch.ones(3))
