"""float16 as the device stores it, against torch's own float16 conversions."""

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch
from ipu_train.emulator.capture.rounding import (
    HALF_MAX,
    Noise,
    _truncate_scaled,
    _truncate_shifted,
    make_rounding,
    round_nearest,
    round_stochastic,
)

from ..networks import FromFunction, Linear, images


def neighbours(x):
    """The float16 values below and above each float32, by numpy."""
    nearest = x.numpy().astype(numpy.float16)
    down = numpy.where(
        nearest.astype(numpy.float32) > x.numpy(), numpy.nextafter(nearest, numpy.float16("-inf")), nearest
    )
    up = numpy.where(
        nearest.astype(numpy.float32) < x.numpy(), numpy.nextafter(nearest, numpy.float16("inf")), nearest
    )
    return torch.from_numpy(down.astype(numpy.float32)), torch.from_numpy(up.astype(numpy.float32))


VALUES = torch.cat(
    [
        torch.randn(2000, generator=torch.Generator().manual_seed(0)) * scale
        for scale in (1e4, 1.0, 1e-3, 1e-5, 1e-7)
    ]
)


def test_rounding_to_nearest_is_float16s():
    torch.testing.assert_close(round_nearest(VALUES), VALUES.half().float(), rtol=0, atol=0)


def test_stochastic_rounding_gives_one_of_the_two_neighbours():
    down, up = neighbours(VALUES)
    rounded = round_stochastic(VALUES, torch.Generator().manual_seed(1))
    assert ((rounded == down) | (rounded == up)).all()


@pytest.mark.parametrize("value", [1.0003, -2.3456789, 1e-5 / 3, 3.3e-8, 1000.3])
def test_stochastic_rounding_is_unbiased(value):
    x = torch.full((40000,), value)
    rounded = round_stochastic(x, torch.Generator().manual_seed(2)).double()
    down, up = neighbours(x[:1])
    spacing = (up - down).item()
    standard_error = spacing / 2 / 40000**0.5
    assert abs(rounded.mean().item() - x[0].double().item()) < 5 * standard_error


@pytest.mark.parametrize("scale", [1e5, 1.0, 1e-4, 1e-6, 1e-9])
def test_both_ways_to_treat_subnormals_give_the_same_bits(scale):
    noise = torch.randint(0, 8192, (4096,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    scaled = torch.randn(4096, generator=torch.Generator().manual_seed(1)) * scale
    shifted = scaled.clone()
    _truncate_scaled(scaled, noise)
    _truncate_shifted(shifted, noise)
    assert torch.equal(scaled, shifted)


def test_stochastic_rounding_keeps_what_float16_has_exactly():
    exact = VALUES.half().float()
    torch.testing.assert_close(round_stochastic(exact, torch.Generator()), exact, rtol=0, atol=0)


def test_stochastic_rounding_saturates_and_keeps_infinities_and_nan():
    x = torch.tensor([1e6, -1e6, float("inf"), float("-inf"), float("nan"), 0.0])
    rounded = round_stochastic(x, torch.Generator())
    assert rounded[:4].tolist() == [HALF_MAX, -HALF_MAX, float("inf"), float("-inf")]
    assert torch.isnan(rounded[4])
    assert rounded[5] == 0


def test_gradients_are_rounded_as_well():
    x = torch.ones(3, requires_grad=True)
    gradient = torch.tensor([1.0001, 1e-9, 70000.0])
    make_rounding(False, None)(x).backward(gradient)
    torch.testing.assert_close(x.grad, gradient.half().float(), rtol=0, atol=0)


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Linear(108, 32), Linear(32, 5)

    def forward(self, x, labels):
        logits = self.second(F.relu(self.first(x.flatten(1))))
        return logits, F.cross_entropy(logits.float(), labels)


@pytest.mark.parametrize("target, source", [("half", "float"), ("float", "half"), ("half", "half")])
@pytest.mark.parametrize(
    "update", [torch.Tensor.copy_, torch.Tensor.add_, torch.Tensor.__imul__, torch.Tensor.div_]
)
def test_what_is_changed_in_place_keeps_its_dtype(update, target, source):
    x, y = getattr(torch.rand(5) + 1, target)(), getattr(torch.rand(5) + 1, source)()
    expected = update(x.clone(), y)
    out = poptorch.inferenceModel(FromFunction(lambda a, b: update(a.clone(), b)))(x, y)
    assert out.dtype == expected.dtype
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("weights", [torch.float32, torch.float16])
def test_every_stored_value_is_a_float16_within_its_rounding_of_the_truth(weights):
    torch.manual_seed(0)
    model = Perceptron().to(weights)
    x, labels = images(16)
    w = {k: v.double() for k, v in model.state_dict().items()}
    half = {k: v.half().double() for k, v in w.items()}  # a weight is cast to the activation's dtype
    executor = poptorch.trainingModel(model, None, poptorch.optim.SGD(model.parameters(), lr=0.0))
    logits, loss = executor(x.half(), labels)
    hidden = (x.half().double().flatten(1) @ half["first.weight"].T + half["first.bias"]).clamp(min=0)
    truth = hidden @ half["second.weight"].T + half["second.bias"]
    assert logits.dtype == torch.float16
    assert loss.dtype == torch.float32
    scale = truth.abs().max().item()
    assert (logits.double() - truth).abs().max().item() < 4 * scale * 2**-11
    assert (logits.double() - truth).abs().max().item() > 0  # rounded indeed


def test_float16_weights_stay_float16_values_and_float32_masters_do_not():
    for weights in (torch.float16, torch.float32):
        torch.manual_seed(0)
        model = Perceptron().to(weights)
        executor = poptorch.trainingModel(
            model, None, poptorch.optim.SGD(model.parameters(), lr=0.01, loss_scaling=128.0)
        )
        x, labels = images(16)
        executor(x.half(), labels)
        device = executor._executable.weights["first.weight"].detach()
        representable = torch.equal(device, device.half().float())
        assert representable is (weights == torch.float16)
        assert model.first.weight.dtype == weights


def test_loss_scaling_rescues_gradients_that_underflow():
    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(8, 8))

        def forward(self, x):
            return poptorch.identity_loss((F.linear(x, self.w) * 1.0).float() * 1e-8, "mean")

    moved = []
    for scaling in (1.0, 2.0**20):
        model = Tiny()
        optimizer = poptorch.optim.SGD(model.parameters(), lr=1e8, loss_scaling=scaling)
        executor = poptorch.trainingModel(model, None, optimizer)
        executor(torch.ones(4, 8).half())
        moved.append((1 - model.w.detach()).abs().max().item())
    assert moved[0] == 0.0
    assert moved[1] == pytest.approx(1 / 8, rel=1e-2)


def test_stochastic_rounding_repeats_with_the_seed_and_differs_without():
    def run(seed):
        torch.manual_seed(0)
        model = Perceptron()
        chosen = poptorch.Options()
        chosen.randomSeed(seed)
        chosen.Precision.enableStochasticRounding(True)
        x, labels = images(16)
        return poptorch.trainingModel(model, chosen)(x.half(), labels)[0]

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_half_accumulators_lose_what_float_accumulators_keep():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return poptorch.identity_loss(self.w * x, "sum")

    moved = []
    for accum_type in (torch.float32, torch.float16):
        model = Sum()
        chosen = poptorch.Options()
        chosen.Training.gradientAccumulation(2)
        chosen.Training.accumulationAndReplicationReductionType(poptorch.ReductionType.Sum)
        optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0, accum_type=accum_type)
        executor = poptorch.trainingModel(model, chosen, optimizer)
        executor(torch.tensor([2048.0, 1.0]))
        moved.append(-model.w.item())
    assert moved == [2049.0, 2048.0]


class Sum(nn.Module):
    """Loss sum(w * x) with a weight for each column of x."""

    def __init__(self, size, value=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.full((size,), value))

    def forward(self, x):
        return poptorch.identity_loss((self.w * x).float(), "sum")


def test_the_gradient_of_a_float16_weight_is_float16():
    x = torch.tensor([[2048.0, 1.0], [1.0, 1.0]]).half()
    chosen = poptorch.Options()
    chosen.anchorTensor("gradient", "Gradient___w")
    executor = poptorch.trainingModel(Sum(2).half(), chosen)
    executor(x)
    assert executor.getAnchoredTensor("gradient").tolist() == [
        2048.0,
        2.0,
    ]  # 2049 lies between two float16 values


@pytest.mark.parametrize("stochastic", [False, True])
def test_small_updates_of_float16_weights_survive_stochastic_rounding_only(stochastic):
    size, steps, step = 20000, 4, 1e-4  # float16 has 0.0005 between neighbours just below 1
    model = Sum(size, 1.0).half()
    chosen = poptorch.Options()
    chosen.randomSeed(11)
    chosen.Precision.enableStochasticRounding(stochastic)
    executor = poptorch.trainingModel(model, chosen, poptorch.optim.SGD(model.parameters(), lr=step))
    for _ in range(steps):
        executor(torch.ones(1, size).half())
    moved = 1 - model.w.detach().double().mean().item()
    if stochastic:
        standard_error = 2.0**-11 / 2 * (steps / size) ** 0.5
        assert abs(moved - steps * step) < 6 * standard_error
    else:
        assert moved == 0.0


@pytest.mark.parametrize("mixed", [False, True])
def test_rounding_in_place_computes_what_rounding_into_new_tensors_computes(mixed, monkeypatch):
    from ipu_train.emulator.capture import rounding, stored_results

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.norm, self.linear = nn.GroupNorm(2, 8), nn.Linear(8, 5)
            self.scale = nn.Parameter(torch.ones(8, 1, 1))

        def forward(self, x, labels):
            x = F.relu(self.norm(self.first(x)))
            shortcut = x
            y = self.second(x)
            y += shortcut
            y = y + torch.sigmoid(y) * self.scale
            if mixed:
                y = y.float() * 1.1 + y
            return F.cross_entropy(self.linear(y.mean((2, 3)).half()).float(), labels)

    def train(stochastic):
        torch.manual_seed(0)
        model = Residual().half()
        chosen = poptorch.Options()
        chosen.randomSeed(1)
        chosen.Precision.enableStochasticRounding(stochastic)
        executor = poptorch.trainingModel(
            model, chosen, poptorch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, loss_scaling=64.0)
        )
        x, labels = images(8)
        losses = [executor(x.half(), labels).item() for _ in range(3)]
        return losses, [parameter.detach().clone() for parameter in model.parameters()]

    in_place = train(False)
    monkeypatch.setattr(stored_results, "RESULT_NOT_SAVED", frozenset())
    monkeypatch.setattr(rounding.Rounding, "gradient", rounding.Rounding.values)
    apart = train(False)
    assert in_place[0] == apart[0]
    for a, b in zip(in_place[1], apart[1]):
        assert torch.equal(a, b)


def test_a_longer_pool_of_noise_begins_with_the_same_bits():
    short, long = Noise(), Noise()
    for noise, first in ((short, 10), (long, 300000)):
        noise.manual_seed(5)
        noise.window(first)
    assert torch.equal(short.window(1000), long.window(1000))
    short.manual_seed(6)
    assert not torch.equal(short.window(1000), long.window(1000))
    values = short.window(100000)
    assert values.min() >= 0
    assert values.max() <= 8191
    assert abs(values.double().mean().item() - 4095.5) < 6 * 8192 / (12 * 100000) ** 0.5


def test_a_cast_of_a_float16_weight_to_float16_updates_nothing():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(4))

        def forward(self, x):
            return poptorch.identity_loss((x * self.w.to(x.dtype)).float().sum(1), "mean")

    model = Scale().half()
    chosen = poptorch.Options()
    chosen.Training.gradientAccumulation(2)
    chosen._Emulator.fuseMicroBatches(True)
    executor = poptorch.trainingModel(model, chosen, poptorch.optim.SGD(model.parameters(), lr=0.5))
    executor(torch.ones(4, 4).half())
    assert executor._executable.updated_buffers == []
    torch.testing.assert_close(model.w.detach(), torch.full((4,), 0.5).half())


class TestRunningStatistics:
    """A float16 norm may keep float32 running statistics, as PopTorch 3.4's user guide recommends."""

    class Model(nn.Module):
        def __init__(self, norm, by_hand=False):
            super().__init__()
            self.norm, self.by_hand = norm, by_hand

        def forward(self, x):
            n = self.norm
            if self.by_hand:  # weight and bias come before the statistics here
                y = torch.batch_norm(
                    x, n.weight, n.bias, n.running_mean, n.running_var, True, n.momentum, n.eps, False
                )
            else:
                y = n(x)
            return poptorch.identity_loss(y.square(), "mean")

    @pytest.mark.parametrize("kind", ["batch", "instance", "torch.batch_norm"])
    def test_training_updates_them_in_float32(self, kind):
        make = nn.InstanceNorm2d if kind == "instance" else nn.BatchNorm2d
        arguments = {"affine": True, "track_running_stats": True}
        reference, norm = make(3, **arguments), make(3, **arguments).half()
        norm.running_mean, norm.running_var = norm.running_mean.float(), norm.running_var.float()
        model = self.Model(norm, by_hand=kind == "torch.batch_norm")
        chosen = poptorch.Options()
        chosen.Training.gradientAccumulation(2)
        executor = poptorch.trainingModel(model, chosen, torch.optim.SGD(model.parameters(), lr=0.0))
        x = (torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 + 1).half()
        executor(x)
        for micro_batch in x.float().chunk(2):
            reference(micro_batch)
        assert norm.running_mean.dtype == torch.float32
        # closer than float16 could hold them
        torch.testing.assert_close(norm.running_mean, reference.running_mean, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(norm.running_var, reference.running_var, rtol=1e-6, atol=1e-7)

    def test_inference_normalises_with_the_float32_values(self):
        norm = nn.BatchNorm2d(1).half().eval()
        norm.running_mean, norm.running_var = torch.tensor([2049.0]), torch.tensor([1.0])  # no float16
        output = poptorch.inferenceModel(norm)(torch.full((1, 1, 1, 1), 2052.0, dtype=torch.half))
        assert output.dtype == torch.half
        torch.testing.assert_close(output.float(), torch.full((1, 1, 1, 1), 3.0), rtol=1e-3, atol=0)

    @pytest.mark.parametrize("training", [False, True])
    def test_those_that_forward_returns_are_from_before_the_update(self, training):
        class Returning(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = nn.BatchNorm2d(2)

            def forward(self, x):
                y = self.norm(x)
                return poptorch.identity_loss(y.square(), "mean"), self.norm.running_mean

        model = Returning()
        wrap = poptorch.trainingModel if training else poptorch.inferenceModel
        executor = wrap(model)
        assert executor(torch.ones(2, 2, 3, 3))[1].tolist() == [0.0, 0.0]
        if training:  # the update itself happens
            torch.testing.assert_close(model.norm.running_mean.detach().clone(), torch.full((2,), 0.1))


@pytest.mark.parametrize("statistics", [torch.float16, torch.float32])
def test_running_statistics_are_stored_in_their_own_dtype(statistics):
    """PopART's batch norm computes them in the dtype of the variable (popx/op/batchnormx.cpp), step by step."""

    class Normalised(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(4).half()
            self.norm.running_mean = self.norm.running_mean.to(statistics)
            self.norm.running_var = self.norm.running_var.to(statistics)

        def forward(self, x):
            out = self.norm(x)
            return out, poptorch.identity_loss(out.float().square(), "mean")

    torch.manual_seed(0)
    module = Normalised()
    model = poptorch.trainingModel(module, None, torch.optim.SGD(module.parameters(), lr=0.0))
    expected = torch.zeros(4)
    for _ in range(20):
        x = (torch.randn(8, 4, 3, 3) + 1).half()
        model(x)
        expected = (0.9 * expected + 0.1 * x.float().mean((0, 2, 3))).to(statistics).float()
    got = model.state_dict()["norm.running_mean"]
    assert got.dtype == statistics
    spacing = (
        1e-3 if statistics == torch.float16 else 1e-6
    )  # of float16 near 1, where a sum may round the other way
    torch.testing.assert_close(got.float(), expected, rtol=0, atol=spacing)
    stored = model._compiled.executable.state["norm.running_mean"].detach()
    assert torch.equal(stored, stored.to(statistics).float())
