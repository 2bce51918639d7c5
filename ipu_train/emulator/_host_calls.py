"""Calls inside forward that concern the host alone."""

from typing import Any, Callable, Dict, Tuple

import torch

from ._graph import tensor_paths


def names_ipu(device: Any) -> bool:
    """Whether user code names an IPU: ``"ipu"``, or ``"xla"`` as PopTorch calls it inside, or such a device."""
    if isinstance(device, (str, torch.device)):
        return str(device).split(":")[0] in ("ipu", "xla")
    return False


def moves_to_ipu(name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> bool:
    """Whether a call with one operand moves it to the IPU by the name of the device."""
    if name == "to":
        return names_ipu(kwargs.get("device", args[1] if len(args) > 1 else None))
    return name == "ipu"


def from_host_alone(args: Tuple[Any, ...], kwargs: Dict[str, Any], on_host: Callable[[Any], bool]) -> bool:
    """Whether a call has operands, none of them on the IPU: nothing that the device would have to do."""
    operands = [tensor for _, tensor in tensor_paths((list(args), kwargs))]
    return bool(operands) and all(on_host(tensor) for tensor in operands)
