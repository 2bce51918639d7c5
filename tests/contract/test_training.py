"""A training call is the weight update that torch would make (PopTorch user guide, "Efficient data batching")."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from .networks import CLOSE, ByHand, images, network

RATE = 0.1


@pytest.mark.parametrize(
    "iterations, accumulation, replicas", [(1, 1, 1), (2, 1, 1), (1, 3, 1), (2, 2, 1), (1, 2, 2)]
)
def test_weights_and_losses_are_those_of_a_loop_by_hand(
    poptorch, executors, needs_ipus, iterations, accumulation, replicas
):
    needs_ipus(replicas)
    model = network(poptorch)
    by_hand = ByHand(model, lr=RATE, momentum=0.9, weight_decay=1e-2)
    options = poptorch.Options().deviceIterations(iterations).replicationFactor(replicas)
    options.Training.gradientAccumulation(accumulation)
    options.outputMode(poptorch.OutputMode.All)
    optimizer = poptorch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-2)
    executor = executors.training(model, options, optimizer)
    parts = accumulation * replicas
    x, labels = images(2 * iterations * parts)
    for _ in range(2):
        losses, logits = executor(x, labels)
        expected = [by_hand.step(a, b, parts) for a, b in zip(x.chunk(iterations), labels.chunk(iterations))]
        assert logits.shape == (len(x), 5)
        torch.testing.assert_close(losses.view(-1).double().sort()[0], torch.cat(expected).sort()[0], **CLOSE)
    by_hand.assert_weights(model)


@pytest.mark.parametrize(
    "name, settings",
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "use_combined_accum": True}),
        ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
        ("RMSprop", {"lr": 0.01, "alpha": 0.9}),
    ],
    ids=["nesterov", "combined", "adamw", "rmsprop"],
)
def test_optimizers_are_torchs(poptorch, executors, name, settings):
    model = network(poptorch)
    torchs = {key: value for key, value in settings.items() if key != "use_combined_accum"}
    by_hand = ByHand(model, getattr(torch.optim, name), **torchs)
    executor = executors.training(
        model, poptorch.Options(), getattr(poptorch.optim, name)(model.parameters(), **settings)
    )
    x, labels = images(4)
    for _ in range(3):
        executor(x, labels)
        by_hand.step(x, labels)
    by_hand.assert_weights(model, rtol=1e-2, atol=1e-3)


def test_a_new_learning_rate_counts_from_set_optimizer_on(poptorch, executors):
    model = network(poptorch)
    by_hand = ByHand(model, lr=RATE)
    optimizer = poptorch.optim.SGD(model.parameters(), lr=RATE)
    executor = executors.training(model, poptorch.Options(), optimizer)
    x, labels = images(4)
    for rate in (RATE, 0.02):
        for group in (*optimizer.param_groups, *by_hand.optimizer.param_groups):
            group["lr"] = rate
        executor.setOptimizer(optimizer)
        executor(x, labels)
        by_hand.step(x, labels)
    by_hand.assert_weights(model)


@pytest.mark.parametrize(
    "mode, returned", [("Final", 2), ("All", 12), ("Sum", 2)], ids=["final", "all", "sum"]
)
def test_output_modes_return_what_they_say(poptorch, executors, mode, returned):
    options = poptorch.Options().deviceIterations(6).outputMode(getattr(poptorch.OutputMode, mode))
    x = torch.arange(12.0).view(12, 1)
    out = executors.inference(Double(), options)(x)
    assert out.shape == (returned, 1)
    micro_batches = (2 * x).view(6, 2, 1)
    expected = {"Final": micro_batches[-1], "All": 2 * x, "Sum": micro_batches.sum(0)}[mode]
    torch.testing.assert_close(out, expected)


class Double(nn.Module):
    def forward(self, x):
        return x * 2.0


def test_two_ipus_in_a_pipeline_train_as_one(poptorch, executors, needs_ipus):
    needs_ipus(2)
    model = network(poptorch)
    by_hand = ByHand(model, lr=RATE)
    poptorch.BeginBlock(model.conv, ipu_id=0)
    poptorch.BeginBlock(model.fc, ipu_id=1)
    options = poptorch.Options()
    options.Training.gradientAccumulation(4)
    options.setExecutionStrategy(poptorch.PipelinedExecution(poptorch.AutoStage.SameAsIpu))
    executor = executors.training(model, options, poptorch.optim.SGD(model.parameters(), lr=RATE))
    x, labels = images(8)
    executor(x, labels)
    by_hand.step(x, labels, 4)
    by_hand.assert_weights(model)


def test_half_activations_train_float_weights(poptorch, executors):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, bias=False)
            self.norm = nn.GroupNorm(2, 8)

        def forward(self, x, labels):
            features = F.relu(self.norm(self.conv(x))).mean((2, 3))
            assert features.dtype == torch.float16
            return F.nll_loss(F.log_softmax(features.float(), 1), labels), features

    torch.manual_seed(0)
    model = Mixed()
    before = model.conv.weight.detach().clone()
    executor = executors.training(model, poptorch.Options(), poptorch.optim.SGD(model.parameters(), lr=0.1))
    x, labels = images(4)
    loss, features = executor(x.half(), labels)
    assert (loss.dtype, features.dtype) == (torch.float32, torch.float16)
    assert model.conv.weight.dtype == torch.float32
    assert not torch.equal(model.conv.weight, before)
    assert torch.isfinite(model.conv.weight).all()
