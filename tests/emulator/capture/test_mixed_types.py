"""Float16 beside float32 in one call, as torch 2.0.1's shape functions and PopTorch 3.4's handlers take it."""

import itertools

import pytest
import torch
import torch.nn.functional as F

import ipu_train.emulator as poptorch

from ..networks import run

HALF, FLOAT = torch.float16, torch.float32
SHAPES = {  # of input, weight and bias
    F.linear: ((2, 3), (4, 3), (4,)),
    torch.addmm: ((2, 4), (2, 3), (3, 4)),
    F.conv1d: ((2, 3, 5), (4, 3, 1), (4,)),
    F.conv2d: ((2, 3, 5, 5), (4, 3, 1, 1), (4,)),
    F.conv3d: ((2, 3, 5, 5, 5), (4, 3, 1, 1, 1), (4,)),
}


@pytest.mark.parametrize("dtypes", list(itertools.product((HALF, FLOAT), repeat=3)), ids=str)
@pytest.mark.parametrize("function", SHAPES, ids=lambda f: f.__name__)
def test_what_has_a_bias_wants_it_in_the_dtype_of_the_input(function, dtypes):
    operands = [torch.ones(shape, dtype=dtype) for shape, dtype in zip(SHAPES[function], dtypes)]
    compared = dtypes if function in (F.linear, torch.addmm) else (dtypes[0], dtypes[2])
    left_to_poptorch = function in (F.conv1d, F.conv3d)
    if len(set(compared)) == 1 or left_to_poptorch:
        assert run(function, *operands).dtype == dtypes[0]
        return
    with pytest.raises(poptorch.Error, match="must have the same dtype|should be the same"):
        run(function, *operands)


@pytest.mark.parametrize("input, weight", [(HALF, FLOAT), (FLOAT, HALF)], ids=str)
@pytest.mark.parametrize("function", [F.linear, F.conv2d], ids=lambda f: f.__name__)
def test_without_a_bias_the_weight_is_cast(function, input, weight):
    x, w = (torch.ones(shape) for shape in SHAPES[function][:2])
    assert run(function, x.to(input), w.to(weight)).dtype == input


@pytest.mark.parametrize("function", [torch.var_mean, torch.std_mean])
def test_a_mean_beside_a_variance_does_not_keep_its_dimensions(function):
    """PopTorch's handler squeezes the mean whatever ``keepdim`` says (``ArithmeticOps.cpp``)."""
    x = torch.rand(3, 4)
    for forward in (lambda x: function(x, dim=1, keepdim=True), lambda x: function(x, (1,), True, True)):
        spread, mean = run(forward, x)
        assert (spread.shape, mean.shape) == ((3, 1), (3,))
        torch.testing.assert_close(mean, x.mean(1))
    torch.testing.assert_close(run(lambda x: function(x, dim=1), x), function(x, dim=1))


def test_what_follows_sees_the_mean_without_its_dimensions():
    def centred(x):
        variance, mean = torch.var_mean(x, dim=1, keepdim=True)
        return (x - mean) / variance

    with pytest.raises(RuntimeError, match="must match the size"):
        run(centred, torch.rand(3, 4))
