"""Gradients of maxima: PopART gives each element that is one the whole.

popart, willow/src/popx/op: poolx.cpp, maxx.cpp, minx.cpp, reducemaxx.cpp, reduceminx.cpp; poplibs,
lib/popnn/codelets/MaxPoolingGrad.cpp. Expected values are counted by hand or by loops.
"""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import FromFunction


class Learned(nn.Module):
    """Its weights are what ``function`` is differentiated by."""

    def __init__(self, function, weights, halves=False):
        super().__init__()
        self.w, self.function, self.halves = nn.Parameter(weights.clone()), function, halves

    def forward(self, factor):
        w = self.w.half() if self.halves else self.w
        return poptorch.identity_loss(self.function(w) * factor, "sum")


def gradient_of(function, weights, factor=1.0, **options):
    """What one step of size 1 takes off the weights."""
    network = Learned(function, weights, **options)
    model = poptorch.trainingModel(network, optimizer=poptorch.optim.SGD(network.parameters(), lr=1.0))
    model(torch.as_tensor(factor))
    model.copyWeightsToHost()
    return weights - network.w.detach()


TIED = torch.tensor([[3.0, 1.0, 3.0], [2.0, 2.0, 0.0]])


@pytest.mark.parametrize(
    "function, expected",
    [
        (lambda w: w.amax(1), [[1, 0, 1], [1, 1, 0]]),
        (lambda w: w.amax(dim=(1,), keepdim=True), [[1, 0, 1], [1, 1, 0]]),
        (lambda w: torch.amax(w, 0), [[1, 0, 1], [0, 1, 0]]),
        (lambda w: w.max(), [[1, 0, 1], [0, 0, 0]]),
        (lambda w: torch.amin(w, (0, 1)), [[0, 0, 0], [0, 0, 1]]),
        (lambda w: (-w).min(), [[-1, 0, -1], [0, 0, 0]]),
        (lambda w: torch.maximum(w, torch.full_like(w, 2.0)), [[1, 0, 1], [1, 1, 0]]),
        (lambda w: torch.max(w, w.new_full((1,), 2.0)), [[1, 0, 1], [1, 1, 0]]),
        (lambda w: torch.minimum(w, other=torch.full_like(w, 2.0)), [[0, 1, 0], [1, 1, 1]]),
        (lambda w: torch.maximum(w[:1], w[:, :1]), [[2 + 3, 0, 2], [1, 0, 0]]),
    ],
)
def test_each_maximum_has_the_whole_gradient(function, expected):
    torch.testing.assert_close(gradient_of(function, TIED), torch.tensor(expected, dtype=torch.float32))


def test_a_maximum_with_its_index_has_one_gradient():
    """PopTorch lowers it to TopK (ReduceOps.cpp), whose gradient goes to the element that it took (topkx.cpp)."""
    found = gradient_of(lambda w: w.max(1).values, TIED)
    assert found.sum(1).tolist() == [1.0, 1.0] and found.max() == 1.0


def test_a_broadcast_operand_has_the_sum():
    found = gradient_of(lambda w: torch.maximum(w[:1, :1], torch.tensor([[1.0, 3.0, 5.0]])), TIED)
    assert found.tolist() == [[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def by_loops(x, result, gradient, kernel, stride, padding):
    """The gradient of max pooling in two dimensions, window by window."""
    found = torch.zeros_like(x)
    for n, c, i, j in itertools.product(*(range(length) for length in result.shape)):
        for row, column in itertools.product(range(kernel), range(kernel)):
            y, z = i * stride + row - padding, j * stride + column - padding
            if 0 <= y < x.shape[2] and 0 <= z < x.shape[3] and x[n, c, y, z] == result[n, c, i, j]:
                found[n, c, y, z] += gradient[n, c, i, j]
    return found


@pytest.mark.parametrize(
    "kernel, stride, padding, ceil_mode, size",
    [(2, 2, 0, False, 6), (3, 2, 1, False, 7), (3, 1, 1, False, 5), (3, 2, 0, True, 6), (2, 3, 0, False, 7)],
)
def test_max_pooling_of_few_values(kernel, stride, padding, ceil_mode, size):
    random = torch.Generator().manual_seed(kernel)
    x = torch.randint(
        0, 3, (2, 2, size, size), generator=random
    ).float()  # three values: ties in most windows
    result = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode)
    factor = torch.randint(1, 5, result.shape, generator=random).float()
    found = gradient_of(lambda w: nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)(w), x, factor)
    expected = by_loops(x, result, factor, kernel, stride, padding)
    torch.testing.assert_close(found, expected)
    plain = x.clone().requires_grad_()
    (F.max_pool2d(plain, kernel, stride, padding, ceil_mode=ceil_mode) * factor).sum().backward()
    assert not torch.equal(plain.grad, expected)


@pytest.mark.parametrize(
    "function, shape",
    [
        (lambda w: F.max_pool1d(w, 3, 2, 1), (2, 3, 9)),
        (lambda w: F.max_pool3d(w, 2, 1), (1, 2, 4, 3, 5)),
        (lambda w: F.max_pool2d(w, (2, 3), (1, 2), (1, 0)), (2, 2, 5, 7)),
        (lambda w: F.max_pool2d(w, 2, stride=2), (3, 6, 6)),
        (lambda w: F.relu(F.max_pool2d(w, 3, 2), inplace=True), (1, 2, 7, 7)),
    ],
)
def test_without_ties_it_is_torchs(function, shape):
    x = (
        torch.randperm(torch.Size(shape).numel(), generator=torch.Generator().manual_seed(0))
        .float()
        .reshape(shape)
    )
    plain = x.clone().requires_grad_()
    function(plain).sum().backward()
    torch.testing.assert_close(gradient_of(function, x), plain.grad)


def test_values_tie_that_float16_makes_equal():
    close = torch.tensor([[[1.0, 1.0 + 2.0**-12]]])
    assert gradient_of(lambda w: F.max_pool1d(w, 2, 2), close).tolist() == [[[0.0, 1.0]]]
    assert (
        gradient_of(lambda w: F.max_pool1d(w, 2, 2), close, torch.tensor(1.0).half(), halves=True).sum()
        == 2.0
    )


def test_values_are_torchs():
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = FromFunction(lambda x: (F.max_pool2d(x, 3, 2), x.amax((2, 3)), x.min(), torch.max(x, -x)))
    for got, expected in zip(poptorch.inferenceModel(model)(x), model(x)):
        torch.testing.assert_close(got, expected)
