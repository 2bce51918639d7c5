"""Batch norm where micro-batches run as one batch: statistics of each alone, running ones of the first replica."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import PerImage, images, largest_difference, options, train_by_hand, twins

COMBINATIONS = list(itertools.product((1, 2), (1, 3), (1, 2, 4), (None, 2, 8)))


def fused_options(iterations=1, accumulation=1, replicas=1, limit=None, mode=None):
    made = options(iterations, accumulation, replicas, mode=mode)
    made._Emulator.fuseMicroBatches(True, max_images=limit)
    return made


class Replicas:
    """The loss of a micro-batch in plain torch, with buffers for each of the replicas that take turns."""

    def __init__(self, model, count):
        self.buffers = [{n: b.clone() for n, b in model.named_buffers()} for _ in range(count)]
        self.calls = 0

    def loss(self, model, x, labels):
        mine = self.buffers[self.calls % len(self.buffers)]
        self.calls += 1
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(mine[name])
        loss = model(x, labels)[0]
        mine.update({name: buffer.clone() for name, buffer in model.named_buffers()})
        return loss


def sgd_of(library, model):
    return library.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)


@pytest.mark.parametrize("iterations, accumulation, replicas, limit", COMBINATIONS)
def test_fused_batch_norm_trains_as_a_loop_over_micro_batches_in_plain_torch(
    iterations, accumulation, replicas, limit
):
    model, reference = twins("batch", cls=PerImage)
    x, labels = images(iterations * accumulation * replicas * 2)
    executor = poptorch.trainingModel(
        model,
        fused_options(iterations, accumulation, replicas, limit, mode=poptorch.OutputMode.All),
        sgd_of(poptorch.optim, model),
    )
    by_hand, buffers = sgd_of(torch.optim, reference), Replicas(reference, replicas)
    for _ in range(3):
        losses, _ = executor(x, labels)
        expected = train_by_hand(
            reference, by_hand, x, labels, iterations, accumulation, replicas, True, buffers.loss
        )
        torch.testing.assert_close(losses.reshape(-1), expected, rtol=0, atol=1e-5)
    assert largest_difference(model, reference) < 1e-5
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, buffers.buffers[0][name], rtol=1e-5, atol=1e-6)
    assert int(model.norm.num_batches_tracked) == 3 * iterations * accumulation


def test_fusing_really_runs_the_micro_batches_together():
    model, _ = twins("batch", cls=PerImage)
    seen = []
    model.norm.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[0]))
    poptorch.trainingModel(model, fused_options(1, 3, 2))(*images(12))
    assert seen == [12]


class Functional(PerImage):
    """The same network with another way to call batch norm."""

    def __init__(self, call):
        super().__init__("batch")
        self.call = call

    def forward(self, x, labels):
        logits = self.linear(F.relu(self.call(self.norm, self.conv(x))).mean((2, 3)))
        losses = F.cross_entropy(logits, labels, reduction="none")
        return poptorch.identity_loss(losses, "mean"), (logits.argmax(1) == labels).float()


CALLS = {
    "torch.batch_norm": lambda n, x: torch.batch_norm(
        x, n.weight, n.bias, n.running_mean, n.running_var, True, 0.3, 1e-3, False
    ),
    "no running statistics": lambda n, x: F.batch_norm(x, None, None, n.weight, n.bias, training=True),
    "no affine step": lambda n, x: F.batch_norm(x, n.running_mean, n.running_var, training=True, eps=1e-3),
    "running statistics, not updated": lambda n, x: F.batch_norm(x.detach(), n.running_mean, n.running_var),
    "vectors, [N, C]": lambda n, x: (
        n(x) + F.batch_norm(x[:, :, 0, 0], None, None, training=True)[:, :, None, None]
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_way_to_call_batch_norm_sees_micro_batches(call):
    torch.manual_seed(0)
    model, reference = Functional(CALLS[call]), Functional(CALLS[call])
    reference.load_state_dict(model.state_dict())
    x, labels = images(12)
    executor = poptorch.trainingModel(model, fused_options(1, 4), sgd_of(poptorch.optim, model))
    by_hand = sgd_of(torch.optim, reference)
    for _ in range(2):
        executor(x, labels)
        train_by_hand(reference, by_hand, x, labels, 1, 4, 1, True, lambda m, *batch: m(*batch)[0])
    assert largest_difference(model, reference) < 1e-5
    for (name, got), (_, expected) in zip(model.named_buffers(), reference.named_buffers()):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6, msg=name)


def test_float16_trains_as_one_by_one_and_running_statistics_stay_float32():
    model, _ = twins("batch", cls=PerImage)
    one_by_one, _ = twins("batch", cls=PerImage)
    x, labels = images(24)
    results = []
    for network, chosen in ((model, fused_options(1, 3, 2)), (one_by_one, options(1, 3, 2))):
        executor = poptorch.trainingModel(network, chosen, sgd_of(poptorch.optim, network))
        results.append([executor(x.half(), labels)[0] for _ in range(3)])
        executor.copyWeightsToHost()
    for fused, expected in zip(*results):
        torch.testing.assert_close(fused, expected, rtol=0, atol=2e-3)
    torch.testing.assert_close(model.norm.running_var, one_by_one.norm.running_var, rtol=1e-3, atol=1e-4)
    assert not torch.equal(model.norm.running_var, model.norm.running_var.half().float())


class CountsValues(PerImage):
    """Updates a buffer that is no statistic of batch norm."""

    def __init__(self):
        super().__init__("batch")
        self.register_buffer("seen", torch.zeros(8))

    def forward(self, x, labels):
        self.seen.add_(self.conv(x).detach().mean((0, 2, 3)))
        return super().forward(x, labels)


def test_any_other_buffer_that_each_micro_batch_updates_is_refused():
    with pytest.raises(poptorch.Error, match="forward updates seen once for each micro-batch"):
        poptorch.trainingModel(CountsValues(), fused_options(1, 2))(*images(4))


def test_a_micro_batch_of_one_value_a_channel_is_refused_as_torch_does():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))

    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = model

        def forward(self, x):
            return poptorch.identity_loss(self.layers(x).mean((1, 2, 3)), "sum")

    with pytest.raises(ValueError, match="more than 1 value per channel"):
        poptorch.trainingModel(Single(), fused_options(1, 4))(torch.randn(4, 3, 3, 3))
