"""The threads that PyTorch computes with, for kernels that share them."""

import ctypes
import functools
from typing import Optional


@functools.lru_cache(maxsize=None)
def parallel_region() -> Optional[int]:
    """The address of the OpenMP runtime's entry in this process, which PyTorch brings with it, or None."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):  # another runtime, or Windows, which has no CDLL(None)
        return None
