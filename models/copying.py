"""Copies of networks."""

import copy
from typing import Any, Dict, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def copied(network: Network) -> Network:
    """A deep copy, also of a network whose modules hold tensors that follow from parameters.

    ``torch.nn.utils.weight_norm`` and its kin keep such a tensor, which ``copy.deepcopy`` refuses; the copy has its
    values, and the next forward computes it anew.
    """
    known: Dict[int, Any] = {}
    for module in network.modules():
        for value in (*vars(module).values(), *module._buffers.values()):
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                known[id(value)] = value.detach().clone()
    return copy.deepcopy(network, known)
