"""Functions that PopTorch lowers to something else than torch computes, compared with float64 mathematics."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import FromFunction, run


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_by_tanh(approximate):
    """ActivationOps.cpp, geluHandler; PopLibs, lib/popnn/codelets/NonLinearity.hpp."""
    x = torch.linspace(-4, 4, 101)
    y = x.double()
    expected = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    found = run(nn.GELU(approximate=approximate), x)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    assert (found.double() - F.gelu(y)).abs().max() > 1e-4


PROBABILITIES = torch.tensor([0.25, 0.5, 0.9])
TARGETS = torch.tensor([1.0, 0.0, 0.3])


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weight", [None, torch.tensor([2.0, 0.5, 1.0])])
def test_binary_cross_entropy_inside(reduction, weight):
    p, t = PROBABILITIES.double(), TARGETS.double()
    expected = -(t * p.log() + (1 - t) * (1 - p).log()) * (1 if weight is None else weight.double())
    expected = {"none": expected, "sum": expected.sum(), "mean": expected.mean()}[reduction]

    def forward(p, t, *weights):
        return F.binary_cross_entropy(p, t, *weights, reduction=reduction)

    found = run(forward, PROBABILITIES, TARGETS, *([] if weight is None else [weight]))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_binary_cross_entropy_of_certainties_is_not_finite():
    """LossOps.cpp, binaryCrossEntropyHandler: 0 log 0 and log 0, where torch has 0 and 100."""
    found = run(
        lambda p, t: F.binary_cross_entropy(p, t, reduction="none"), torch.tensor([1.0, 0.0]), torch.ones(2)
    )
    assert found[0].isnan() and found[1].isinf()


def test_binary_cross_entropy_wants_as_many_targets():
    with pytest.raises((ValueError, poptorch.Error), match="size"):
        run(F.binary_cross_entropy, PROBABILITIES, TARGETS[:2])


def test_log_sigmoid_of_very_negative_numbers_is_infinite():
    """AtenHandlers.gen.cpp, logSigmoidHandler: the logarithm of a sigmoid, which is 0 in float32."""
    x = torch.tensor([-200.0, -3.0, 2.0])
    found = run(F.logsigmoid, x)
    assert found[0] == -math.inf
    torch.testing.assert_close(
        found[1:].double(), -torch.log1p(torch.exp(-x[1:].double())), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "loss",
    [lambda x, t: F.cross_entropy(x, t, ignore_index=7), lambda x, t: F.nll_loss(x, t, ignore_index=7)],
)
def test_a_mean_over_no_labels_is_zero(loss):
    """PopART, willow/src/popx/op/nllx.cpp: by at least one label."""
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert run(loss, x, torch.tensor([7, 7, 7])).item() == 0.0
    some = torch.tensor([7, 1, 7])
    torch.testing.assert_close(run(loss, x, some), loss(x[1:2], some[1:2]))


def test_a_mean_of_losses_that_are_not_finite_stays_so():
    x = torch.full((2, 3), math.nan)
    assert run(F.cross_entropy, x, torch.tensor([0, 1])).isnan()


@pytest.mark.parametrize(
    "dropout",
    [
        nn.Dropout(0.5), nn.Dropout2d(0.5), nn.Dropout(0.5, inplace=True),
        FromFunction(F.dropout), FromFunction(lambda x: F.dropout(x, 0.5, True)),
        FromFunction(lambda x: torch.dropout(x, 0.5, True)), FromFunction(lambda x: torch.dropout(x, 0.5, train=True)),
        FromFunction(lambda x: F.dropout3d(x[None], 0.5)[0]),
    ],
)  # fmt: skip
def test_dropout_keeps_everything_in_an_inference_model(dropout, capfd):
    """PopART, willow/src/popx/op/dropoutx.cpp and willow/src/op/dropoutbase.cpp: whatever mode the module is in."""
    x = torch.ones(4, 8, 2, 2)
    assert torch.equal(poptorch.inferenceModel(dropout.train())(x), x)
    said = "".join(capfd.readouterr())
    assert re.search(r"dropout at \S+:\d+ keeps everything", said), said


def test_dropout_drops_in_training_only():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.dropout = nn.Parameter(torch.ones(1)), nn.Dropout(0.5)

        def forward(self, x):
            kept = self.dropout(x)
            return kept, poptorch.identity_loss((kept * self.w).sum(), "sum")

    model = Model()
    trained = poptorch.trainingModel(model, optimizer=poptorch.optim.SGD(model.parameters(), lr=0.0))
    assert set(trained(torch.ones(400))[0].tolist()) == {0.0, 2.0}
    trained.destroy()
    model.eval()
    again = poptorch.trainingModel(model, optimizer=poptorch.optim.SGD(model.parameters(), lr=0.0))
    assert torch.equal(again(torch.ones(400))[0], torch.ones(400))


@pytest.mark.parametrize("dropout", [nn.Dropout(1.0), nn.Dropout2d(1.0)])
def test_all_cannot_be_dropped(dropout):
    """PopART, willow/src/op/dropoutbase.cpp, validateRatioAttribute."""
    with pytest.raises(poptorch.Error, match=r"interval \[0, 1\)"):
        run(dropout.train(), torch.ones(1, 2, 2, 2))


@pytest.mark.parametrize("rounding", ["floor", "trunc"])
def test_quotients_that_are_not_rounded_on_an_ipu_are_warned_of(rounding, capfd):
    """AtenHandlers.gen.cpp, divHandler, which does not read rounding_mode."""
    x = torch.tensor([-3.0])
    assert run(lambda x: torch.div(x, 2.0, rounding_mode=None), x).item() == -1.5
    assert "rounding_mode" not in "".join(capfd.readouterr())
    assert run(lambda x: torch.div(x, 2.0, rounding_mode=rounding), x).item() == getattr(math, rounding)(-1.5)
    assert f"use torch.{rounding} of the quotient" in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "divide, why",
    [
        (lambda x: x / 2, "divides integers"),
        (lambda x: (x > 0).sum() / 3, "divides integers"),
        (lambda x: x.to(torch.uint8) / 255, "divides integers"),
        (lambda x: torch.div(x, 2, rounding_mode="floor"), "divides integers"),
        (lambda x: x // 2, "floor of integers"),
    ],
)
def test_quotients_of_integers_are_warned_of(divide, why, capfd):
    """PopART, willow/src/popx/op/divx.cpp and floorx.cpp, by PopLibs, lib/popops/codelets.

    elemwiseBinaryCodelets.cpp has quotients of int and none of eight bits, elemwiseUnaryCodelets.cpp no FLOOR of int.
    """
    x = torch.tensor([7, -7])
    torch.testing.assert_close(run(divide, x), divide(x), check_dtype=False)
    assert why in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "divide, expected",
    [
        (lambda x: x / 2.0, [3.5, -3.5]),
        (lambda x: x.float() / 2, [3.5, -3.5]),
        (lambda x: torch.div(x, 2, rounding_mode="trunc"), [3, -3]),
        (lambda x: x.float() // 2, [3.0, -4.0]),
        (lambda x: x.to(torch.uint8) / 255.0 * 0 + x, [7.0, -7.0]),
        (lambda x: x * (torch.arange(2) / 2), [0.0, -3.5]),  # of constants: on the host, by torch
    ],
)
def test_quotients_that_are_torchs(divide, expected):
    assert run(divide, torch.tensor([7, -7])).tolist() == expected


@pytest.mark.parametrize("function", [torch.var, torch.std, torch.var_mean, torch.std_mean])
def test_other_corrections_of_variances_than_0_and_1_are_warned_of(function, capfd):
    """ArithmeticOps.cpp, calculateVarMean: the correction is read as a truth value."""
    x = torch.tensor([[1.0, 2.0, 4.0]])
    for correction in (0, 1, 2):
        forward = _var(function, correction)
        torch.testing.assert_close(run(forward, x), forward(x))
        said = "".join(capfd.readouterr())
        assert ("correction=2, which PopTorch takes for 1" in said) == (correction == 2), said


def _var(function, correction):
    def forward(x):
        result = function(x, dim=1, correction=correction)
        return result if torch.is_tensor(result) else result[0]

    return forward
