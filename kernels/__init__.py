"""Proxy Norm's kernels: one operation for the CPU, and a PopART operator with its build and its loader.

``ipu_train.kernels.cpu``: group norm, affine, activation and Proxy Norm in C++ for the CPU.
``ipu_train.kernels.op``: the same as a PopART operator, called through ``poptorch.custom_op``.
``ipu_train.kernels.host``: that operator's sources run on the host, for machines without the Poplar SDK.
"""

from typing import Any, Callable, Dict, Optional, Tuple


def custom_ops(options: Optional[Any] = None) -> Dict[Tuple[str, str], Callable[..., Any]]:
    """For an emulated ``poptorch.custom_op``: see :func:`ipu_train.kernels.host.custom_ops`."""
    from ipu_train.kernels import host

    return host.custom_ops(options)
