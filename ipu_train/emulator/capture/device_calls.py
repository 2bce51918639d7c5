"""Devices and dtypes that appear in recorded calls, turned into those of the storage tensors."""

import functools
from typing import Any, Dict, List, Optional, Tuple

import torch

from .dtypes import cast_type, storage_dtype
from .graph import map_structure
from .group_norm import strided_group_norm, strided_norm_proxy_norm_act
from .slots import Slots

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
        "asarray", "linspace", "logspace", "randperm", "scalar_tensor", "tril_indices", "triu_indices", "empty_strided",
        "hann_window", "hamming_window", "range",
    ]
)  # fmt: skip
# those that PopTorch makes on the IPU where no device is named (its python/_poplar_executor.py); others are on the CPU
MADE_ON_THE_IPU = frozenset(
    [
        "arange", "empty", "full", "full_like", "linspace", "logspace", "ones", "rand", "randint", "randn", "randperm",
        "range", "tensor", "zeros", "zeros_like", "normal",
    ]
)  # fmt: skip
_DEVICE_NAMES = ("ipu", "cpu", "cuda", "xla")

Call = Tuple[Any, Tuple[Any, ...], Dict[str, Any], Optional[bool]]


class DeviceCalls:
    """Turns calls as user code makes them into calls on storage tensors.

    Args:
        slots: the recorder's.
        strided_channel_groups: PopART's setting groupNormStridedChannelGrouping.
    """

    def __init__(self, slots: Slots, strided_channel_groups: bool = False) -> None:
        self._slots = slots
        self._device = slots.device
        self._strided_channel_groups = strided_channel_groups

    def _on_compute_device(self, device: Any) -> Any:
        """Whatever device user code names inside forward, its tensors are on the emulated one."""
        if isinstance(device, torch.device):
            return self._device
        if isinstance(device, str) and device.split(":")[0] in _DEVICE_NAMES:
            return self._device
        return device

    def on_storage(self, func: Any, name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Call:
        """The call as the storage needs it, and whether it explicitly asks for float16 (None: it does not say)."""
        if name in _MOVES and args and isinstance(args[0], torch.Tensor):
            return torch.Tensor.view_as, (args[0], args[0]), {}, None
        if name in _CASTS and args and isinstance(args[0], torch.Tensor):
            return torch.Tensor.to, (args[0], torch.float32), {}, _CASTS[name] == torch.float16
        if name in ("int", "long") and args and isinstance(args[0], torch.Tensor):
            return torch.Tensor.to, (args[0], torch.int64), {"copy": name == "long"}, False
        if name in ("bucketize", "searchsorted"):
            kwargs = dict(kwargs, out_int32=False)  # int32 tensors of the program are stored as int64, too
        if name == "internal_cast":
            dtype = cast_type(args[1] if len(args) > 1 else kwargs["dtype"])
            return torch.Tensor.to, (args[0], storage_dtype(dtype)), {}, dtype == torch.float16
        if name == "group_norm" and self._strided_channel_groups:
            return strided_group_norm, args, kwargs, None
        if name == "norm_proxy_norm_act" and self._strided_channel_groups:
            return functools.partial(strided_norm_proxy_norm_act, func), args, kwargs, None
        dtypes: List[torch.dtype] = []

        def stored(value: Any) -> Any:
            if isinstance(value, torch.dtype):
                dtypes.append(value)
                return storage_dtype(value)
            return self._device

        args, kwargs = map_structure((args, kwargs), stored, (torch.dtype, torch.device))
        if kwargs.get("device") is not None:
            kwargs = dict(kwargs, device=self._on_compute_device(kwargs["device"]))
        if name in ("to", "type") and len(args) > 1 and isinstance(args[1], str):
            if args[1].endswith("HalfTensor"):
                args, dtypes = (args[0], torch.float32) + tuple(args[2:]), [torch.float16]
            else:
                args = (args[0], self._on_compute_device(args[1])) + tuple(args[2:])
        if dtypes[:1] == [torch.int64] and name in ("to", "type"):
            # of whatever the program takes it for, the device has int32: torch casts, into another tensor
            kwargs = dict(kwargs, copy=True)
            func = torch.Tensor.to
        if dtypes:
            return func, args, kwargs, dtypes[0] == torch.float16
        if name in ("to", "type_as") and len(args) > 1 and isinstance(args[1], torch.Tensor):
            return func, args, kwargs, self._slots.is_half(self._slots.of(args[1]))
        if self._device.type != "cpu" and kwargs.get("device") is None and name in FACTORIES:
            kwargs = dict(kwargs, device=self._device)
        return func, args, kwargs, None
