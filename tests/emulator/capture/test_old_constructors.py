"""``tensor.new(...)`` and ``tensor.new_tensor(...)``: torch makes such tensors where the first one is.

PopTorch registers a device guard for IPUs (dispatch_tracer/Tensor.cpp), so that torch can, and what comes from the host
becomes a constant (dispatch_tracer/RegisterAtenOverloads.cpp, copyInplace). Its own tests sample
``torch.distributions.Exponential``, which calls ``new`` (tests/random_sampling_test.py).
"""

import numpy as np
import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch

HOST = torch.tensor([3.0, 0.1, 2.0])
CALLS = {
    "new_size": lambda x: x.new(x.size()).fill_(2),
    "new_sizes": lambda x: x.new(2, 3).fill_(2),
    "new_data": lambda x: x.new([1, 2, 3]) + x,
    "new_tensor_shared": lambda x: x.new(x) + 1,
    "numbers": lambda x: x.new_tensor([1, 0.1, 3]) * x,
    "nested": lambda x: x * x.new_tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    "number": lambda x: x.new_tensor(0.1) * x,
    "named": lambda x: x.new_tensor(data=(1, 2, 3)) * x,
    "array": lambda x: x.new_tensor(np.ones(3)) + x,
    "of_input": lambda x: x.new_tensor(x + 1) * 2,
    "of_host": lambda x: x.new_tensor(HOST) * x,
}


class Calling(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x):
        return self.call(x + 0)


@pytest.mark.filterwarnings("ignore:To copy construct")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_they_give_what_they_give_on_the_cpu(call, dtype):
    x = torch.arange(6.0).reshape(2, 3).to(dtype)
    model = poptorch.inferenceModel(Calling(call))
    for shift in (0, 1):  # a constant does not become stale
        out = model(x + shift)
        assert out.dtype == dtype
        torch.testing.assert_close(out, call(x + shift))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_a_dtype_may_be_named(dtype):
    out = poptorch.inferenceModel(Calling(lambda x: x.new_tensor([1, 2], dtype=dtype) + 1))(torch.ones(2))
    assert out.dtype == torch.int32  # as all integers of the device
    assert out.tolist() == [2, 3]


def test_exponential_distributions_can_be_sampled():
    options = poptorch.Options().randomSeed(8)
    sample = Calling(lambda x: torch.distributions.Exponential(0.5).sample(x.size()))
    drawn = poptorch.inferenceModel(sample, options)(torch.zeros(10, 10, 100))
    assert drawn.shape == (10, 10, 100) and drawn.dtype == torch.float32
    assert drawn.min() >= 0
    assert drawn.mean().item() == pytest.approx(2.0, rel=0.05)
