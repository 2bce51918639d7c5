"""Batch norm where several micro-batches run as one batch: each keeps statistics of its own.

A weight update of many small micro-batches is then as few operations as one of a single large batch.
"""

import functools
from typing import Optional, Tuple

import torch
import torch.nn.functional as F


def batch_norm_of_micro_batches(
    x: torch.Tensor,
    running_mean: Optional[torch.Tensor],
    running_var: Optional[torch.Tensor],
    weight: Optional[torch.Tensor],
    bias: Optional[torch.Tensor],
    momentum: float,
    eps: float,
    micro_batches: int,
    replicas: int,
) -> torch.Tensor:
    """Batch norm in training of each of several micro-batches that lie one after the other in ``x``.

    Args:
        x: ``[micro_batches * B, C, *]``, the replicas' micro-batches taking turns.
        running_mean, running_var: ``[C]`` of the replica that the first micro-batch belongs to, updated in place by
            its micro-batches in their order; None for both where none are kept.
        weight, bias: ``[C]``, or None.
        micro_batches: how many there are; a multiple or a divisor of ``replicas``.

    Raises:
        ValueError: a micro-batch has one value for each channel.
    """
    size, channels = x.shape[0] // micro_batches, x.shape[1]
    # A channel of each micro-batch becomes a channel of its own: [m, b, C, *] -> [b, m * C, *]
    split = x.reshape((micro_batches, size, channels) + tuple(x.shape[2:])).transpose(0, 1)
    apart = split.reshape((size, micro_batches * channels) + tuple(x.shape[2:]))
    running = [statistic for statistic in (running_mean, running_var) if statistic is not None]
    found = [statistic.new_zeros(micro_batches * channels) for statistic in running]
    mean, var = found or (None, None)
    scale, shift = (None if p is None else p.repeat(micro_batches) for p in (weight, bias))
    # with momentum 1 the "running" statistics are those of the micro-batches
    out = F.batch_norm(apart, mean, var, scale, shift, True, 1.0, eps)
    with torch.no_grad():
        for statistic, of_micro_batches in zip(running, found):
            own = of_micro_batches.view(micro_batches, channels)[::replicas]
            kept, shares = _decay(momentum, len(own), own.device)
            statistic.mul_(kept).add_(shares.to(own.dtype) @ own)
    return out.reshape(split.shape).transpose(0, 1).reshape(x.shape)


@functools.lru_cache(maxsize=None)
def _decay(momentum: float, updates: int, device: torch.device) -> Tuple[float, torch.Tensor]:
    """What is left of a running statistic after that many updates, and the share of each of them, ``[updates]``."""
    shares = [momentum * (1.0 - momentum) ** (updates - 1 - index) for index in range(updates)]
    return (1.0 - momentum) ** updates, torch.tensor(shares, dtype=torch.float32, device=device)
