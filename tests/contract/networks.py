"""A small model, and its training loop in float64. The device adds float32 numbers in an order of its own."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

CLOSE = {"rtol": 1e-3, "atol": 1e-4}


class Network(nn.Module):
    """Convolution, group norm, ReLU, mean, linear; returns (loss, logits)."""

    def __init__(self, poptorch):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(2, 8)
        self.fc = nn.Linear(8, 5)
        self.loss = [poptorch.identity_loss]  # in a list: no attribute of a module to copy

    def logits(self, x):
        return self.fc(F.relu(self.norm(self.conv(x))).mean((2, 3)))

    def forward(self, x, labels):
        logits = self.logits(x)
        return self.loss[0](F.cross_entropy(logits, labels, reduction="none"), "mean"), logits


def network(poptorch, seed=0):
    torch.manual_seed(seed)
    return Network(poptorch)


def images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 3, 6, 6, generator=generator),
        torch.randint(0, 5, (count,), generator=generator),
    )


class ByHand:
    """A copy of a network that torch trains on the CPU in float64."""

    def __init__(self, model, optimizer=torch.optim.SGD, **settings):
        self.model = copy.deepcopy(model).double()
        self.optimizer = optimizer(self.model.parameters(), **settings)

    def step(self, x, labels, micro_batches=1):
        """One weight update; the losses of its micro-batches."""
        self.optimizer.zero_grad()
        losses = []
        for part, of in zip(x.double().chunk(micro_batches), labels.chunk(micro_batches)):
            loss = F.cross_entropy(self.model.logits(part), of)
            (loss / micro_batches).backward()
            losses.append(loss.detach())
        self.optimizer.step()
        return torch.stack(losses)

    def assert_weights(self, model, **tolerance):
        for (name, expected), got in zip(self.model.named_parameters(), model.parameters()):
            torch.testing.assert_close(
                got.detach().double(), expected.detach(), msg=name, **(tolerance or CLOSE)
            )
