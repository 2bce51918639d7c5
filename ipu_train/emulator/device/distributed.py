"""Reductions over processes, for which ``torch.distributed`` (gloo) stands in for the IPU-Links."""

import traceback
from typing import Optional, Sequence

import torch

from .._impl import createPoptorchError


class Disconnected(RuntimeError):
    """Another process has ended, so that nothing can be added up over all of them any more."""


def all_reduce_sum(tensors: Sequence[torch.Tensor]) -> None:
    """Add up tensors over all processes, in place.

    Raises:
        poptorch.Error: ``torch.distributed`` is not initialised.
        Disconnected: another process has gone.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        raise createPoptorchError(
            "Options.Distributed says that there are several processes, but they are not connected: start them with "
            "torchrun or mpirun and call popdist.init()."
        )
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    try:
        torch.distributed.all_reduce(flat)
    except RuntimeError as error:
        raise Disconnected(f"cannot add up gradients over the processes: {error}") from error
    offset = 0
    for tensor in tensors:
        tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
        offset += tensor.numel()


def leave(error: Optional[BaseException]) -> None:
    """Close the connections to the other processes at once, so that those who wait for this one find it gone.

    Args:
        error: what this process ends with; the frames it has come through hold the connections, and are cleared.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
