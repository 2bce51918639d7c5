"""What a dtype becomes on the device, and how the emulator stores it.

Three dtypes belong to every tensor: the *host* dtype that the user passes or receives, the *device* dtype that a
real IPU would hold (PopTorch 3.4 user guide, "Type casting": int64 becomes int32, float64 becomes float32), and the
*storage* dtype of the torch tensor that stands in for it here. Storage differs from the device dtype twice:

* float16 is stored as float32 whose values are rounded to float16 wherever the IPU would store float16. Torch 2.0.1
  has no float16 convolutions on CPUs at all, and where newer versions have them they are many times slower.
* int32 is stored as int64, which torch wants for class labels and indices, where an IPU has int32 alone.
"""

from typing import Tuple

import torch

from ..poptorch_core import createError

# device dtype for every host dtype that changes on the way
_ON_DEVICE = {torch.int64: torch.int32, torch.float64: torch.float32, torch.bfloat16: torch.float32}
# storage dtype for every dtype that a program may name inside forward
_STORAGE = {
    torch.float16: torch.float32,
    torch.float64: torch.float32,
    torch.bfloat16: torch.float32,
    torch.int32: torch.int64,
}

# what torch.ops.poptorch.internal_cast calls them
CAST_TYPES = {
    "FLOAT": torch.float32,
    "FLOAT16": torch.float16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "INT16": torch.int16,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}

# how torch's core calls the dtypes whose Python names differ from theirs in more than the first letter
_CORE_NAMES = {
    "float32": "Float", "float64": "Double", "float16": "Half", "int64": "Long", "int32": "Int", "int16": "Short",
    "int8": "Char", "uint8": "Byte", "bfloat16": "BFloat16",
}  # fmt: skip


def core_name(dtype: torch.dtype) -> str:
    """A dtype as PopTorch's log and errors name it, e.g. ``Long`` for int64."""
    name = str(dtype).split(".")[-1]
    return _CORE_NAMES.get(name, name.capitalize())


def device_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that the IPU holds for a host ``dtype``."""
    return _ON_DEVICE.get(dtype, dtype)


def storage_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the torch tensor that stands for ``dtype`` in the emulator."""
    return _STORAGE.get(dtype, dtype)


def upload(tensor: torch.Tensor, device: torch.device) -> Tuple[torch.Tensor, bool]:
    """A fresh storage tensor with the values of a host tensor, and whether the device holds it as float16."""
    with torch.no_grad():
        if tensor.dtype == torch.int64:  # numbers that int32 cannot hold become others on the way
            tensor = tensor.to(torch.int32)
        stored = tensor.detach().to(device=device, dtype=storage_dtype(tensor.dtype), copy=True)
    return stored.contiguous(), tensor.dtype == torch.float16


def download(stored: torch.Tensor, half: bool) -> torch.Tensor:
    """The host tensor for a storage tensor: detached, on the CPU, contiguous, with the dtype the IPU returns."""
    dtype = torch.float16 if half else device_dtype(stored.dtype)
    host = stored.detach().to(device="cpu", dtype=dtype).contiguous()
    return host.clone() if host.data_ptr() == stored.data_ptr() else host


def cast_type(name: str) -> torch.dtype:
    """The dtype that PopART calls ``name``.

    Raises:
        poptorch.Error: no such type.
    """
    if name not in CAST_TYPES:
        raise createError(f"internal_cast: unknown type {name!r}, use one of {', '.join(CAST_TYPES)}")
    return CAST_TYPES[name]
