"""Devices and dtypes that appear in recorded calls, turned into those of the storage tensors."""

from typing import Any, Dict, List, Optional, Tuple

import torch

from ._dtypes import storage_dtype
from ._graph import Graph, map_structure
from ._group_norm import strided_group_norm
from ._torch_library import cast_type

_MOVES = frozenset(["cuda", "ipu", "cpu"])
_CASTS = {
    "half": torch.float16,
    "float": torch.float32,
    "double": torch.float64,
    "bfloat16": torch.bfloat16,
}
# functions that make a tensor out of none, on torch's default device unless they are told where
FACTORIES = frozenset(
    [
        "zeros", "ones", "full", "empty", "rand", "randn", "randint", "arange", "tensor", "as_tensor", "eye",
        "linspace", "logspace", "randperm", "scalar_tensor", "tril_indices", "triu_indices", "empty_strided",
        "hann_window", "hamming_window", "range",
    ]
)  # fmt: skip
_DEVICE_NAMES = ("ipu", "cpu", "cuda", "xla")

INDEXING = frozenset(["__getitem__", "__setitem__"])

Call = Tuple[Any, Tuple[Any, ...], Dict[str, Any], Optional[bool]]


# how torch's core calls the dtypes whose Python names differ from theirs in more than the first letter
_CORE_NAMES = {
    "float32": "Float", "float64": "Double", "float16": "Half", "int64": "Long", "int32": "Int", "int16": "Short",
    "int8": "Char", "uint8": "Byte", "bfloat16": "BFloat16",
}  # fmt: skip


def describe_host(tensor: torch.Tensor) -> str:
    """A CPU tensor as PopTorch's errors name it: ``tensor(device=cpu, shape=[2], dtype=Long)``."""
    dtype = str(tensor.dtype).split(".")[-1]
    return (
        f"tensor(device=cpu, shape={list(tensor.shape)}, dtype={_CORE_NAMES.get(dtype, dtype.capitalize())})"
    )


def moved_to_device(name: str, args: Tuple[Any, ...]) -> Optional[torch.Tensor]:
    """The tensor that ``tensor.type_as(other)``, ``tensor.to(other)`` or ``other.copy_(tensor)`` puts beside other."""
    if name not in ("type_as", "to", "copy_") or len(args) < 2 or not isinstance(args[1], torch.Tensor):
        return None
    return args[1] if name == "copy_" else args[0]


def is_cpu(device: Any) -> bool:
    """Whether user code names the host's device."""
    return str(device).split(":")[0] == "cpu" if isinstance(device, (str, torch.device)) else False


def moves_to_ipu(name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> bool:
    """Whether a call on a CPU tensor names the IPU as where its result shall be."""
    named = list(args[1:]) + [kwargs.get("device")]
    devices = [str(d) for d in named if isinstance(d, (str, torch.device))]
    return name == "ipu" or any(device.split(":")[0] in ("ipu", "xla") for device in devices)


class DeviceCalls:
    """The part of a recorder that knows where storage tensors live."""

    graph: Graph
    compute_device: torch.device
    strided_channel_groups = False  # PopART's setting groupNormStridedChannelGrouping
    _attributes: Dict[int, torch.Tensor]

    def is_recorded(self, tensor: torch.Tensor) -> bool:
        raise NotImplementedError  # the recorder's

    def _slot(self, tensor: torch.Tensor) -> int:
        raise NotImplementedError  # the recorder's

    def _on_compute_device(self, device: Any) -> Any:
        """Whatever device user code names inside forward, its tensors are on the emulated one."""
        if isinstance(device, torch.device):
            return self.compute_device
        if isinstance(device, str) and device.split(":")[0] in _DEVICE_NAMES:
            return self.compute_device
        return device

    def _is_on_host(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor was made outside forward and is nothing that the device holds."""
        return not self.is_recorded(tensor) and id(tensor) not in self._attributes

    def _with_host_bounds(self, args: Tuple[Any, ...]) -> Tuple[Any, ...]:
        """The arguments of an indexing call with bounds of slices that are tensors on the host as numbers."""

        def number(bound: Any) -> Any:
            return int(bound) if isinstance(bound, torch.Tensor) and self._is_on_host(bound) else bound

        return map_structure(args, lambda s: slice(number(s.start), number(s.stop), number(s.step)), (slice,))

    def _device_call(self, func: Any, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Call:
        """The call as the storage needs it, and whether it explicitly asks for float16 (None: it does not say)."""
        if name in _MOVES and args and isinstance(args[0], torch.Tensor):
            return torch.Tensor.view_as, (args[0], args[0]), {}, None
        if name in _CASTS and args and isinstance(args[0], torch.Tensor):
            return torch.Tensor.to, (args[0], torch.float32), {}, _CASTS[name] == torch.float16
        if name == "internal_cast":
            dtype = cast_type(args[1] if len(args) > 1 else kwargs["dtype"])
            return torch.Tensor.to, (args[0], storage_dtype(dtype)), {}, dtype == torch.float16
        if name == "group_norm" and self.strided_channel_groups:
            return strided_group_norm, args, kwargs, None
        dtypes: List[torch.dtype] = []

        def on_storage(value: Any) -> Any:
            if isinstance(value, torch.dtype):
                dtypes.append(value)
                return storage_dtype(value)
            return self.compute_device

        args, kwargs = map_structure((args, kwargs), on_storage, (torch.dtype, torch.device))
        if kwargs.get("device") is not None:
            kwargs = dict(kwargs, device=self._on_compute_device(kwargs["device"]))
        if name in ("to", "type") and len(args) > 1 and isinstance(args[1], str):
            if args[1].endswith("HalfTensor"):
                args, dtypes = (args[0], torch.float32) + tuple(args[2:]), [torch.float16]
            else:
                args = (args[0], self._on_compute_device(args[1])) + tuple(args[2:])
        if dtypes:
            return func, args, kwargs, dtypes[0] == torch.float16
        if name in ("to", "type_as") and len(args) > 1 and isinstance(args[1], torch.Tensor):
            return func, args, kwargs, self._slot(args[1]) in self.graph.half
        if self.compute_device.type != "cpu" and kwargs.get("device") is None and name in FACTORIES:
            kwargs = dict(kwargs, device=self.compute_device)
        return func, args, kwargs, None
