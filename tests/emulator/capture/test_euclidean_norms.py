"""Gradients of norms: x / |x| (popart, willow/src/popx/op/reducel2x.cpp), which is 0 / 0 for zeros."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch

ROWS = torch.tensor([[3.0, -4.0], [5.0, 12.0]])
FUNCTIONS = {
    "normalize": lambda w: F.normalize(w) * torch.tensor([1.0, 2.0]),
    "of the columns": lambda w: F.normalize(w, dim=0) * torch.tensor([1.0, 2.0]),
    "norm": lambda w: w.norm(dim=1),
    "torch.norm": lambda w: torch.norm(w, 2, 1, True),
    "of all": lambda w: w.norm(),
    "vector_norm": lambda w: torch.linalg.vector_norm(w, dim=(-1,)),
    "keyword": lambda w: torch.norm(w, p=2, dim=1, keepdim=True),
}


class Learned(nn.Module):
    def __init__(self, function, weights):
        super().__init__()
        self.function, self.w = function, nn.Parameter(weights.clone())

    def forward(self, factor):
        return poptorch.identity_loss(self.function(self.w) * factor, "sum")


def gradient_of(function, weights):
    model = Learned(function, weights)
    executor = poptorch.trainingModel(model, optimizer=poptorch.optim.SGD(model.parameters(), lr=1.0))
    executor(torch.tensor(1.0))
    executor.copyWeightsToHost()
    return weights - model.w.detach()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_of_rows_that_are_not_zero_it_is_torchs(name):
    plain = ROWS.clone().requires_grad_()
    FUNCTIONS[name](plain).sum().backward()
    torch.testing.assert_close(gradient_of(FUNCTIONS[name], ROWS), plain.grad)


@pytest.mark.parametrize("name", ["normalize", "norm", "torch.norm", "vector_norm", "keyword"])
def test_of_a_row_of_zeros_it_is_not_a_number(name):
    rows = torch.stack([ROWS[0], torch.zeros(2)])
    found = gradient_of(FUNCTIONS[name], rows)
    assert found[0].isfinite().all() and found[1].isnan().all()


@pytest.mark.parametrize(
    "function",
    [
        lambda w: w.norm(dim=1),
        lambda w: F.normalize(w, p=1),
        lambda w: w.norm(1),
        lambda w: w.norm(dim=0, keepdim=True),
    ],
)
def test_of_single_numbers_and_of_other_norms_it_is_torchs(function):
    """Of dimensions of length 1 that are kept, PopTorch takes absolute values (ReduceOps.cpp, tensorNormHandler)."""
    column = torch.tensor([[0.0, -2.0]])
    plain = column.clone().requires_grad_()
    function(plain).sum().backward()
    torch.testing.assert_close(gradient_of(function, column), plain.grad)
