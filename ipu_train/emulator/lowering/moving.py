"""``tensor.to(...)`` and ``tensor.new(...)`` on shadows: casts, moves between host and device, tensors beside one."""

from typing import Any, Dict, Tuple

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


def new(tensor: torch.Tensor, *args: Any, size: Any = None, device: Any = None) -> torch.Tensor:
    """``tensor.new(...)``, torch's old constructor, of sizes or of another tensor, which is shared."""
    if args and isinstance(args[0], torch.Tensor):
        return torch.ops.aten.alias.default(args[0])
    if size is None:
        size = args[0] if args and isinstance(args[0], torch.Size) else args or (0,)
    return tensor.new_empty(size)


def new_tensor(tensor: torch.Tensor, data: torch.Tensor, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
    """``tensor.new_tensor(data)`` of another tensor: a copy."""
    return torch.ops.aten._to_copy.default(data, dtype=dtype or tensor.dtype)


AS_TENSOR = ("as_tensor", "asarray")  # which copy only where they must


def data_of(name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
    """The numbers that a call makes a tensor of, which becomes a constant of the graph; None where it makes none.

    torch makes it on the host and moves it to the device.
    """
    if name == "tensor":
        return kwargs.get("data", *args[:1])
    if name in AS_TENSOR:
        data = args[0] if args else kwargs.get("data", kwargs.get("obj"))
        device = kwargs.get("device")
        # arrays and tensors are moved; what no device is named for stays on the host
        moved = hasattr(data, "__array__") or device is None or torch.device(device).type != "ipu"
        return None if moved else data
    if name not in ("new", "new_tensor"):
        return None
    data = kwargs.get("data", *args[1:2])
    others = (torch.Tensor, torch.Size, *([int] if name == "new" else []))
    return None if isinstance(data, others) or len(args) > 2 else data
