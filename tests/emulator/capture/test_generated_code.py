"""Training models as code that torch.compile generates: what plain torch computes, to rounding."""

import copy
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch
from ipu_train.kernels import composed
from ipu_train.kernels.cpu import norm_proxy_norm_act
from ipu_train.kernels.settings import Settings

from ..networks import FromFunction, PerImage, images, largest_difference, options, train_by_hand, twins

needs_torch_2_1 = pytest.mark.skipif(not hasattr(torch, "compiler"), reason="needs PyTorch 2.1")


@pytest.fixture(autouse=True)
def generated_afresh(monkeypatch, tmp_path):
    """Code of earlier runs is not found again, and that of this test does not stay."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    if not hasattr(torch, "compiler"):
        yield
        return
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def generating(*given, **how):
    chosen = options(*given, **how)
    chosen._Emulator.torchCompile()
    return chosen


@needs_torch_2_1
def test_a_training_is_that_of_plain_torch():
    model, reference = twins("batch", cls=PerImage)
    x, labels = images(24)
    executor = poptorch.trainingModel(
        model,
        generating(2, 3, 2, mode=poptorch.OutputMode.All),
        poptorch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2),
    )
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    for _ in range(3):
        losses, _ = executor(x, labels)
        expected = train_by_hand(
            reference, optimizer, x, labels, 2, 3, 2, True, lambda m, *batch: m(*batch)[0]
        )
        torch.testing.assert_close(losses.reshape(-1), expected, rtol=0, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    assert largest_difference(model, reference) < 1e-6


class WithProxyNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ParameterList(
            [0.3 * torch.randn(8) + (i == 1) for i in range(4)]
        )  # gamma is around 1

    def forward(self, x):
        y = norm_proxy_norm_act(x, *self.parts, settings=Settings(groups=2))
        return poptorch.identity_loss((y**2).mean(), "none")


@needs_torch_2_1
def test_proxy_norm_is_one_program_with_the_rest():
    torch.manual_seed(2)
    model = WithProxyNorm()
    reference = copy.deepcopy(model)
    executor = poptorch.trainingModel(model, generating(), poptorch.optim.SGD(model.parameters(), lr=1.0))
    optimizer = torch.optim.SGD(reference.parameters(), lr=1.0)
    executor.compile(torch.randn(4, 8, 5, 5))  # tries on something small whether code can be generated
    torch._dynamo.utils.counters.clear()
    for _ in range(3):
        x = torch.randn(4, 8, 5, 5)
        optimizer.zero_grad()
        expected = (composed.norm_proxy_norm_act(x, *reference.parts, Settings(groups=2)) ** 2).mean()
        expected.backward()
        optimizer.step()
        torch.testing.assert_close(executor(x), expected.detach(), rtol=1e-5, atol=0)
    assert largest_difference(model, reference) < 1e-5
    if not hasattr(torch.compiler, "is_compiling"):  # PyTorch 2.1 and 2.2: correct, in pieces
        return
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]


def test_float16_is_refused():
    model = Dropping().half()
    executor = poptorch.trainingModel(model, generating(), poptorch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(poptorch.Error, match="generates float32 code"):
        executor(torch.ones(4, 12).half())


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(12, 4)

    def forward(self, x):
        return poptorch.identity_loss((F.dropout(self.linear(x), 0.4) ** 2).mean(), "none")


@needs_torch_2_1
def test_random_numbers_are_those_of_a_training_without_it():
    model = Dropping()
    losses = []
    for chosen in (options(2, 2), generating(2, 2)):
        twin = copy.deepcopy(model)
        chosen.randomSeed(7).outputMode(poptorch.OutputMode.All)
        executor = poptorch.trainingModel(twin, chosen, poptorch.optim.SGD(twin.parameters(), lr=0.1))
        x = torch.linspace(-1, 1, 96).reshape(8, 12)
        losses.append(torch.stack([executor(x) for _ in range(3)]))
    assert losses[0].unique().numel() == losses[0].numel()  # each micro-batch drops others
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=1e-6)


WITHOUT_A_COMPILER = """
import torch
import ipu_train.emulator as poptorch

class Square(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(5))
    def forward(self, x):
        return poptorch.identity_loss(((x * self.weight) ** 2).sum(), "none")

model = Square()
executor = poptorch.trainingModel(model, optimizer=poptorch.optim.SGD(model.parameters(), lr=0.1))
try:
    executor.compile(torch.ones(5))
except poptorch.Error as error:
    print(error)
"""


@needs_torch_2_1
def test_without_a_compiler_the_message_says_what_to_do(tmp_path):
    environment = {**os.environ, "CXX": "no-such-compiler", "POPTORCH_EMULATOR_TORCH_COMPILE": "1"}
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_COMPILER],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "C++ compiler; switch torchCompile (device.torch_compile" in told.stdout, told.stderr


@needs_torch_2_1
def test_inference_runs_as_it_is():
    chosen = generating()
    executor = poptorch.inferenceModel(FromFunction(lambda x: x.sin() + 1), chosen)
    torch._dynamo.utils.counters.clear()
    x = torch.linspace(0, 1, 7)
    assert torch.equal(executor(x), x.sin() + 1)
    assert not torch._dynamo.utils.counters["stats"]


@pytest.mark.skipif(hasattr(torch, "compiler"), reason="for PyTorch 2.0")
def test_pytorch_2_0_is_told_apart():
    model = Dropping()
    executor = poptorch.trainingModel(model, generating(), poptorch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(poptorch.Error, match="torchCompile needs PyTorch 2.1 or newer, and this is 2.0"):
        executor.compile(torch.ones(4, 12))
