"""Buffers that forward writes with what it differentiates: to the next micro-batch they are values (PopART variables).

Expected weights and buffers are those of plain torch, where the buffer is an argument and what is stored a result.
"""

import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch

RATE = 0.1


def copied(memory, new):
    memory.copy_(new)


def averaged(memory, new):
    memory.mul_(0.75).add_(new, alpha=0.25)


def written_slice_by_slice(memory, new):
    memory[0].copy_(new[0])
    memory[1:2] -= 0.25 * new[1:2]


def put(memory, new):
    memory.index_put_((torch.tensor([0, 1], device=memory.device),), new)


class Remembering(nn.Module):
    """A cell whose state is a buffer; the gradient of its weights needs the state as it was."""

    def __init__(self, write):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.gate = nn.Parameter(torch.ones(4))
        self.register_buffer("memory", torch.linspace(0.1, 0.8, 8).reshape(2, 4))
        self.write = write

    def step(self, x, memory):
        new = torch.tanh(self.linear(x) + memory) * self.gate * memory
        return new, new.square().sum()

    def forward(self, x):
        new, loss = self.step(x, self.memory)
        self.write(self.memory, new)
        return poptorch.identity_loss(loss, "none")


def trained_in_plain_torch(write, batches):
    """Weights and buffer after one update with each of ``batches``, lists of micro-batches."""
    model = Remembering(write)
    model.load_state_dict(initial())
    memory = model.memory.clone()
    optimizer = torch.optim.SGD([model.linear.weight, model.linear.bias, model.gate], lr=RATE)
    for micro_batches in batches:
        optimizer.zero_grad()
        for x in micro_batches:
            new, loss = model.step(x, memory)
            (loss / len(micro_batches)).backward()
            memory = memory.clone()
            write(memory, new.detach())
        optimizer.step()
    return dict(model.state_dict(), memory=memory)


def initial():
    torch.manual_seed(3)
    return Remembering(copied).state_dict()


@pytest.mark.parametrize("write", [copied, averaged, written_slice_by_slice, put])
@pytest.mark.parametrize("device_iterations, accumulation", [(1, 1), (2, 3)])
@pytest.mark.filterwarnings("ignore")
def test_a_gradient_ends_at_the_buffer_as_the_micro_batch_found_it(write, device_iterations, accumulation):
    x = torch.randn(2, device_iterations, accumulation, 2, 3, generator=torch.Generator().manual_seed(1))
    options = poptorch.Options().deviceIterations(device_iterations)
    options.Training.gradientAccumulation(accumulation)
    model = Remembering(write)
    model.load_state_dict(initial())
    executor = poptorch.trainingModel(model, options, poptorch.optim.SGD(model.parameters(), lr=RATE))
    for call in x:
        executor(call.flatten(0, 2))
    expected = trained_in_plain_torch(write, [list(update) for call in x for update in call])
    found = model.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")
    assert not model.memory.requires_grad


def test_replicas_have_memories_of_their_own():
    x = torch.randn(3, 2, 2, 3, generator=torch.Generator().manual_seed(2))  # calls, replicas
    options = poptorch.Options().replicationFactor(2).broadcastBuffers(False)
    model = Remembering(copied)
    model.load_state_dict(initial())
    executor = poptorch.trainingModel(model, options, poptorch.optim.SGD(model.parameters(), lr=RATE))
    for call in x:
        executor(call.flatten(0, 1))

    plain = Remembering(copied)
    plain.load_state_dict(initial())
    memories = [plain.memory.clone() for _ in range(2)]
    optimizer = torch.optim.SGD([plain.linear.weight, plain.linear.bias, plain.gate], lr=RATE)
    for call in x:
        optimizer.zero_grad()
        for replica, part in enumerate(call):
            new, loss = plain.step(part, memories[replica])
            (loss / 2).backward()
            memories[replica] = new.detach()
        optimizer.step()
    torch.testing.assert_close(model.gate.detach(), plain.gate.detach())
    torch.testing.assert_close(model.memory, memories[0])


def test_generated_code_is_refused():
    options = poptorch.Options()
    options._Emulator.torchCompile()
    model = Remembering(copied)
    executor = poptorch.trainingModel(model, options, poptorch.optim.SGD(model.parameters(), lr=RATE))
    with pytest.raises(poptorch.Error, match="torchCompile.*changes in place"):
        executor(torch.ones(2, 3))


def test_running_statistics_cost_nothing_for_it():
    """They are the norm's own, and a network has many."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))

    class Trained(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return poptorch.identity_loss(self.model(x), "mean")

    executor = poptorch.trainingModel(Trained(), None, poptorch.optim.SGD(model.parameters(), lr=RATE))
    executor(torch.randn(4, 3, 4, 4))
    assert executor._weights.executable.updated_buffers
    assert executor._weights.executable.saved is None
