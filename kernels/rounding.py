"""float32 rounded to float16's values in one pass over memory, in C++ called through ctypes.

For emulations of a device that stores float16: what PyTorch's operations do in a dozen passes, with the same bits.
"""

import ctypes
import functools
from typing import Any, Optional

import torch

from ipu_train.kernels import build
from ipu_train.kernels.parallel import parallel_region


def serves(x: torch.Tensor) -> bool:
    """Whether ``x`` is a plain, contiguous float32 tensor in this process's memory, and the library can be had."""
    return (
        type(x) in _PLAIN_TYPES
        and x.is_cpu
        and x.dtype is torch.float32
        and x.is_contiguous()
        and not torch._C._are_functorch_transforms_active()
        and not _is_tracing()
        and _library() is not None
    )


_PLAIN_TYPES = frozenset((torch.Tensor, torch.nn.Parameter))
_is_tracing = getattr(torch._C, "_is_tracing", torch.jit.is_tracing)


def round_to_half(x: torch.Tensor, out: torch.Tensor, noise: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Round ``x`` into ``out``, which may be ``x`` itself; gives ``out``. Autograd sees nothing but another version.

    Args:
        x, out: float32 of one shape that :func:`serves` says yes to.
        noise: int16 of as many elements, contiguous, the lowest 13 bits of each uniform: rounds up or down with the
            probability that makes the result unbiased, finite values saturate at +-65504. Without it to nearest, ties
            to even, beyond 65504 inf.
    """
    library: Any = _library()
    library.round_to_half(
        x.data_ptr(),
        out.data_ptr(),
        None if noise is None else noise.data_ptr(),
        x.numel(),
        torch.get_num_threads(),
        parallel_region(),
    )
    if out.numel():
        out.detach().view(-1)[:0].zero_()  # writes nothing; views share the version that autograd looks at
    return out


@functools.lru_cache(maxsize=None)
def _library() -> Optional[ctypes.CDLL]:
    """None where there is no C++ compiler: the same is done by PyTorch's operations then, only slower."""
    source = build.ROOM / "rounding_kernel" / "rounding.cpp"
    try:
        path = build.shared_library("rounding", [source], [build.ROOM / "cpu_kernel"], build.CPU_FLAGS)
        library = build.load(path)
    except build.BuildError:
        return None
    library.round_to_half.argtypes = [*[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int, ctypes.c_void_p]
    library.round_to_half.restype = None
    return library
