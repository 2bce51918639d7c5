"""The activations a network may use, with what Proxy Norm and the initialisation have to know about them."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Callable

import torch
import torch.nn.functional as F


def _relu(x: torch.Tensor) -> torch.Tensor:
    return F.relu(x, inplace=True)


def _identity(x: torch.Tensor) -> torch.Tensor:
    return x


@dataclass(frozen=True)
class Activation:
    """One element-wise non-linearity.

    Attributes:
        function: maps a tensor of any shape to one of the same shape and dtype. It may overwrite its argument
            (ReLU does, whose backward needs the result alone), so callers pass a tensor that they own.
        positively_homogeneous: phi(s * x) == s * phi(x) for every s > 0. Proxy Norm then needs no
            multiplication of the activation by its scale (see ``ProxyNorm``).
    """

    function: Callable[[torch.Tensor], torch.Tensor]
    positively_homogeneous: bool = False


ACTIVATIONS = {
    "relu": Activation(_relu, positively_homogeneous=True),
    "silu": Activation(F.silu),
    "swish": Activation(F.silu),  # the name used by Tan and Le 2019 and by Graphcore's public code
    "gelu": Activation(F.gelu),
    "tanh": Activation(torch.tanh),
    "identity": Activation(_identity, positively_homogeneous=True),
}


def activation(name: str) -> Activation:
    """The activation of that name; ValueError with the nearest valid name for any other."""
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    near = get_close_matches(str(name), list(ACTIVATIONS), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown activation {name!r}{hint} Valid: {', '.join(ACTIVATIONS)}")
