"""What no IPU compiles: an error when the model is compiled, never a wrong result."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn


class Forward(nn.Module):
    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, tensor in parameters.items():
            self.register_parameter(name, nn.Parameter(tensor))

    def forward(self, x):
        return self.function(self, x)


def refused(poptorch, executors, model, x):
    """Torch's own checks of dtypes arrive as RuntimeError on an IPU."""
    with pytest.raises((poptorch.Error, RuntimeError, NotImplementedError)):
        executors.inference(model, poptorch.Options()).compile(x)


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: x.nonzero(),
        lambda self, x: torch.linalg.svd(x)[0],
        lambda self, x: torch.fft.fft(x).real,
        lambda self, x: x + x.sum().item(),
    ],
    ids=["data dependent shape", "decomposition", "complex numbers", "value on the host"],
)
def test_operations_without_a_place_on_the_ipu(poptorch, executors, forward):
    refused(poptorch, executors, Forward(forward), torch.eye(4))


def test_half_activations_meet_float_weights_in_a_linear_layer(poptorch, executors):
    model = Forward(lambda self, x: F.linear(x, self.w, self.b), w=torch.ones(2, 3), b=torch.ones(2))
    refused(poptorch, executors, model, torch.ones(4, 3).half())


def test_half_activations_meet_a_float_bias_in_a_convolution(poptorch, executors):
    model = Forward(lambda self, x: F.conv2d(x, self.w, self.b), w=torch.ones(2, 3, 1, 1), b=torch.ones(2))
    refused(poptorch, executors, model, torch.ones(1, 3, 4, 4).half())


def test_a_pipeline_needs_enough_micro_batches(poptorch, executors, needs_ipus):
    needs_ipus(2)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.LogSoftmax(1))
    poptorch.BeginBlock(model[0], ipu_id=0)
    poptorch.BeginBlock(model[1], ipu_id=1)

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x, labels):
            return F.nll_loss(self.model(x), labels)

    options = poptorch.Options()
    options.Training.gradientAccumulation(2)
    options.setExecutionStrategy(poptorch.PipelinedExecution(poptorch.AutoStage.SameAsIpu))
    executor = executors.training(Loss(), options, poptorch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(poptorch.Error, match="[gG]radient ?[aA]ccumulation"):
        executor.compile(torch.ones(2, 2), torch.zeros(2, dtype=torch.long))
