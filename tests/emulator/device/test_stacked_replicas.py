"""The emulator's replicas in one batch: what synchronises over replicas sees them all, the rest stays as it is."""

import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch


class Program(nn.Module):
    """A loss that depends on the mean over the whole batch that forward sees."""

    def __init__(self, synchronised):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))
        self.synchronised = synchronised

    def forward(self, x):
        y = x * self.weight
        if self.synchronised:
            y = y - y.mean(0, keepdim=True)
        loss = poptorch.identity_loss((y * y).sum(1), "mean")
        return loss, y


def trained(stack, synchronised, replicas=2, accumulation=2, batch=3):
    options = poptorch.Options().replicationFactor(replicas).outputMode(poptorch.OutputMode.All)
    options.Training.gradientAccumulation(accumulation)
    if stack:
        options._Emulator.stackReplicas(True)
    program = Program(synchronised)
    executor = poptorch.trainingModel(program, options, poptorch.optim.SGD(program.parameters(), lr=0.1))
    x = torch.randn(accumulation * replicas * batch, 2, generator=torch.Generator().manual_seed(0))
    loss, y = executor(x)
    executor.copyWeightsToHost()
    return x, loss, y, program.weight.detach().clone()


def test_the_mean_is_that_of_all_replicas_of_an_accumulation_step():
    x, loss, y, weight = trained(stack=True, synchronised=True)
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    expected = (x * w).reshape(2, 6, 2)
    expected = expected - expected.mean(1, keepdim=True)
    losses = (expected**2).sum(2).reshape(4, 3).mean(1)
    losses.mean().backward()
    torch.testing.assert_close(y, expected.detach().reshape(12, 2))
    torch.testing.assert_close(loss, losses.detach())
    torch.testing.assert_close(weight, (w - 0.1 * w.grad).detach())


def test_what_does_not_synchronise_is_the_same_either_way():
    for one, other in zip(trained(True, False), trained(False, False)):
        torch.testing.assert_close(one, other)


def test_replicas_that_share_their_input_cannot_be_stacked():
    options = poptorch.Options().replicationFactor(2)
    options.inputReplicaGrouping(2, poptorch.CommGroupType.Consecutive)
    options._Emulator.stackReplicas(True)
    program = Program(True)
    executor = poptorch.trainingModel(program, options, poptorch.optim.SGD(program.parameters(), lr=0.1))
    with pytest.raises(poptorch.Error, match="an input of its own for each replica"):
        executor(torch.randn(2, 2))
