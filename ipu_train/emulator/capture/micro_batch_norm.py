"""Batch norm where several micro-batches run as one batch: each keeps statistics of its own.

A weight update of many small micro-batches is then as few operations as one of a single large batch.
"""

import functools
from typing import Any, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F

from .graph import Graph

# torch.batch_norm's parameters; those of torch.nn.functional.batch_norm come in another order
_PARAMETERS = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
_FUNCTIONAL_PARAMETERS = (
    "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps",
)  # fmt: skip

Arguments = Tuple[Any, ...]


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
    mean = var = None
    if running_mean is not None and running_var is not None:
        mean = running_mean.new_zeros(micro_batches * channels)
        var = running_var.new_zeros(micro_batches * channels)
    repeated = [None if p is None else p.repeat(micro_batches) for p in (weight, bias)]
    # with momentum 1 the "running" statistics are those of the micro-batches
    out = F.batch_norm(apart, mean, var, *repeated, True, 1.0, eps)
    if mean is not None:
        with torch.no_grad():
            for running, found in ((running_mean, mean), (running_var, var)):
                own = found.view(micro_batches, channels)[::replicas]
                kept, shares = _decay(momentum, len(own), found.device)
                running.mul_(kept).add_(shares.to(found.dtype) @ own)
    return out.reshape(split.shape).transpose(0, 1).reshape(x.shape)


@functools.lru_cache(maxsize=None)
def _decay(momentum: float, updates: int, device: torch.device) -> Tuple[float, torch.Tensor]:
    """What is left of a running statistic after that many updates, and the share of each of them, ``[updates]``."""
    shares = [momentum * (1.0 - momentum) ** (updates - 1 - index) for index in range(updates)]
    return (1.0 - momentum) ** updates, torch.tensor(shares, dtype=torch.float32, device=device)


class FusedNorms:
    """The part of a recorder that lets batch norm and its counter see micro-batches that run as one batch.

    Attributes:
        fused: micro-batches that run as one batch.
        norm_replicas: replicas whose micro-batches take turns in the batch; None where norms shall see the whole of it.
        fused_state: slots of the buffers whose updates are those of all micro-batches.
    """

    graph: Graph
    fused: int
    norm_replicas: Optional[int]
    fused_state: List[int]
    _slot_of: Dict[int, int]

    def _fused_norm(
        self, func: Any, name: str, args: Arguments, kwargs: Dict[str, Any]
    ) -> Tuple[Any, Arguments, Dict[str, Any]]:
        """The call for fused micro-batches; as it is where it is no concern of them."""
        if self.fused == 1 or self.norm_replicas is None:
            return func, args, kwargs
        if name in ("add_", "__iadd__") and self._counts_micro_batches(args):
            self.fused_state.append(self._slot_of[id(args[0])])
            steps_of_a_replica = max(1, self.fused // self.norm_replicas)
            return func, (args[0], args[1] * steps_of_a_replica), kwargs
        if name != "batch_norm":
            return func, args, kwargs
        names = _FUNCTIONAL_PARAMETERS if func is F.batch_norm else _PARAMETERS
        given = {"running_mean": None, "running_var": None, "weight": None, "bias": None, "training": False}
        given.update(momentum=0.1, eps=1e-5)
        given.update(zip(names, args))
        given.update((key, value) for key, value in kwargs.items() if key in names)
        if not given["training"]:
            return func, args, kwargs
        for buffer in (given["running_mean"], given["running_var"]):
            if buffer is not None:
                self.fused_state.append(self._slot_of.get(id(buffer), -1))
        values = tuple(given[key] for key in _FUNCTIONAL_PARAMETERS if key != "training")
        return batch_norm_of_micro_batches, (*values, self.fused, self.norm_replicas), {}

    def _counts_micro_batches(self, args: Arguments) -> bool:
        """Whether a call adds a number to a buffer that is an integer without dimensions, as batch norm counts."""
        buffer, step = (tuple(args) + (None, None))[:2]
        if not isinstance(step, int) or self._slot_of.get(id(buffer)) not in self.graph.state.values():
            return False
        with torch._C.DisableTorchFunction():
            return buffer.dim() == 0 and not buffer.is_floating_point()
