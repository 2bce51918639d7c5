"""Small networks for the tests, and what plain torch really does with one."""

import torch
from torch import nn

from ipu_train.ipumodel.tracer import cross_entropy


class Residual(nn.Module):
    """Two convolutions around a norm and a rectifier, added to the input."""

    def __init__(self, channels, norm="group"):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(2, channels) if norm == "group" else nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.norm(self.conv1(x)))) + x)


def small_net(blocks=3, channels=16, norm="group", classes=10):
    """A stem, some residual blocks named ``layer1.0``, ``layer1.1``, ..., a classifier."""
    net = nn.Module()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, channels, 3, padding=1)
            self.layer1 = nn.Sequential(*[Residual(channels, norm) for _ in range(blocks)])
            self.fc = nn.Linear(channels, classes)

        def forward(self, x):
            x = self.layer1(torch.relu(self.stem(x)))
            return self.fc(x.mean((2, 3)))

    net = Net()
    return net


def images(batch=2, size=16):
    return torch.zeros(batch, 3, size, size, device="meta")


def measured_memory(module, x):
    """(bytes saved for backward, peak of allocated bytes) of one real training step of plain torch.

    Saved: storages that autograd packs, without weights, buffers and inputs. Peak: every allocation and
    release that torch's own profiler sees.
    """
    y = torch.zeros(x.shape[0], dtype=torch.int64)
    own = {t.untyped_storage().data_ptr() for t in [*module.parameters(), *module.buffers(), x, y]}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    module.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = cross_entropy(module(x), y)
    saved_bytes = sum(saved.values())
    loss.backward()
    module.zero_grad(set_to_none=True)
    del loss
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        output = module(x)
        loss = cross_entropy(output, y)
        loss.backward()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns() if hasattr(e, "start_ns") else e.start_us()):
        live += event.nbytes()
        peak = max(peak, live)
    return saved_bytes, peak
