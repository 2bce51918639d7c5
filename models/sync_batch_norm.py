"""Batch norm over the replicas of a group: the costly alternative to batch-independent norms."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import nn

from .norm_layers import BatchNorm


class SyncBatchNorm(BatchNorm):
    """Batch Norm whose statistics span the micro-batches of all replicas of a group.

    In training the module takes the micro-batches of the replicas stacked along N in replica order,
    [replicas * micro_batch, C, H, W], as an emulator that computes all replicas at once gives it.
    ``groups`` says how many groups of consecutive replicas the stack holds: each is normalised with its own
    statistics, and the running averages take the mean over groups. In evaluation it is plain batch norm.

    On IPUs each replica sees its own micro-batch only, and PopTorch 3.4 cannot express this layer:
    it exposes no such option; PopART lowers batch norm to Poplibs' ``batchNormStatistics``, which is local
    (the ``distributedBatchNormStatistics`` that Graphcore's TensorFlow uses is not reachable); and PopART's
    ``ReplicatedAllReduce``, which ``poptorch.custom_op`` can call, has no gradient, so the statistics could
    be exchanged but not differentiated. A custom operator, an all-reduce whose gradient is an all-reduce,
    is what is missing. ``needs_stacked_replicas`` tells a trainer to refuse the model there.

    Keeps for backward: its input, and the mean and inverse standard deviation [groups, C].
    """

    needs_stacked_replicas = True

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        scale: bool = True,
        shift: bool = True,
        groups: int = 1,
    ) -> None:
        super().__init__(num_channels, eps, momentum, scale, shift)
        self.groups = groups

    def forward(
        self, x: torch.Tensor, weight: Optional[torch.Tensor] = None, bias: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        if not self.training or self.groups == 1:
            return super().forward(x, weight, bias)
        if x.shape[0] % self.groups:
            raise ValueError(
                f"sync_batch norm: a batch of {x.shape[0]} images cannot hold {self.groups} equal groups of "
                "replicas"
            )
        weight, bias = self.affine_in(x.dtype, weight, bias)
        # The groups become channels: [groups, n, C, H, W] -> [n, groups * C, H, W].
        shape = (self.groups, x.shape[0] // self.groups) + tuple(x.shape[1:])
        split = x.reshape(shape).transpose(0, 1)
        merged = split.reshape(shape[1], self.groups * shape[2], *shape[3:])
        mean = self.running_mean.repeat(self.groups)
        var = self.running_var.repeat(self.groups)
        repeated = [None if p is None else p.repeat(self.groups) for p in (weight, bias)]
        out = F.batch_norm(merged, mean, var, *repeated, True, self.momentum, self.eps)
        with torch.no_grad():
            self.running_mean.copy_(mean.view(self.groups, -1).mean(0))
            self.running_var.copy_(var.view(self.groups, -1).mean(0))
            self.num_batches_tracked.add_(1)
        return out.reshape(split.shape).transpose(0, 1).reshape(x.shape)


def set_sync_groups(model: nn.Module, groups: int) -> None:
    """Tells every ``SyncBatchNorm`` of the model how many groups of replicas a stacked batch holds."""
    for module in model.modules():
        if isinstance(module, SyncBatchNorm):
            module.groups = groups


def needs_stacked_replicas(model: nn.Module) -> bool:
    """Whether the model trains correctly only where all replicas' micro-batches meet in one batch."""
    return any(getattr(module, "needs_stacked_replicas", False) for module in model.modules())
