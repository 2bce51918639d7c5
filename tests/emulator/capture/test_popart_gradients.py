"""What PopART's own backward pass cannot do, though torch's can.

popart, willow/src/op: pad.cpp, prelu.cpp, batchnorm.cpp; poptorch,
popart_compiler/source/custom_operations/UpsampleBilinear2d.cpp.
"""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import FromFunction, run

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1])


class Network(nn.Module):
    """Two convolutions, ``layer`` between them and ``around`` what comes past it."""

    def __init__(self, layer, around=lambda before, after: after):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.layer, self.last = nn.Conv2d(3, 4, 3), layer, nn.Conv2d(4, 2, 1)
        self.around = around

    def forward(self, x, labels):
        before = self.first(x)
        logits = self.last(self.around(before, self.layer(before))).mean((2, 3))
        return logits, F.cross_entropy(logits, labels)


def trained(network):
    """Weights after one update, from the emulator."""
    model = poptorch.trainingModel(network, optimizer=poptorch.optim.SGD(network.parameters(), lr=0.5))
    model(IMAGES, LABELS)
    model.copyWeightsToHost()
    return dict(network.named_parameters())


def trained_by_torch(network, images=IMAGES):
    """The same from a copy of the network in plain torch."""
    twin = copy.deepcopy(network)
    twin(images, LABELS)[1].backward()
    with torch.no_grad():
        return {name: w if w.grad is None else w - 0.5 * w.grad for name, w in twin.named_parameters()}


@pytest.mark.parametrize(
    "pad",
    [nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")],
    ids=["reflection", "replication", "of_a_convolution"],
)
def test_padding_by_what_is_there_cannot_be_trained_through(pad):
    with pytest.raises(poptorch.Error, match=r"pad at .*test_popart_gradients\.py:\d+.*PadGradOp"):
        trained(Network(pad))
    run(pad, torch.randn(1, 4, 5, 5))  # inference can


def test_no_gradient_of_a_prelu_is_no_way_around():
    with pytest.raises(poptorch.Error, match="PadGradOp"):
        trained(Network(nn.Sequential(nn.PReLU(4), nn.ReflectionPad2d(1))))


@pytest.mark.parametrize(
    "layer",
    [nn.ZeroPad2d(1), FromFunction(lambda x: nn.ReflectionPad2d(1)(x).detach())],
    ids=["zeros", "no_gradient_arrives"],
)
def test_padding_that_trains(layer):
    network = Network(layer)
    expected = trained_by_torch(network)
    for name, w in trained(network).items():
        torch.testing.assert_close(w, expected[name], msg=name)


def test_images_are_padded_by_reflection_as_in_plain_torch():
    """Nothing that trains comes before them (poptorch/source/AddDetachOperations.cpp)."""
    network = Network(nn.ReLU())
    padded = FromFunction(lambda x, labels: network(F.pad(x, (1, 1, 1, 1), mode="reflect"), labels))
    padded.network = network
    expected = trained_by_torch(network, F.pad(IMAGES, (1, 1, 1, 1), mode="reflect"))
    for name, w in trained(padded).items():
        torch.testing.assert_close(w, expected[name.split(".", 1)[1]], msg=name)


def test_frozen_weights_before_a_padding_take_no_gradient():
    network = Network(nn.ReflectionPad2d(1))
    network.first.requires_grad_(False)
    expected = trained_by_torch(network)
    for name, w in trained(network).items():
        torch.testing.assert_close(w, expected[name], msg=name)


def test_no_gradient_gets_past_a_prelu():
    network = Network(nn.PReLU(4))
    before = copy.deepcopy(network)
    after = trained(network)
    changed = {name for name, w in after.items() if not torch.equal(w, dict(before.named_parameters())[name])}
    assert changed == {"last.weight", "last.bias"}


def test_past_a_prelu_on_another_way_the_gradient_is_that_of_the_other_way():
    network = Network(nn.PReLU(4), lambda before, after: before + after)
    twin = copy.deepcopy(network)
    twin.around = lambda before, after: before + after.detach()
    expected = trained_by_torch(twin)
    after = trained(network)
    assert after["layer.weight"].equal(expected["layer.weight"])
    for name, w in after.items():
        torch.testing.assert_close(w, expected[name], msg=name)


def test_a_prelu_in_training_is_warned_of_with_its_place(capfd):
    trained(Network(nn.PReLU(4)))
    said = "".join(capfd.readouterr())
    assert re.search(r"prelu at \S+test_popart_gradients\.py:\d+: PopART has no gradient", said), said


def test_a_prelu_in_inference_is_torchs():
    layer = nn.PReLU(4)
    torch.testing.assert_close(
        run(layer, IMAGES[:, :1].expand(2, 4, 8, 8)), layer(IMAGES[:, :1].expand(2, 4, 8, 8))
    )


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4).eval(),
        FromFunction(lambda x: F.batch_norm(x, torch.zeros(4).to("ipu"), torch.ones(4).to("ipu"))),
        nn.InstanceNorm2d(4, track_running_stats=True).eval(),
    ],
    ids=["module", "function", "instance"],
)
def test_batch_norm_in_inference_mode_cannot_be_trained_through(norm):
    with pytest.raises(poptorch.Error, match=r"norm at .*BatchNorm|norm at .*batch norm in inference mode"):
        trained(Network(norm))


def test_batch_norm_in_inference_mode_is_trained_after():
    """As in PopTorch's tests/norms_test.py, test_batchNorm_eval_during_training: nothing before it trains."""
    network = Network(nn.BatchNorm2d(4).eval())
    network.first.requires_grad_(False)
    network.layer.requires_grad_(False)
    twin = copy.deepcopy(network)
    twin(IMAGES, LABELS)[1].backward()
    after = trained(network)
    assert torch.equal(network.layer.running_mean, torch.zeros(4))
    torch.testing.assert_close(
        after["last.weight"], (twin.last.weight - 0.5 * twin.last.weight.grad).detach()
    )


def test_its_own_weights_do_not_train_either():
    network = Network(nn.BatchNorm2d(4).eval())
    network.first.requires_grad_(False)
    with pytest.raises(poptorch.Error, match="batch norm in inference mode"):
        trained(network)


def scaled(size, align_corners=False):
    return FromFunction(lambda x: F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners))


@pytest.mark.parametrize(
    "border, size, align_corners, why",
    [
        (0, 10, False, "its gradient would be 5 x 5, not 6 x 6"),  # 10 / 1.666667 is less than 6
        (1, 2, False, "pixels that nothing is taken from, as from 8 to 2"),
        (0, 3, True, "pixels that nothing is taken from, as from 6 to 3"),
    ],
)
def test_bilinear_scaling_whose_gradient_has_no_place(border, size, align_corners, why):
    with pytest.raises(poptorch.Error, match=rf"interpolate at .*cannot be trained through: {why}"):
        trained(Network(nn.Sequential(nn.ZeroPad2d(border), scaled((size, size), align_corners))))
    run(
        scaled((size, size), align_corners), torch.randn(1, 4, 6 + 2 * border, 6 + 2 * border)
    )  # inference can


@pytest.mark.parametrize("size, align_corners", [(12, False), (12, True), (9, False), (3, False), (6, False)])
def test_bilinear_scaling_that_trains(size, align_corners):
    """Twice and one and a half times the size, half of it, and the size itself."""
    network = Network(scaled((size, size), align_corners))
    twin = copy.deepcopy(network)
    twin(IMAGES, LABELS)[1].backward()
    for name, w in trained(network).items():
        before = dict(twin.named_parameters())[name]
        torch.testing.assert_close(w, (before - 0.5 * before.grad).detach(), msg=name)


@pytest.mark.parametrize(
    "cut, warned",
    [
        (lambda x: _without_gradient(x), True),
        (lambda x: _without_gradient(x).detach(), False),
        (lambda x: _without_gradient(x.detach()), False),
        (lambda x: x.detach() * 2, False),
    ],
)
def test_no_grad_on_the_way_to_the_loss_is_warned_of(cut, warned, capfd):
    """poptorch/source/RequiresGrad.cpp: an output requires a gradient where an operand does."""
    network = Network(nn.Identity(), lambda before, after: before + cut(before))
    twin = copy.deepcopy(network)
    twin(IMAGES, LABELS)[1].backward()
    after = trained(network)
    expected = (twin.first.weight - 0.5 * twin.first.weight.grad).detach()
    torch.testing.assert_close(after["first.weight"], expected)  # as the user guide has it
    said = "".join(capfd.readouterr())
    assert (
        bool(re.search(r"mul at \S+test_popart_gradients\.py:\d+ is within torch.no_grad", said)) == warned
    ), said


def _without_gradient(x):
    with torch.no_grad():
        return x * 2
