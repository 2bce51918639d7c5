"""The emulator computing on a GPU: the same trainings as on the CPU, which the other tests compare with plain torch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import PerImage, images, largest_difference, options, twins

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

OPTIMIZERS = {
    "sgd": lambda p: poptorch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2, loss_scaling=64.0),
    "adamw": lambda p: poptorch.optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: poptorch.optim.RMSprop(p, lr=0.01, momentum=0.9, use_tf_variant=True),
    "lamb": lambda p: poptorch.optim.LAMB(p, lr=0.01),
    "clipped": lambda p: poptorch.optim.SGD(p, lr=0.1, max_grad_norm=0.01),
}


@pytest.fixture(autouse=True)
def float32_as_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # matrix products have no TF32 by default


def executor_on(device, model, optimizer="sgd", fuse=False, **how):
    chosen = options(2, 3, 2, **how)
    chosen.randomSeed(5)
    chosen._Emulator.computeDevice(device).fuseMicroBatches(fuse)
    return poptorch.trainingModel(model, chosen, OPTIMIZERS[optimizer](model.parameters()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("fuse", [False, True])
def test_a_training_is_that_of_the_cpu(optimizer, norm, fuse):
    model, reference = twins(norm, cls=PerImage)
    for network in (model, reference):
        # batch norm takes this bias away again: its gradient is rounding, which Adam scales up
        network.conv.bias.requires_grad_(norm != "batch")
    x, labels = images(24)
    on_gpu, on_cpu = (
        executor_on(device, network, optimizer, fuse, mode=poptorch.OutputMode.All)
        for device, network in (("cuda", model), ("cpu", reference))
    )
    for _ in range(3):
        for got, expected in zip(on_gpu(x, labels), on_cpu(x, labels)):
            assert got.device.type == "cpu"
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    assert largest_difference(model, reference) < 1e-4
    for got, expected in zip(model.buffers(), reference.buffers()):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    states = [e._optimizer.host.state_dict()["ipu_state"] for e in (on_gpu, on_cpu)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=1e-3, msg=name)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_float16_rounds_as_on_the_cpu(norm):
    model, reference = twins(norm, cls=PerImage)
    x, labels = images(24)
    runs = [executor_on("cuda", model.half()), executor_on("cpu", reference.half())]
    for _ in range(3):
        got, expected = (run(x.half(), labels)[0] for run in runs)
        torch.testing.assert_close(got, expected, rtol=0, atol=5e-3)
    assert largest_difference(model, reference) < 5e-3
    assert all(p.dtype == torch.float16 and p.device.type == "cpu" for p in model.parameters())


def test_stochastic_rounding_takes_one_of_the_two_neighbours_and_is_unbiased():
    model = nn.Linear(1, 1, bias=False).half()
    model.weight.data.fill_(1.0)
    chosen = options(1)
    chosen.randomSeed(7)
    chosen.Precision.enableStochasticRounding(True)
    chosen._Emulator.computeDevice("cuda")

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = model

        def forward(self, x):
            return x * 1.0009765625 * self.linear.weight[0, 0]

    x = torch.full((50000,), 1.25).half()
    got = poptorch.inferenceModel(Scaled(), chosen)(x).double()
    exact = 1.25 * 1.0009765625  # between two float16 numbers that are 2**-10 apart
    below = 1.25 + 2.0**-10
    assert set(got.tolist()) <= {below, below + 2.0**-10}
    # five standard deviations of the mean of 50,000 draws, each at most 2**-11
    assert abs(got.mean().item() - exact) < 5 * 2.0**-11 / 50000**0.5


class Dropped(PerImage):
    """With half of the pixels dropped."""

    def forward(self, x, labels):
        return super().forward(F.dropout(x, 0.5, self.training), labels)


def test_random_layers_repeat_with_the_seed_and_leave_the_host_alone():
    x, labels = images(24)
    results = []
    for _ in range(2):
        model, _ = twins(cls=Dropped)
        executor = executor_on("cuda", model, mode=poptorch.OutputMode.All)
        torch.manual_seed(11)
        results.append([executor(x, labels)[0] for _ in range(2)])
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(11)))
    first, again = results
    torch.testing.assert_close(first, again, rtol=0, atol=1e-5)
    assert not torch.allclose(first[0], first[1], atol=1e-3)


def test_inference_and_weights_come_back_to_the_host():
    model, reference = twins()
    chosen = options(2)
    chosen._Emulator.computeDevice("cuda")
    x, _ = images(8)
    torch.testing.assert_close(
        poptorch.inferenceModel(model, chosen)(x)[-4:], reference(x)[-4:].detach(), rtol=0, atol=1e-5
    )


def test_constants_made_inside_forward_are_on_the_gpu():
    class Shifted(nn.Module):
        def forward(self, x):
            return x + torch.arange(x.shape[1]).float() + torch.tensor([0.5])

    chosen = options(1)
    chosen._Emulator.computeDevice("cuda")
    x = torch.zeros(2, 3)
    assert poptorch.inferenceModel(Shifted(), chosen)(x).tolist() == [[0.5, 1.5, 2.5]] * 2
