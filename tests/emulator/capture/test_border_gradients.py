"""Gradients exactly where two pieces of a function meet.

popart, willow/src/popx/op: maxx.cpp, minx.cpp, leakyrelux.cpp.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch


class Learned(nn.Module):
    def __init__(self, function, weights):
        super().__init__()
        self.function, self.w = function, nn.Parameter(weights.clone())

    def forward(self, factor):
        result = self.function(self.w)
        return result, poptorch.identity_loss(result * factor, "sum")


def value_and_gradient(function, weights):
    model = Learned(function, weights)
    executor = poptorch.trainingModel(model, optimizer=poptorch.optim.SGD(model.parameters(), lr=1.0))
    value, _ = executor(torch.tensor(1.0))
    executor.copyWeightsToHost()
    return value, weights - model.w.detach()


X = torch.tensor([-1.0, 0.0, 3.0, 6.0, 7.0])


@pytest.mark.parametrize(
    "function, expected",
    [
        (lambda w: w.clamp(0, 6), [0, 1, 1, 1, 0]),
        (lambda w: torch.clip(w, 0.0, 6.0), [0, 1, 1, 1, 0]),
        (lambda w: torch.clamp(w, min=0), [0, 1, 1, 1, 1]),
        (lambda w: torch.clamp(w, max=6), [1, 1, 1, 1, 0]),
        (lambda w: w.clamp_min(0), [0, 1, 1, 1, 1]),
        (lambda w: w.clamp_max(6), [1, 1, 1, 1, 0]),
        (lambda w: w.clamp(w.new_zeros(5), w.new_full((1,), 6.0)), [0, 1, 1, 1, 0]),
        (lambda w: w.clamp(min=w.new_zeros(1)), [0, 1, 1, 1, 1]),
        (lambda w: F.leaky_relu(w, 0.25), [0.25, 1, 1, 1, 1]),
        (nn.LeakyReLU(0.25), [0.25, 1, 1, 1, 1]),
        (lambda w: w.clamp(0, 6).mul_(2), [0, 2, 2, 2, 0]),
        (lambda w: F.leaky_relu(w, 0.25).add_(1), [0.25, 1, 1, 1, 1]),
        (lambda w: F.max_pool1d(w.reshape(1, 1, 5), 1, 1).mul_(3), [3, 3, 3, 3, 3]),
        (F.relu6, [0, 0, 1, 0, 0]),  # Clip, whose gradient ends at its bounds (clipx.cpp)
        (F.relu, [0, 0, 1, 1, 1]),
    ],
)
def test_where_pieces_meet(function, expected):
    value, gradient = value_and_gradient(function, X)
    torch.testing.assert_close(value, function(X))
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize(
    "function",
    [lambda w: w.std(), lambda w: w.std(0, unbiased=False, keepdim=True), lambda w: torch.std_mean(w, 0)[0]],
)
def test_deviations(function):
    """ArithmeticOps.cpp of PopTorch, stdHandler: the root of the variance, of which the gradient is 0 / 0 at 0."""
    plain = X.clone().requires_grad_()
    function(plain).sum().backward()
    value, gradient = value_and_gradient(function, X)
    torch.testing.assert_close(value, function(X))
    torch.testing.assert_close(gradient, plain.grad)
    assert value_and_gradient(function, torch.ones(3))[1].isnan().all()


def test_integers_are_clamped_as_by_torch():
    value, _ = value_and_gradient(lambda w: w * (w * 0).int().clamp(1, 2), X)
    torch.testing.assert_close(value, X)
