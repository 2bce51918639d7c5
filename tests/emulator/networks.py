"""Small models that the emulator's tests train, and the loops they are compared with, written by hand."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

import ipu_train.emulator as poptorch


class Linear(nn.Linear):
    """With weights in its input's dtype, which PopTorch wants where there is a bias."""

    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Conv2d(nn.Conv2d):
    """With weights in its input's dtype, which PopTorch wants where there is a bias."""

    def forward(self, x):
        return self._conv_forward(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Convolutional(nn.Module):
    """Convolution, norm, ReLU, mean, linear; returns logits and mean cross entropy when given labels."""

    def __init__(self, norm="group"):
        super().__init__()
        self.conv = Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8) if norm == "batch" else nn.GroupNorm(2, 8)
        self.linear = Linear(8, 5)

    def forward(self, x, labels=None):
        logits = self.linear(F.relu(self.norm(self.conv(x))).mean((2, 3)))
        return logits if labels is None else (logits, F.cross_entropy(logits, labels))


class PerImage(Convolutional):
    """The same, with outputs of each image and the loss marked by identity_loss, so that it can be fused."""

    def forward(self, x, labels):
        logits = super().forward(x)
        losses = F.cross_entropy(logits, labels, reduction="none")
        return poptorch.identity_loss(losses, "mean"), (logits.argmax(1) == labels).float()


class FromFunction(nn.Module):
    """A module whose forward is the function given."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args, **kwargs):
        return self.function(*args, **kwargs)


def run(function, *args, **kwargs):
    """What an inference executor returns for a forward that is ``function``."""
    return poptorch.inferenceModel(FromFunction(function))(*args, **kwargs)


def images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 3, 6, 6, generator=generator),
        torch.randint(0, 5, (count,), generator=generator),
    )


def options(iterations=1, accumulation=1, replicas=1, reduction="Mean", mode=None):
    made = poptorch.Options()
    made.deviceIterations(iterations).replicationFactor(replicas)
    made.Training.gradientAccumulation(accumulation)
    made.Training.accumulationAndReplicationReductionType(getattr(poptorch.ReductionType, reduction))
    if mode is not None:
        made.outputMode(mode)
    return made


def train_by_hand(model, optimizer, x, labels, iterations, accumulation, replicas, mean, loss_of):
    """The weight updates of one training call in plain torch, and the loss of every micro-batch in order."""
    count = iterations * accumulation * replicas
    size = len(x) // count
    losses = []
    for iteration in range(iterations):
        optimizer.zero_grad()
        for k in range(accumulation * replicas):
            at = (iteration * accumulation * replicas + k) * size
            loss = loss_of(model, x[at : at + size], labels[at : at + size])
            (loss / (accumulation * replicas) if mean else loss).backward()
            losses.append(loss.detach())
        optimizer.step()
    return torch.stack(losses)


def twins(norm="group", cls=Convolutional, seed=0):
    """A model and an independent copy of it."""
    torch.manual_seed(seed)
    model = cls(norm)
    return model, copy.deepcopy(model)


def largest_difference(model, other):
    return max(
        (a.detach() - b.detach()).abs().max().item() for a, b in zip(model.parameters(), other.parameters())
    )


class WithLoss(nn.Module):
    """A network and the mean squared error of what it gives."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, labels):
        return nn.functional.mse_loss(self.network(x), labels)
