"""Tracing a configured network for the IPU model: on the meta device, where nothing is initialised or computed."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .. import models
from ..config import ConfigError, Resolved
from ..device_options import fused_on_ipus
from ..ipumodel.program import Program
from ..ipumodel.tracer import trace
from ..network import build_network
from .images import Images


class _Unfilled(TorchDispatchMode):
    """Initial values are not written on the meta device; torch's own rules for that would import its compiler."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it, torch would import it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.endswith("_") and args[0].device.type == "meta":
            return args[0]
        return func(*args, **(kwargs or {}))


def network_without_values(resolved: Resolved, images: Images) -> torch.nn.Module:
    """The network of a configuration on the meta device.

    Raises:
        ConfigError: it cannot be built.
    """
    with torch.device("meta"), _Unfilled():  # weights without values: none are asked for
        return build_network(resolved, images.classes, images.channels)


def is_batch_independent(resolved: Resolved, images: Images) -> bool:
    """Whether each image's output in training is a function of that image alone.

    Raises:
        ConfigError: the model cannot be built.
    """
    try:
        network = network_without_values(resolved, images)
    except ConfigError:  # one of the user's own may read values while it is made
        network = build_network(resolved, images.classes, images.channels)
    return bool(models.is_batch_independent(network))


def traced(resolved: Resolved, images: Images) -> Program:
    """The training program of one micro-batch, uncut; :mod:`.own_networks` has that of registered networks.

    Raises:
        ConfigError: the model cannot be built.
    """
    return trace_of(resolved, network_without_values(resolved, images), micro_batch(resolved, images, "meta"))


def micro_batch(resolved: Resolved, images: Images, device: str) -> torch.Tensor:
    """Zeros in the shape of one micro-batch's images."""
    batch = resolved.config.training.micro_batch_size
    return torch.zeros(batch, images.channels, images.size, images.size, device=device)


def trace_of(resolved: Resolved, network: torch.nn.Module, example: torch.Tensor) -> Program:
    """The training program of a network with the kernels that the configuration asks for."""
    fused = fused_on_ipus(resolved.config)
    if fused:
        from ..kernels import planned

        models.use_proxy_norm_kernel(network, planned.norm_proxy_norm_act, fused)
    return trace(network, [example], bare=example.is_meta)
