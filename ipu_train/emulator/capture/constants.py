"""Host tensors inside a forward: what becomes a constant of the graph, and what stays on the CPU."""

from typing import Any, Dict, Optional, Set, Tuple

import torch

from .device_calls import MADE_ON_THE_IPU
from .dtypes import download, upload
from .graph import map_structure, tensor_paths
from .slots import Slots

INDEXING = frozenset(["__getitem__", "__setitem__"])
# whose numbers are sizes, dimensions and places, for which torch reads a tensor on the CPU; in the first, of a tensor
_SIZED = frozenset(
    [
        "view", "reshape", "repeat", "expand", "tile", "broadcast_to", "unflatten", "flatten", "narrow", "select",
        "split", "chunk", "unsqueeze", "squeeze", "transpose", "permute", "roll", "new_zeros", "new_ones", "new_empty",
        "new_full",
    ]
)  # fmt: skip
_SIZED_FACTORIES = frozenset(["zeros", "ones", "empty", "full", "rand", "randn", "arange", "eye"])


def moved_to_device(name: str, args: Tuple[Any, ...]) -> Optional[torch.Tensor]:
    """The tensor that a call puts beside another.

    Such calls are ``tensor.type_as(other)``, ``tensor.to(other)``, ``other.copy_(tensor)`` and
    ``other.new_tensor(tensor)``.
    """
    if len(args) < 2 or not isinstance(args[1], torch.Tensor):
        return None
    if name in ("copy_", "new_tensor"):
        return args[1]
    return args[0] if name in ("type_as", "to") else None


def _is_cpu(device: Any) -> bool:
    """Whether user code names the host's device."""
    return isinstance(device, (str, torch.device)) and str(device).split(":")[0] == "cpu"


def _moves_to_ipu(name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> bool:
    """Whether a call on a CPU tensor names the IPU as where its result shall be."""
    named = list(args[1:]) + [kwargs.get("device")]
    devices = [str(d) for d in named if isinstance(d, (str, torch.device))]
    return name == "ipu" or any(device.split(":")[0] in ("ipu", "xla") for device in devices)


class Constants:
    """What a recorder knows about tensors that are neither inputs nor state."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        # ids of attributes that forward moves to the device by itself: the device has copies of them
        self._moved: Set[int] = set()

    def keep(self) -> None:
        """Let every run start from the constants' own values, also where forward updates them in place.

        Such an update happens once as the host sees it, since Python runs forward once, and is lost on the device
        between runs: only buffers last (PopTorch 3.4 user guide, "Custom buffers").
        """
        graph = self._slots.graph
        updated = [(slot, t) for slot, t in graph.constants.items() if t._version]
        for slot, storage in updated:
            host = self._slots.held(storage)
            value, half = upload(host, self._slots.device)
            kept = self._slots.new(value, value, half)
            del graph.constants[slot]
            graph.constants[kept] = value
            graph.start_with_copy(kept, slot)
            if id(host) not in self._moved:
                with torch.no_grad():
                    host.copy_(download(storage, half))

    def with_host_bounds(self, args: Tuple[Any, ...]) -> Tuple[Any, ...]:
        """The arguments of an indexing call with bounds of slices that are tensors on the host as numbers."""

        def number(bound: Any) -> Any:
            return int(bound) if isinstance(bound, torch.Tensor) and self._slots.is_on_host(bound) else bound

        return map_structure(args, lambda s: slice(number(s.start), number(s.stop), number(s.step)), (slice,))

    def with_host_sizes(
        self, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]
    ) -> Tuple[Tuple[Any, ...], Dict[str, Any]]:
        """The arguments of a call with sizes that are integers in tensors on the host as numbers."""

        def number(value: torch.Tensor) -> Any:
            whole = value.dim() == 0 and not value.is_floating_point() and value.dtype != torch.bool
            return int(value) if whole and self._slots.is_on_host(value) else value

        if name in _SIZED_FACTORIES:
            return map_structure((args, kwargs), number, (torch.Tensor,))  # type: ignore[no-any-return]
        if name in _SIZED:
            return args[:1] + map_structure(args[1:], number, (torch.Tensor,)), kwargs
        return args, kwargs

    def stays_on_the_cpu(self, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> bool:
        """Whether a call has to do with CPU tensors alone: Python computes it while compiling, for good.

        Moving such a tensor to the device makes a constant of it (PopTorch's public dispatcher sources).
        """
        tensors = [tensor for _, tensor in tensor_paths((args, kwargs))]
        if not tensors:  # a factory, or arithmetic of numbers, whose result has torch's own device
            device = kwargs.get("device")
            return _is_cpu(device) or (device is None and name not in MADE_ON_THE_IPU)
        if not all(map(self._slots.is_on_host, tensors)):
            return False
        if _moves_to_ipu(name, args, kwargs):
            self._slots.allow_attribute(tensors[0])
            self._moved.add(id(tensors[0]))
            return False
        return True
