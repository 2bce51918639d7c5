"""Group norm as an IPU computes it when ``groupNormStridedChannelGrouping`` is set."""

from typing import Any, Callable, Optional

import torch
import torch.nn.functional as F


def strided_group_norm(
    input: torch.Tensor,
    num_groups: int,
    weight: Optional[torch.Tensor] = None,
    bias: Optional[torch.Tensor] = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> torch.Tensor:
    """Group norm over groups of channels that lie ``num_groups`` apart rather than next to each other.

    Channel ``i * num_groups + g`` belongs to group ``g`` (documentation of PopLibs, ``popnn/GroupNorm.hpp``). Faster
    on an IPU, but weights trained one way do not fit the other; Graphcore's CNN application calls it fast group norm.

    Args:
        input: shape (N, C, ...).
        weight, bias: shape (C).
    """
    batch, channels = input.shape[:2]
    grouped = (batch, num_groups, channels // num_groups) + tuple(input.shape[2:])
    strided = (batch, channels // num_groups, num_groups) + tuple(input.shape[2:])
    contiguous = input.reshape(strided).transpose(1, 2).reshape(input.shape)
    output = F.group_norm(contiguous, num_groups, None, None, eps)
    output = output.reshape(grouped).transpose(1, 2).reshape(input.shape)
    per_channel = (1, channels) + (1,) * (input.dim() - 2)
    if weight is not None:
        output = output * weight.reshape(per_channel)
    return output if bias is None else output + bias.reshape(per_channel)


def strided_norm_proxy_norm_act(
    function: Callable[..., torch.Tensor], input: torch.Tensor, *vectors_and_settings: Any
) -> torch.Tensor:
    """A fused group norm with Proxy Norm (``kernels.cpu.norm_proxy_norm_act``) over the same groups.

    It stands for PopART's own group norm and what follows it, which such a setting changes.

    Args:
        function: of input, four vectors of shape (C), and settings whose first is the number of groups or None.
    """
    *vectors, settings = vectors_and_settings
    groups = settings[0]
    if groups is None:
        return function(input, *vectors, settings)
    channels = torch.arange(input.shape[1], device=input.device)
    order = channels.view(-1, groups).t().reshape(-1)  # of group 0 first, then those of group 1, ...
    output = function(input[:, order], *(vector[order] for vector in vectors), settings)
    return output[:, torch.argsort(order)]
