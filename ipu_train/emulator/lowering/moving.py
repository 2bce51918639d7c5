"""``tensor.to(...)`` on shadows: casts, and moves between host and device."""

from typing import Any

import torch

from .shadow import Unsupported


def move(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """``tensor.to(*args, **kwargs)``.

    Raises:
        Unsupported: a move away from the IPU.
    """
    try:
        device, dtype, _, _ = torch._C._nn._parse_to(*args, **kwargs)
    except TypeError:  # to(other) is not known to every version
        other = args[0] if args else kwargs["other"]
        device, dtype = other.device, other.dtype
    if device is not None and device.type != "ipu":
        raise Unsupported(
            f'is an illegal move to {device.type} (via `.to("{device.type}")`): return the tensor from forward instead'
        )
    if dtype is None or (dtype == tensor.dtype and not kwargs.get("copy")):
        return tensor
    return torch.ops.aten._to_copy.default(tensor, dtype=dtype)
