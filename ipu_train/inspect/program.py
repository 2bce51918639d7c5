"""The programs that measure: their outputs are what is measured."""

from typing import Optional

import torch
from torch import nn

from ..models.power import PowerStatistics


class MomentsProgram(nn.Module):
    """Images to the statistics of every norm of the network that they pass; see ``PowerStatistics``."""

    def __init__(self, network: nn.Module, prepare: Optional[nn.Module] = None):
        super().__init__()
        self.network = network
        self.prepare = prepare
        self.statistics = PowerStatistics(network)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images if self.prepare is None else self.prepare(images)
        self.statistics.start()
        self.network(images)
        return self.statistics.take()


class LogitsProgram(nn.Module):
    """Images to logits."""

    def __init__(self, network: nn.Module, prepare: nn.Module):
        super().__init__()
        self.network = network
        self.prepare = prepare

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(self.prepare(images))


# those of other libraries, by the names of their classes
_OTHER_DROPS = ("StochasticDepth", "DropPath", "DropBlock2d")


def as_in_training(network: nn.Module) -> nn.Module:
    """The network in training mode, so that batch norm sees its micro-batch, but with nothing drawn at random."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ in _OTHER_DROPS:
            module.eval()
    return network
